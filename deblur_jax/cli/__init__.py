"""The command `deblur-jax`: for people with photographs.

A command is a file here with `add(commands)`. Exit codes: 0 all done, 1 a file failed, 2 wrong use,
130 interrupted.
"""

import argparse
from collections.abc import Sequence
import os
import sys

from deblur_jax.cli import benchmark, blur, convert, doctor, models, restore

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130

COMMANDS = (restore, blur, benchmark, convert, models, doctor)


def main(argv: Sequence[str] | None = None) -> int:
  """The exit code of the command line `argv`."""
  parser = argparse.ArgumentParser(
    prog='deblur-jax', description='Restores blurred photographs, and blurs sharp ones.'
  )
  commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')
  for command in COMMANDS:
    command.add(commands)
  arguments = parser.parse_args(argv)
  try:
    return arguments.run(arguments)
  except BrokenPipeError:  # as in `| head`: nobody reads on
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
    return FAILED
  except (OSError, ValueError) as error:
    from deblur_jax.fit import DoesNotFit

    # A line will do, but for weights that do not fit, which name all that does not.
    told = error if isinstance(error, DoesNotFit) else str(error).partition('\n')[0]
    print(f'deblur-jax: {told}', file=sys.stderr)
    return WRONG_USE
  except KeyboardInterrupt:
    print('deblur-jax: interrupted; the same command again does the rest', file=sys.stderr)
    return INTERRUPTED
