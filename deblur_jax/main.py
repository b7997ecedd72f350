"""Train or evaluate: `python -m deblur_jax.main --config=configs/mprnet.py`.

The text after the colon picks a recipe (`configs/mprnet.py:gopro`), and any value can be changed
(`--config.optim.learning_rate=1e-4`). The same command again goes on with a run that was stopped.
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from deblur_jax import evaluate, sharding, train

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'What to do: configs/NAME.py or configs/NAME.py:RECIPE.', lock_config=True
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; default: runs/NAME-RECIPE.')
_EVALUATE = flags.DEFINE_string(
  'evaluate', None, 'Evaluate these weights (a run folder or .safetensors) instead of training.'
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
    if _EVALUATE.value:
      evaluate.evaluate(_CONFIG.value, _workdir(), _EVALUATE.value)
    else:
      train.train(_CONFIG.value, _workdir())
  except train.Stopped as stop:
    print(stop)
    sys.exit(143)
  except (ValueError, OSError, train.Diverged) as error:
    if logging.get_verbosity() >= logging.DEBUG:
      raise
    sys.exit(f'error: {_line(error)} (--verbosity=1 shows where)')


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
  path, _, recipe = config_flags.get_config_filename(flags.FLAGS['config']).partition(':')
  return pathlib.Path('runs') / f'{pathlib.Path(path).stem}-{recipe or "builtin"}'


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main, flags_parser=parse_flags)
