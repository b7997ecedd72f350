"""Files that are either complete or absent."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import uuid


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """A temporary path in the same folder that becomes `path` once everything is written to it.

  If anything fails, `path` stays as it was and nothing is left behind.
  """
  path = pathlib.Path(path)
  partial = path.parent / f'.{uuid.uuid4().hex}.part'
  try:
    yield partial
    with open(partial, 'rb+') as file:
      os.fsync(file.fileno())
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a text file, UTF-8."""
  with replacing(path) as partial:
    partial.write_text(text, encoding='utf-8')
