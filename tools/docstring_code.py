"""A Griffe extension for the site: code in docstrings, indented by two spaces, is shown as code.

Markdown asks for four. A block is code if it follows an empty line and is indented more than the
text of its docstring.
"""

import re
from typing import Any

import griffe


def as_markdown(text: str) -> str:
  """`text` with code blocks indented by four spaces."""
  return re.sub(
    r'(?<=\n\n)(?:  \S.*\n?)(?:(?:  .*)?(?:\n|$))*',
    lambda block: re.sub(r'^(?=\s*\S)', '  ', block[0], flags=re.M),
    text,
  )


class IndentCode(griffe.Extension):
  """Changes every docstring when it is loaded."""

  def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
    """As Griffe calls it for every module, class, function and attribute."""
    if obj.docstring:
      obj.docstring.value = as_markdown(obj.docstring.value)
