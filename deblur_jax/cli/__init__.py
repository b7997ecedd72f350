"""The command line program `deblur-jax`.

Each command is a file here with `add(commands)`. Exit codes: 0 success, 1 a file failed, 2 invalid
arguments, 130 interrupted.
"""

from collections.abc import Sequence
import io
import os
import sys

import deblur_jax
from deblur_jax.cli import (
  benchmark,
  blur,
  calibrate,
  convert,
  doctor,
  export,
  inspect,
  models,
  prune,
  quantize,
  restore,
  serve,
)
from deblur_jax.cli.parser import Parser
from deblur_jax.photos import interrupt

__all__ = ['COMMANDS', 'FAILED', 'INTERRUPTED', 'WRONG_USE', 'main']

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130

COMMANDS = (
  restore,
  blur,
  benchmark,
  convert,
  export,
  quantize,
  prune,
  calibrate,
  models,
  inspect,
  doctor,
  serve,
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line `argv`; returns the exit code."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper) and stream.errors == 'strict':
      stream.reconfigure(errors='backslashreplace')  # file names need not be valid text
  if not sys.flags.safe_path and '' not in sys.path:
    sys.path.append('')  # `module:name` may be in the current folder; installed modules come first
  parser = Parser(
    prog='deblur-jax', description='Restores blurred photographs, and blurs sharp ones.'
  )
  version = f'deblur-jax {deblur_jax.__version__}'
  parser.add_argument('--version', action='version', version=version)
  commands = parser.add_subparsers(title='commands', dest='command', metavar='COMMAND')
  for command in COMMANDS:
    command.add(commands)
  arguments = parser.parse(argv)
  if arguments.command is None:
    parser.print_help()
    return 0
  try:
    with interrupt.remembered():
      return arguments.run(arguments)
  except BrokenPipeError:  # the reader has closed the pipe, as in `| head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
    return FAILED
  except (OSError, ValueError) as error:
    from deblur_jax.weights import DoesNotFit

    # One line, except for weights that do not fit, where the error lists all differences.
    message = error if isinstance(error, DoesNotFit) else str(error).partition('\n')[0]
    print(f'deblur-jax: {message}', file=sys.stderr)
    return WRONG_USE
  except KeyboardInterrupt:
    print('deblur-jax: interrupted; run the same command to do the rest', file=sys.stderr)
    return INTERRUPTED
