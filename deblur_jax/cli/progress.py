"""How `deblur-jax restore` reports progress: lines, and a progress bar on a terminal."""

import collections
from collections.abc import Iterable, Iterator
import contextlib
import pathlib
import sys


class Lines:
  """Prints a line per file: results to `output`, failures to standard error."""

  def __init__(self, spare: pathlib.Path, output):
    self.outcomes = []
    self.device = ''
    """The kind of device that computes, once it is known."""
    self._spare, self._output = spare, output

  def start(self, pixels: int) -> None:
    pass

  def advance(self, pixels: int) -> None:
    pass

  def finish(self, outcome) -> None:
    self.outcomes.append(outcome)
    for line in self.lines(outcome):
      print(line, file=sys.stderr if outcome.status == 'failed' else self._output, flush=True)

  def lines(self, outcome) -> list[str]:
    """The lines about a file."""
    name = self._shown(outcome.source)
    if outcome.status == 'failed':
      return [f'{name}: {outcome.message}']
    if outcome.status == 'planned':
      height, width = outcome.size
      cut = f', {outcome.tiles} tiles' if outcome.tiles > 1 else ''
      return [f'{name} -> {self._shown(outcome.target)} ({width}x{height}{cut})']
    if outcome.status == 'skipped':
      return []
    notes = [f'  {note}' for note in outcome.notes]
    psf = f'; PSF estimated, confidence {outcome.psf.confidence:.2f}' if outcome.psf else ''
    sure = outcome.reliability
    sure = '' if sure is None else f'; reliability {sure:.2f}'
    return [f'{name}: {outcome.diagnosis}{psf}{sure} ({outcome.seconds:.1f} s)', *notes]

  def _shown(self, path: pathlib.Path) -> str:
    if self._spare not in path.parents:
      return str(path)
    return 'standard output' if path.parent.name == 'out' else 'standard input'


class Bar(Lines):
  """Shows a progress bar with the time left, and prints the lines above it."""

  def __init__(self, spare: pathlib.Path, output, progress):
    super().__init__(spare, output)
    self._progress, self._task, self._solve = progress, None, None

  def start(self, pixels: int) -> None:
    self._task = self._progress.add_task('restoring', total=pixels)
    self._solve = self._progress.add_task('this tile', total=1, visible=False)

  def advance(self, pixels: int) -> None:
    self._progress.advance(self._task, pixels)

  def solving(self, part: float) -> None:
    """Shows which part of a slow tile is done."""
    self._progress.update(self._solve, completed=part, visible=part < 1)

  def finish(self, outcome) -> None:
    self.outcomes.append(outcome)
    for line in self.lines(outcome):
      self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def watch(spare: pathlib.Path, output, is_long: bool) -> Iterator[Lines]:
  """A progress bar if the run `is_long` and on a terminal, otherwise only lines.

  `spare` is the temporary folder for standard input and output.
  """
  if not is_long or not sys.stderr.isatty():
    yield Lines(spare, output)
    return
  from rich.console import Console
  from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

  columns = (
    TextColumn('{task.description}', markup=False),
    BarColumn(),
    TaskProgressColumn(),
    TimeRemainingColumn(),
  )
  from deblur_jax.solvers.progress import listening

  with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
    bar = Bar(spare, output, progress)
    with listening(bar.solving):
      yield bar


def summary(report, dry_run: bool, seconds: float) -> str:
  """Counts of outcomes; skipped files are counted by reason."""
  counts = [f'{report.count("planned")} to restore' if dry_run else f'{report.restored} restored']
  skipped = collections.Counter(one.message for one in report.outcomes if one.status == 'skipped')
  counts += [f'{count} skipped ({why})' for why, count in skipped.items()]
  counts += [f'{report.failed} failed'] if report.failed else []
  return ', '.join(counts) + ('' if dry_run else f' in {seconds:.1f} s')


def unsupported(names: Iterable[str]) -> str:
  """A line about pictures in unsupported formats; '' if there are none."""
  names = list(names)
  if not names:
    return ''
  shown = ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')
  return f'skipped, unsupported formats: {shown}'
