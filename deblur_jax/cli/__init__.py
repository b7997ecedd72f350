"""The command `deblur-jax`: for people with photographs.

A command is a file here with `add(commands)`. Exit codes: 0 all done, 1 a file failed, 2 wrong use,
130 interrupted.
"""

from collections.abc import Sequence
import io
import os
import sys

import deblur_jax
from deblur_jax.cli import benchmark, blur, convert, doctor, export, models, restore
from deblur_jax.cli.parser import Parser
from deblur_jax.photos import interrupt

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130

COMMANDS = (restore, blur, benchmark, convert, export, models, doctor)


def main(argv: Sequence[str] | None = None) -> int:
  """The exit code of the command line `argv`."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper) and stream.errors == 'strict':
      stream.reconfigure(errors='backslashreplace')  # names of files need not be text
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
  except BrokenPipeError:  # as in `| head`: nobody reads on
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
    return FAILED
  except (OSError, ValueError) as error:
    from deblur_jax.weights import DoesNotFit

    # A line will do, but for weights that do not fit, which name all that does not.
    told = error if isinstance(error, DoesNotFit) else str(error).partition('\n')[0]
    print(f'deblur-jax: {told}', file=sys.stderr)
    return WRONG_USE
  except KeyboardInterrupt:
    print('deblur-jax: interrupted; the same command again does the rest', file=sys.stderr)
    return INTERRUPTED
