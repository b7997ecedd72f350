"""What a run's folder says about the run: config.json as it began, provenance.json as it went.

config.json is written once and never changes. Every start of the run adds a session to
provenance.json: the command, the settings that were changed since the session before, the versions
and commits of the code, devices, data with digests, hours. The weights carry a summary of it.
"""

from collections.abc import Mapping
import dataclasses
import datetime
import importlib.metadata
import json
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

import jax

from deblur_jax import atomic, models

CONFIG, PROVENANCE = 'config.json', 'provenance.json'

FREE = {
  # How long a run is. A schedule that falls to the end follows the new length from here on, which
  # the session says; to train on for longer is what people resume finished runs for.
  'steps',
  # What is written, printed and scored, and how often; the parameters never depend on it.
  'log_every',
  'save_every',
  'evaluate_every',
  # How a batch is laid over devices and memory: the same sums in another order.
  'fsdp',
  'accumulate',
}
"""Settings that may change within a run: its parameters at a step mean the same."""

PACKAGES = (
  'deblur-jax',
  'jax',
  'jaxlib',
  'jax-cuda12-plugin',
  'libtpu',
  'flax',
  'optax',
  'orbax-checkpoint',
  'grain',
  'tensorflow-datasets',
  'numpy',
  'pillow',
  'scikit-image',
)
"""What numbers can depend on; those that are installed are recorded with their versions."""

Changes = dict[str, list[Any]]
"""Name of a setting -> its old and its new value; None for one that was not there."""


def claim(workdir: pathlib.Path, config: Any, *, allow_changes: bool = False) -> Changes:
  """Begins the run of `config` in `workdir`, or checks that the run there is the same.

  Returns the settings that differ from the last session's: those of `FREE`, and with
  `allow_changes` any. The first process writes the files. Raises ValueError, listing the settings
  that differ, if they must not.
  """
  asked = json.loads(config.to_json())
  sessions = read(workdir)['sessions']
  changes: Changes = {}
  if (workdir / CONFIG).exists():
    changes = differences(_last(workdir, sessions), asked)
    refused = {name: pair for name, pair in changes.items() if not _is_free(name)}
    if refused and not allow_changes:
      raise ValueError(
        f'{workdir} holds a run with other settings: {describe(refused)}; give another --workdir, '
        'or --allow_changes to continue this run with them'
      )
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    if not (workdir / CONFIG).exists():
      atomic.write_text(workdir / CONFIG, json.dumps(asked, indent=2) + '\n')
    session = {
      'began': _now().isoformat(timespec='seconds'),
      'command': shlex.join(sys.orig_argv),
      'changes': changes,
      **environment(),
      'processes': jax.process_count(),
    }
    _write(workdir, {'sessions': [*sessions, session]})
  return changes


def record(workdir: pathlib.Path, **facts: Any) -> None:
  """Adds facts, such as `step` or `devices`, and the hours so far to the session of this process.

  Facts are what JSON can hold. Only the first process writes.
  """
  if jax.process_index():
    return
  found = read(workdir)
  session = found['sessions'][-1]
  hours = (_now() - datetime.datetime.fromisoformat(session['began'])).total_seconds() / 3600
  session |= facts | {'hours': round(hours, 4)}
  _write(workdir, found)


def summary(workdir: pathlib.Path) -> dict[str, Any]:
  """Where the weights of a run come from, for their manifest.

  What the sessions record, the latest of each, with the whole config as it is now, the settings
  that were changed on the way there, and the hours of all sessions.
  """
  sessions = read(workdir)['sessions']
  settings = _last(workdir, sessions)
  changes = [one['changes'] for one in sessions if one['changes']]
  facts = {name: value for session in sessions for name, value in session.items()}
  return {
    **{name: value for name, value in facts.items() if name not in ('changes', 'step')},
    'began': sessions[0]['began'],
    'hours': round(sum(one.get('hours', 0) for one in sessions), 4),
    'sessions': len(sessions),
    **({'changes': changes} if changes else {}),
    'seed': settings['seed'],
    'config': settings,
  }


def environment() -> dict[str, Any]:
  """Versions of Python and of `PACKAGES`, and the commits of this code and of the current folder.

  A commit is left out if there is no git or no repository; 'modified' marks one whose tracked files
  have changed since.
  """
  versions = {}
  for name in PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  own = pathlib.Path(__file__)
  # In a virtual environment inside someone's repository, this file is not part of it.
  tracked = _git(own.parent, 'ls-files', '--error-unmatch', own.name) is not None
  folders = {'code': own.parent if tracked else None, 'current_folder': pathlib.Path.cwd()}
  commits = {name: _commit(folder) for name, folder in folders.items() if folder}
  return {
    'python': platform.python_version(),
    'packages': versions,
    'commits': {name: commit for name, commit in commits.items() if commit},
  }


def _commit(folder: pathlib.Path) -> str:
  commit = _git(folder, 'rev-parse', 'HEAD')
  modified = commit and _git(folder, 'status', '--porcelain', '--untracked-files=no')
  return f'{commit}, modified' if modified else commit or ''


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
  """What git prints; None if it fails or is not installed."""
  try:
    done = subprocess.run(['git', '-C', folder, *arguments], capture_output=True, text=True)
  except OSError:
    return None
  return done.stdout.strip() if done.returncode == 0 else None


def _now() -> datetime.datetime:
  return datetime.datetime.now(datetime.UTC)


def folder_name(config: str) -> str:
  """'nafnet-gopro' for 'configs/nafnet.py:gopro': what the run's folder is called by default."""
  path, _, recipe = config.partition(':')
  return f'{pathlib.Path(path).stem}-{recipe or "builtin"}'


def method_name(workdir: pathlib.Path) -> str:
  """What the weights of the run in `workdir` are called in every table: the folder's name."""
  return workdir.resolve().name


def read(workdir: pathlib.Path) -> dict[str, Any]:
  """What provenance.json holds; no sessions if there is none."""
  path = workdir / PROVENANCE
  return json.loads(path.read_text()) if path.exists() else {'sessions': []}


def differences(known: Mapping[str, Any], asked: Mapping[str, Any]) -> Changes:
  """The settings that differ between two configs as JSON has them.

  A setting that only one of them has counts as off in the other: the program may be newer than the
  run. Arguments of the network count as their defaults.
  """
  old, new = _flat(_complete(known)), _flat(_complete(asked))
  pairs = {name: [old.get(name), new.get(name)] for name in [*new, *(old.keys() - new.keys())]}
  return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and any(pair)}


def describe(changes: Changes) -> str:
  """Such as 'seed 0 -> 1, blur disk(2) -> disk(3)'."""
  shown = {None: 'not set', '': "''"}

  def text(value: Any) -> str:
    return str(value) if isinstance(value, list | dict) else str(shown.get(value, value))

  return ', '.join(f'{name} {text(old)} -> {text(new)}' for name, (old, new) in changes.items())


def _is_free(name: str) -> bool:
  return name.removeprefix('before.') in FREE


def _last(workdir: pathlib.Path, sessions: list[dict[str, Any]]) -> dict[str, Any]:
  """The settings of the last session: those that the run began with, and all changes since."""
  settings = json.loads((workdir / CONFIG).read_text())
  for session in sessions:
    for name, (_, value) in session['changes'].items():
      *parents, leaf = name.split('.')
      at = settings
      for parent in parents:
        at = at.setdefault(parent, {})
      at[leaf] = value
  return settings


def _complete(settings: Mapping[str, Any]) -> dict[str, Any]:
  """`settings` with every argument of the network, and without what a run sets by itself."""
  settings = dict(settings)
  if settings.get('before'):
    settings['before'] = _complete(settings['before'])
    settings.pop('bgan', None)  # a file in the run's own folder, wherever that lies
  model = settings['model']
  defaults = {
    field.name: field.default
    for field in dataclasses.fields(models.make(model['name']))
    if field.name not in ('parent', 'name', 'dtype') and field.default is not dataclasses.MISSING
  }
  settings['model'] = json.loads(json.dumps(defaults)) | model
  return settings


def _flat(settings: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  flat = {}
  for name, value in settings.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f'{prefix}{name}.')
    else:
      flat[prefix + name] = value
  return flat


def _write(workdir: pathlib.Path, found: Mapping[str, Any]) -> None:
  atomic.write_text(workdir / PROVENANCE, json.dumps(found, indent=2) + '\n')
