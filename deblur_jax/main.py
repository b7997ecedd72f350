"""Train or evaluate: `python -m deblur_jax.main --config=configs/mprnet.py`.

The text after the colon picks a recipe (`configs/mprnet.py:gopro`), and any value can be changed
(`--config.optim.learning_rate=1e-4`). The same command again resumes a run that was stopped; a
command with other settings needs another `--workdir`, or `--allow_changes`.

A run on several machines is the same command on each, with one folder that all of them see:
`--distributed` under Slurm, on TPU pods and on Kubernetes, elsewhere
`--coordinator=HOST:PORT --processes=N --process=I`.
"""

import faulthandler
import os
import pathlib
import subprocess
import sys
from typing import NoReturn

from absl import app, flags, logging
import jax
from ml_collections import config_flags

from deblur_jax import evaluate, runs, sharding, train

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'What to do: configs/NAME.py or configs/NAME.py:RECIPE.', lock_config=True
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; default: runs/NAME-RECIPE.')
_EVALUATE = flags.DEFINE_string(
  'evaluate', None, 'Evaluate these weights (a run folder or .safetensors) instead of training.'
)
_ALLOW_CHANGES = flags.DEFINE_bool(
  'allow_changes',
  False,
  'Continue the run in this folder with other settings; both are recorded in provenance.json.',
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Train with the other processes that Slurm, a TPU pod or Kubernetes started.',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT where process 0 listens, to train with other processes elsewhere.'
)
_PROCESSES = flags.DEFINE_integer('processes', None, 'How many they are.', lower_bound=1)
_PROCESS = flags.DEFINE_integer('process', None, 'Which this is, from 0.', lower_bound=0)
_LOST = (
  'error: another process of this run is gone, or never came: the same command in every process '
  'goes on from the last checkpoint'
)


def main(argv: list[str]) -> None:
  """Runs what the flags say; one line and exit code 1 where it cannot."""
  if len(argv) > 1:
    raise app.UsageError(f'what is {" ".join(argv[1:])}? Values are changed by --config.name=value')
  if not flags.FLAGS['verbosity'].present:
    # On a full disk, say, Orbax logs in hundreds of lines what ends below in one.
    logging.set_verbosity(logging.FATAL)
  sharding.keep_compiled()
  try:
    _join()
    if _EVALUATE.value:
      evaluate.evaluate(_CONFIG.value, _workdir(), _EVALUATE.value)
    else:
      train.train(_CONFIG.value, _workdir(), allow_changes=_ALLOW_CHANGES.value)
  except train.Stopped as stop:
    print(stop)
    sys.exit(143)
  except (ValueError, OSError, train.Diverged) as error:
    if logging.get_verbosity() >= logging.DEBUG:
      raise
    _leave(f'error: {_line(error)} (--verbosity=1 shows where)')
  except jax.errors.JaxRuntimeError as error:
    if not jax.distributed.is_initialized():
      raise
    _leave(f'{_LOST} ({_line(error)[:200]})')


def _join() -> None:
  """Starts JAX with the other processes of the run, where there are any."""
  explicit = _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
  if not _DISTRIBUTED.value and explicit == (None, None, None):
    return
  if _EVALUATE.value:
    raise ValueError('--evaluate runs in one process: leave out what starts several')
  _tell_loss()
  sharding.start(*explicit)
  if jax.process_index():
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115


def _tell_loss() -> None:
  """Sees to it that people learn why this process ends when another one is lost.

  JAX aborts it from within, where no Python runs any more: the stack that Python dumps then goes to
  another process, which says it in their words.
  """
  tell = 'if read -r line; then case $line in *Aborted*) echo "$0";; *) echo "$line"; cat; esac; fi'
  listener = subprocess.Popen(
    ['sh', '-c', f'{tell} >&2', _LOST],
    stdin=subprocess.PIPE,
    start_new_session=True,
  )
  faulthandler.enable(listener.stdin)


def _leave(message: str) -> NoReturn:
  """Ends this process; at once where others would be waited for, and they for this one."""
  if not jax.distributed.is_initialized():
    sys.exit(message)
  print(message, file=sys.stderr, flush=True)
  os._exit(1)


def parse_flags(argv: list[str]) -> list[str]:
  """The arguments left over; one line and exit code 1 for flags or settings that do not exist."""
  try:
    return flags.FLAGS(argv)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
    sys.exit(f'error: {_line(error)}')


def _line(error: Exception) -> str:
  text = str(error)
  if 'Traceback' in text:  # ml_collections hands on what a config file raised, with its way there
    text = text.splitlines()[-1].partition('Error: ')[2]
  if isinstance(error, KeyError | AttributeError):
    text = 'no setting ' + text.strip('\'"').replace("\\'", "'").replace('\\n', ': ')
  return ' '.join(text.split())


def _workdir() -> pathlib.Path:
  if _WORKDIR.value:
    return pathlib.Path(_WORKDIR.value)
  config = config_flags.get_config_filename(flags.FLAGS['config'])
  return pathlib.Path('runs') / runs.folder_name(config)


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main, flags_parser=parse_flags)
