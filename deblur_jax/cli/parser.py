"""An argument parser whose errors show the command's usage and suggest corrections."""

import argparse
from collections.abc import Iterable, Sequence
import difflib
import os
import re
from typing import NoReturn


class Parser(argparse.ArgumentParser):
  """An `ArgumentParser` that suggests the nearest option, command or choice."""

  def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments in `argv`; if one is invalid, prints the command's usage, exits with code 2."""
    arguments, unknown = self.parse_known_args(argv)
    if unknown:
      parser = self._command(getattr(arguments, 'command', None)) or self
      options = [name for action in parser._actions for name in action.option_strings]
      hints = [_meant(word.partition('=')[0], options) for word in unknown if word[:1] == '-']
      parser.error(f'unrecognized arguments: {" ".join(unknown)}{"".join(hints)}')
    return arguments

  def error(self, message: str) -> NoReturn:
    """Prints the usage and the message, and exits with code 2."""
    choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
    if choice:
      given, choices = choice[1], re.findall(r"[^', ]+", choice[2])
      is_picture = 'COMMAND' in message and os.path.lexists(given)
      message += f'; did you mean {self.prog} restore {given}?' if is_picture else ''
      message += '' if is_picture else _meant(given, choices)
    super().error(message)

  def _command(self, name: str | None) -> 'Parser | None':
    for action in self._actions:
      if isinstance(action, argparse._SubParsersAction):
        return action.choices.get(name)
    return None


def _meant(given: str, known: Iterable[str]) -> str:
  near = difflib.get_close_matches(given, list(known), 1)
  return f'; did you mean {near[0]}?' if near else ''
