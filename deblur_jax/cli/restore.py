"""`deblur-jax restore`: photographs in, photographs out."""

import argparse
import contextlib
import pathlib
import sys
import time

from deblur_jax.cli import values


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax restore`."""
  parser = commands.add_parser(
    'restore',
    help='restore photographs',
    description='Restores photographs of any size: JPEG, PNG, WebP, TIFF, AVIF. '
    'What is in OUT already is skipped, so that the same command again finishes the job.',
  )
  parser.add_argument('inputs', nargs='+', metavar='FILE_OR_FOLDER', help='pictures, or folders')
  parser.add_argument(
    '-o', '--output', required=True, metavar='OUT', help='folder for the results, same names'
  )
  parser.add_argument(
    '--weights', required=True, metavar='W', help="a run's folder or a .safetensors file"
  )
  parser.add_argument(
    '-r', '--recursive', action='store_true', help='folders inside folders, too; mirrors the tree'
  )
  parser.add_argument(
    '--tile', type=values.positive, metavar='N', help='side of the tiles; smaller takes less memory'
  )
  parser.add_argument(
    '--self-ensemble', action='store_true', help='average over 8 turned copies: slower, smoother'
  )
  parser.add_argument('--overwrite', action='store_true', help='restore again what is in OUT')
  parser.set_defaults(run=_restore)


def _restore(arguments: argparse.Namespace) -> int:
  from deblur_jax import restore, sharding

  output = pathlib.Path(arguments.output)
  if output.exists() and not output.is_dir():
    raise ValueError(f'{output}: -o takes a folder, and this is a file')
  if not restore.plan(arguments.inputs, output, recursive=arguments.recursive):
    hint = '' if arguments.recursive else '; -r looks in folders inside'
    raise ValueError(f'no pictures in {", ".join(arguments.inputs)}{hint}')
  sharding.keep_compiled()
  restorer = restore.load(
    arguments.weights, tile=arguments.tile, self_ensemble=arguments.self_ensemble
  )
  begin = time.monotonic()
  with _watch() as watch:
    report = restore.restore_files(
      arguments.inputs,
      output,
      restorer,
      recursive=arguments.recursive,
      overwrite=arguments.overwrite,
      watch=watch,
    )
  counts = [f'{report.restored} restored']
  counts += [f'{report.skipped} skipped (there already)'] if report.skipped else []
  counts += [f'{report.failed} failed'] if report.failed else []
  print(f'{", ".join(counts)} in {time.monotonic() - begin:.1f} s -> {output}')
  return 1 if report.failed else 0


class Lines:
  """Tells how it goes in plain lines: results to standard output, failures to standard error."""

  def start(self, pixels: int) -> None:
    pass

  def advance(self, pixels: int) -> None:
    pass

  def finish(self, outcome) -> None:
    if outcome.status == 'restored':
      print(f'{outcome.source} -> {outcome.target} ({outcome.seconds:.1f} s)', flush=True)
    elif outcome.status == 'failed':
      print(f'{outcome.source}: {outcome.message}', file=sys.stderr, flush=True)


class Bar:
  """Tells how it goes by a progress bar with the time left, and failures in lines above it."""

  def __init__(self, progress):
    self.progress = progress
    self.task = None

  def start(self, pixels: int) -> None:
    self.task = self.progress.add_task('restoring', total=pixels)

  def advance(self, pixels: int) -> None:
    self.progress.advance(self.task, pixels)

  def finish(self, outcome) -> None:
    if outcome.status == 'failed':
      line = f'{outcome.source}: {outcome.message}'
      self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
    elif self.task is not None:
      self.progress.update(self.task, description=outcome.source.name)


@contextlib.contextmanager
def _watch():
  """A progress bar on a terminal, plain lines elsewhere."""
  if not sys.stderr.isatty():
    yield Lines()
    return
  from rich.console import Console
  from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

  columns = (
    TextColumn('{task.description}', markup=False),
    BarColumn(),
    TaskProgressColumn(),
    TimeRemainingColumn(),
  )
  with Progress(*columns, console=Console(stderr=True)) as progress:
    yield Bar(progress)
