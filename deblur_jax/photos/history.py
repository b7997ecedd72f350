"""How the results in a folder were made, so that a later run skips only identical work.

Each folder of results holds one file with a line of JSON for every result written. Lines are only
ever appended, so several runs can share a folder; the last line about a file counts.
"""

from collections.abc import Mapping
import hashlib
import json
import os
import pathlib
from typing import Any, NamedTuple

from deblur_jax import methods, weights

FILE = '.deblur_jax.jsonl'


DEFAULTS = {
  'psf': None,
  'strength': 1.0,
  'self_ensemble': False,
  'samples': 1,
  'seed': 0,
  'tile': None,
  'mask': None,
  'strip': False,
  'no_provenance': False,
  'sign': None,
  'force': False,
  'crop': None,
  'quality': None,
  'set': [],
  'prompt': None,
  'scribble': None,
  'example': None,
}
"""The options of `deblur-jax restore` besides --weights that change a result."""

JOINED = {'crop': ',', 'sign': ' '}
"""Options of several values, and how they are written."""


FILES = ('psf', 'mask', 'scribble', 'example')
"""Options that may name a file, which is identified by its digest."""


class Made(NamedTuple):
  """How a result was made."""

  options: Mapping[str, Any]
  """The options of `deblur-jax restore` that it depends on, by name."""
  source_bytes: int
  """Size of the input."""
  is_unchanged: bool
  """Whether the result is still the file that was written."""


class History:
  """The records of results, read once per folder."""

  def __init__(self):
    self._folders: dict[pathlib.Path, dict[str, dict]] = {}

  def find(self, target: pathlib.Path) -> Made | None:
    """How the file `target` was made; None if there is no record of it."""
    folder = target.parent
    if folder not in self._folders:
      self._folders[folder] = _read(folder / FILE)
    line = self._folders[folder].get(target.name)
    if line is None:
      return None
    return Made(line['options'], line['source_bytes'], _state(target) == line['state'])


def made(weights_name: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
  """What a result depends on: the weights, if any, and `options` that differ from their defaults.

  Weights and files are identified by their digests, too. Raises as `methods.find`.
  """
  found: dict[str, Any] = {} if weights_name is None else {'weights': os.fspath(weights_name)}
  if weights_name is not None and not methods.is_solver(weights_name):
    found['weights_sha256'] = weights.digest(methods.find(weights_name))
  for name, default in DEFAULTS.items():
    value = options.get(name, default)
    if value != default:
      found[name] = JOINED[name].join(map(str, value)) if name in JOINED else value
  for name in FILES:
    path = pathlib.Path(found.get(name, ''))
    if path.is_file():
      found[name] = os.fspath(found[name])
      found[f'{name}_sha256'] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found


def record(target: pathlib.Path, source: pathlib.Path, options: Mapping[str, Any]) -> None:
  """Records that `target` was just made from `source` with `options` (JSON values)."""
  line = {
    'file': target.name,
    'state': _state(target),
    'source_bytes': source.stat().st_size,
    'options': dict(options),
  }
  with open(target.parent / FILE, 'a', encoding='ascii') as file:
    file.write(json.dumps(line) + '\n')


def describe(options: Mapping[str, Any]) -> str:
  """Options as written on the command line, without digests."""
  return ' '.join(flags(options))


def flags(options: Mapping[str, Any]) -> list[str]:
  """The arguments of the command line for options, without digests."""
  shown = []
  for name, value in options.items():
    if name.endswith('sha256'):
      continue
    flag = f'--{name.replace("_", "-")}'
    for one in value if isinstance(value, list) else [value]:
      shown += [flag] if one is True else [flag, str(one)]
  return shown


def _state(path: pathlib.Path) -> list[int]:
  """Size in bytes and time of the last change."""
  stat = path.stat()
  return [stat.st_size, stat.st_mtime_ns]


def _read(path: pathlib.Path) -> dict[str, dict]:
  """File name -> its last line; unreadable lines are ignored."""
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
