"""Train or evaluate: `python -m deblur_jax.main --config=configs/mprnet.py`.

The text after the colon selects a recipe (`configs/mprnet.py:gopro`), and any value can be changed
(`--config.optim.learning_rate=1e-4`). A plain name, `--config=mprnet:gopro`, means a config that
comes with the package and works from any folder. The same command resumes a run that was stopped;
other settings require another `--workdir`, or `--allow_changes`.

To train on several machines, run the same command on each, with a shared folder: `--distributed`
under Slurm, on TPU pods and on Kubernetes, otherwise
`--coordinator=HOST:PORT --processes=N --process=I`.
"""

import faulthandler
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
from typing import Any, NoReturn

from absl import app, flags, logging
import jax
from ml_collections import config_flags
from rich.console import Console

from deblur_jax import methods, runs, sharding, train, weights, zoo
from deblur_jax.evaluation import blurred_set, figures, restoration

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'The config: NAME or NAME:RECIPE, where NAME is a config of the package or a .py file.',
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; default: runs/NAME-RECIPE.')
_EVALUATE = flags.DEFINE_string(
  'evaluate', None, 'Evaluate these weights (a run folder or .safetensors) instead of training.'
)
_UNCERTAINTY = flags.DEFINE_bool(
  'uncertainty',
  False,
  'With --evaluate: also measure how well the uncertainty of calibrated weights holds.',
)
_ALLOW_CHANGES = flags.DEFINE_bool(
  'allow_changes',
  False,
  'Continue the run in this folder with other settings; the changes go to provenance.json.',
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Train with the other processes that Slurm, a TPU pod or Kubernetes started.',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of process 0, to train with several processes without these.'
)
_PROCESSES = flags.DEFINE_integer('processes', None, 'Number of processes.', lower_bound=1)
_PROCESS = flags.DEFINE_integer('process', None, 'Index of this process, from 0.', lower_bound=0)
_MOST_LINES = 4
"""Of an error, in its one line."""
_LOST = (
  'error: another process of this run has ended or never started: run the same command in every '
  'process to resume from the last checkpoint'
)


def main(argv: list[str]) -> None:
  """Runs the command given by the flags; on an error, prints one line and exits with code 1."""
  if len(argv) > 1:
    unknown = ' '.join(argv[1:])
    raise app.UsageError(f'unknown argument {unknown}: change settings with --config.name=value')
  if not flags.FLAGS['verbosity'].present:
    # On a full disk, for example, Orbax logs hundreds of lines before the one line below.
    logging.set_verbosity(logging.FATAL)
  sharding.keep_compiled()
  try:
    _join()
    if _EVALUATE.value:
      evaluate(_CONFIG.value, _workdir(), _EVALUATE.value, uncertainty=_UNCERTAINTY.value)
    else:
      train.train(_CONFIG.value, _workdir(), allow_changes=_ALLOW_CHANGES.value)
  except train.Stopped as stop:
    print(stop)
    sys.exit(143)
  except (ValueError, OSError, train.Diverged) as error:
    if logging.get_verbosity() >= logging.DEBUG:
      raise
    if isinstance(error, TimeoutError) and jax.distributed.is_initialized():
      _leave(f'{_LOST} ({_line(error)[:200]})')  # as while a checkpoint was written
    _leave(f'error: {_line(error)} (--verbosity=1 shows the traceback)')
  except jax.errors.JaxRuntimeError as error:
    if not jax.distributed.is_initialized():
      raise
    _leave(f'{_LOST} ({_line(error)[:200]})')


def evaluate(config: Any, workdir: pathlib.Path, name: str, *, uncertainty: bool = False) -> None:
  """Scores the method `name` (see `zoo.load`) on every set of `config.evaluate`.

  Writes results.json, results.csv and gallery.png into `workdir`/evaluated/NAME, so that a run in
  `workdir` keeps the scores of its own weights; with `uncertainty`, also what `assessment.run`
  writes. Raises ValueError if there are no sets.
  """
  method = zoo.load(name)
  sets = blurred_set.open_sets(config.evaluate)
  if not sets:
    raise ValueError('this config has no evaluation sets: set config.evaluate')
  has_manifest = not methods.is_solver(name) and methods.find(name).suffix not in methods.EXPORTED
  manifest = weights.read(methods.find(name))[1] if has_manifest else {}
  called = _name_in(workdir, manifest) or method.name
  reports = restoration.evaluate(method.restore, sets, called, method.needs)
  folder = workdir / 'evaluated' / called
  folder.mkdir(parents=True, exist_ok=True)
  restoration.write(folder, reports, weights=manifest.get('chosen', ''))
  figures.save(folder / 'gallery.png', figures.gallery(reports))
  restoration.show(Console().print, folder)
  print(f'wrote scores and pictures to {folder}')
  if uncertainty:
    from deblur_jax.photos import assessment  # not needed for training

    assessment.run({called: name}, config.evaluate, folder, Console().print)


def _name_in(workdir: pathlib.Path, manifest: dict[str, Any]) -> str:
  """The name of these weights in the run in `workdir`, if they are its own; else ''."""
  own = workdir / methods.RUN_WEIGHTS
  same = own.is_file() and manifest and weights.read(own)[1]['sha256'] == manifest['sha256']
  return runs.method_name(workdir) if same else ''


def _join() -> None:
  """Connects JAX to the other processes of the run, if there are any."""
  explicit = _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
  if not _DISTRIBUTED.value and explicit == (None, None, None):
    return
  if _EVALUATE.value:
    raise ValueError(
      '--evaluate runs in a single process: remove --distributed, --coordinator, --processes and '
      '--process'
    )
  _report_lost_processes()
  sharding.start(*explicit)
  if jax.process_index():
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115


def _report_lost_processes() -> None:
  """Prints a readable error if this process ends because another one was lost.

  JAX aborts the process in native code, where Python can no longer run: faulthandler sends its
  stack dump to a child process, which prints the error instead.
  """
  script = (
    'if read -r line; then case $line in *Aborted*) echo "$0";; *) echo "$line"; cat; esac; fi'
  )
  listener = subprocess.Popen(
    ['sh', '-c', f'{script} >&2', _LOST],
    stdin=subprocess.PIPE,
    start_new_session=True,
  )
  assert listener.stdin is not None
  faulthandler.enable(listener.stdin)


def _leave(message: str) -> NoReturn:
  """Ends this process; immediately if there are others, as a normal exit would wait for them."""
  if not jax.distributed.is_initialized():
    sys.exit(message)
  print(message, file=sys.stderr, flush=True)
  os._exit(1)


def parse_flags(argv: list[str]) -> list[str]:
  """The arguments left over; for an unknown flag or setting, prints one line, exits with code 1."""
  try:
    text = '\0'.join(argv).replace('--config\0', '--config=')
    return flags.FLAGS([_with_file(argument) for argument in text.split('\0')])
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
    sys.exit(f'error: {_line(error)}')


def _with_file(argument: str) -> str:
  """`argument`, with the name of a config of the package replaced by its file."""
  match = re.fullmatch(r'(--?config=)(\w+)(:.*)?', argument)
  if not match:
    return argument
  flag, name, recipe = match.groups(default='')
  spec = importlib.util.find_spec('deblur_jax.configs')
  assert spec and spec.submodule_search_locations
  (folder,) = spec.submodule_search_locations
  files = {path.stem: path for path in sorted(pathlib.Path(folder).glob('*.py'))}
  hidden = ('__init__', 'common')
  known = {name: path for name, path in files.items() if name not in hidden}
  if name not in known:
    raise ValueError(f'no config {name!r}: give a .py file or one of {", ".join(known)}')
  return f'{flag}{known[name]}{recipe}'


def _line(error: Exception) -> str:
  text = str(error)
  if 'Traceback' in text:  # ml_collections wraps an error of a config file, with its traceback
    text = text.splitlines()[-1].partition('Error: ')[2]
  if isinstance(error, KeyError | AttributeError):
    text = 'no setting ' + text.strip('\'"').replace("\\'", "'").replace('\\n', ': ')
  # One for each parameter that does not fit, of which there are hundreds.
  lines = [' '.join(line.split()) for line in text.splitlines() if line.strip()]
  more = f'; and {len(lines) - _MOST_LINES} more' if len(lines) > _MOST_LINES else ''
  return '; '.join(lines[:_MOST_LINES]) + more


def _workdir() -> pathlib.Path:
  if _WORKDIR.value:
    return pathlib.Path(_WORKDIR.value)
  config = config_flags.get_config_filename(flags.FLAGS['config'])
  return pathlib.Path('runs') / runs.folder_name(config)


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main, flags_parser=parse_flags)
