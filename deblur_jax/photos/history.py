"""How the results in a folder were made, so that a later run skips only what it would make again.

Each folder of results holds one file, a line of JSON for every result written. Lines are only ever
appended, so several runs may share a folder; the last one about a file counts.
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any, NamedTuple

FILE = '.deblur_jax.jsonl'


class Made(NamedTuple):
  """How a result was made."""

  options: Mapping[str, Any]
  """What it depends on, by the names of the options of `deblur-jax restore`."""
  source_bytes: int
  """Size of the input."""
  is_unchanged: bool
  """Whether the result still is what was written."""


class History:
  """What is known about results, read once per folder."""

  def __init__(self):
    self._folders: dict[pathlib.Path, dict[str, dict]] = {}

  def find(self, target: pathlib.Path) -> Made | None:
    """How the file `target` was made; None if nothing is known about it."""
    folder = target.parent
    if folder not in self._folders:
      self._folders[folder] = _read(folder / FILE)
    line = self._folders[folder].get(target.name)
    if line is None:
      return None
    return Made(line['options'], line['source_bytes'], _state(target) == line['state'])


def record(target: pathlib.Path, source: pathlib.Path, options: Mapping[str, Any]) -> None:
  """Notes that `target` was just made from `source` with `options` (values for JSON)."""
  line = {
    'file': target.name,
    'state': _state(target),
    'source_bytes': source.stat().st_size,
    'options': dict(options),
  }
  with open(target.parent / FILE, 'a', encoding='ascii') as file:
    file.write(json.dumps(line) + '\n')


def describe(options: Mapping[str, Any]) -> str:
  """Options as on the command line; digests are left out."""
  shown = []
  for name, value in options.items():
    if name.endswith('sha256'):
      continue
    flag = f'--{name.replace("_", "-")}'
    repeated = value if isinstance(value, list) else [value]
    shown += [flag if one is True else f'{flag} {one}' for one in repeated]
  return ' '.join(shown)


def _state(path: pathlib.Path) -> list[int]:
  """Size and time of the last change."""
  stat = path.stat()
  return [stat.st_size, stat.st_mtime_ns]


def _read(path: pathlib.Path) -> dict[str, dict]:
  """File name -> its last line; lines that cannot be read are passed over."""
  try:
    text = path.read_text(encoding='ascii', errors='replace')
  except FileNotFoundError:
    return {}
  found = {}
  for line in text.splitlines():
    try:
      entry = json.loads(line)
      if all(key in entry for key in ('state', 'source_bytes', 'options')):
        found[entry['file']] = entry
    except (ValueError, TypeError, KeyError):
      continue
  return found
