"""The records in a run's folder: config.json of how it began, provenance.json of every session.

config.json is written once and never changes. Every start of the run adds a session to
provenance.json: the command, the settings that changed since the previous session, the versions
and commits of the code, devices, data with digests, hours. The weights' manifest has a summary.
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
  # The length of a run. Schedules follow the new length from here on, which the session reports;
  # training for longer is the usual reason to resume a finished run.
  'steps',
  # What is written, printed and scored, and how often; parameters do not depend on it.
  'log_every',
  'save_every',
  'evaluate_every',
  # How a batch is distributed over devices and memory: the same sums in another order.
  'fsdp',
  'accumulate',
}
"""Settings that may change within a run without changing what its parameters mean at a step."""

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
"""Packages that results can depend on; the versions of installed ones are recorded."""

Changes = dict[str, list[Any]]
"""Name of a setting -> its old and its new value; None if it did not exist."""


def claim(workdir: pathlib.Path, config: Any, *, allow_changes: bool = False) -> Changes:
  """Begins the run of `config` in `workdir`, or checks that the run there has the same settings.

  Returns the settings that differ from the last session's: only those in `FREE`, unless
  `allow_changes` is set. The first process writes the files. Raises ValueError, listing the
  settings that differ, if they are not allowed to.
  """
  asked = json.loads(config.to_json())
  sessions = read(workdir)['sessions']
  changes: Changes = {}
  if begun := settings(workdir):
    changes = differences(begun, asked)
    refused = {name: pair for name, pair in changes.items() if not _is_free(name)}
    if refused and not allow_changes:
      raise ValueError(
        f'{workdir} has a run with other settings: {describe(refused)}; use another --workdir, '
        'or --allow_changes to continue this run with the new settings'
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
  """Adds facts, such as `step` or `devices`, and the hours so far to this process's session.

  Facts are JSON values. Only the first process writes.
  """
  if jax.process_index():
    return
  found = read(workdir)
  session = found['sessions'][-1]
  hours = (_now() - datetime.datetime.fromisoformat(session['began'])).total_seconds() / 3600
  session |= facts | {'hours': round(hours, 4)}
  _write(workdir, found)


def summary(workdir: pathlib.Path) -> dict[str, Any]:
  """The provenance of a run's weights, for their manifest.

  The latest value of everything the sessions record, with the current config, all settings that
  were changed during the run, and the hours of all sessions.
  """
  sessions = read(workdir)['sessions']
  config = settings(workdir)
  changes = [one['changes'] for one in sessions if one['changes']]
  facts = {name: value for session in sessions for name, value in session.items()}
  return {
    **{name: value for name, value in facts.items() if name not in ('changes', 'step')},
    'began': sessions[0]['began'],
    'hours': round(sum(one.get('hours', 0) for one in sessions), 4),
    'sessions': len(sessions),
    **({'changes': changes} if changes else {}),
    'seed': config['seed'],
    'config': config,
  }


def environment() -> dict[str, Any]:
  """Versions of Python and of `PACKAGES`, and the commits of this code and of the current folder.

  A commit is omitted without git or outside a repository; 'modified' means that tracked files have
  changed since.
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
  """The output of git; None if it fails or is not installed."""
  try:
    done = subprocess.run(['git', '-C', folder, *arguments], capture_output=True, text=True)
  except OSError:
    return None
  return done.stdout.strip() if done.returncode == 0 else None


def _now() -> datetime.datetime:
  return datetime.datetime.now(datetime.UTC)


def folder_name(config: str) -> str:
  """The default name of a run's folder: 'nafnet-gopro' for 'configs/nafnet.py:gopro'."""
  path, _, recipe = config.partition(':')
  return f'{pathlib.Path(path).stem}-{recipe or "builtin"}'


def method_name(workdir: pathlib.Path) -> str:
  """The name in tables of the weights of the run in `workdir`: that of the folder."""
  return workdir.resolve().name


def read(workdir: pathlib.Path) -> dict[str, Any]:
  """The contents of provenance.json; no sessions if it does not exist."""
  path = workdir / PROVENANCE
  return json.loads(path.read_text()) if path.exists() else {'sessions': []}


def settings(workdir: pathlib.Path) -> dict[str, Any]:
  """The settings of the last session: the run's first ones with all changes since; {} if none."""
  if not (workdir / CONFIG).exists():
    return {}
  found = json.loads((workdir / CONFIG).read_text())
  for session in read(workdir)['sessions']:
    for name, (_, value) in session['changes'].items():
      *parents, leaf = name.split('.')
      at = found
      for parent in parents:
        at = at.setdefault(parent, {})
      at[leaf] = value
  return found


def differences(known: Mapping[str, Any], asked: Mapping[str, Any]) -> Changes:
  """The settings that differ between two configs, as read from JSON.

  A setting that only one of them has counts as off in the other, since the program may be newer
  than the run. Arguments of the network that are not set have their defaults.
  """
  old, new = _flat(_complete(known)), _flat(_complete(asked))
  pairs = {name: [old.get(name), new.get(name)] for name in [*new, *(old.keys() - new.keys())]}
  return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and any(pair)}


def describe(changes: Changes) -> str:
  """The changes as text, such as 'seed 0 -> 1, blur disk(2) -> disk(3)'."""
  shown = {None: 'not set', '': "''"}

  def text(value: Any) -> str:
    return str(value) if isinstance(value, list | dict) else str(shown.get(value, value))

  return ', '.join(f'{name} {text(old)} -> {text(new)}' for name, (old, new) in changes.items())


def _is_free(name: str) -> bool:
  return name.removeprefix('before.') in FREE


def _complete(settings: Mapping[str, Any]) -> dict[str, Any]:
  """`settings` with every argument of the network, and without those that a run sets itself."""
  settings = dict(settings)
  if settings.get('before'):
    settings['before'] = _complete(settings['before'])
    settings.pop('bgan', None)  # a file in the run's own folder, which may have moved
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
