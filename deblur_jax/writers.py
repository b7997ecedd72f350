"""What a run reports: a progress bar or lines, metrics.jsonl, TensorBoard; and its speed."""

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import json
import math
import pathlib
import time
from typing import Any, TypeVar

import jax
import numpy as np
from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeRemainingColumn,
)
from rich.table import Table
from tensorboardX import SummaryWriter

from deblur_jax import atomic, spec

T = TypeVar('T')

# Printed figures; every value still goes to the files.
_SHOWN = ('loss', 'psnr', 'pictures_per_second', 'data_wait')


class Writer:
  """Scalars and pictures of a training run, to the terminal and to files in `workdir`.

  Args:
    workdir: holds metrics.jsonl and the TensorBoard files.
    steps: length of the run.
    start: the step that the run goes on from; what a broken run wrote after it is dropped.
    silent: True on all processes but the first, where nothing is written.
    hooks: writers to pass everything on to, see `open_hooks`.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    steps: int,
    start: int = 0,
    silent: bool = False,
    hooks: Iterable[Any] = (),
  ):
    self._silent, self._hooks = silent, list(hooks)
    self._console = Console(quiet=silent, highlight=False)
    self._progress = None
    self._steps, self._begin, self._start = steps, time.monotonic(), start
    if silent:
      return
    path = workdir / 'metrics.jsonl'
    truncate(path, start)
    self._file = path.open('a')
    self._board = SummaryWriter(str(workdir), purge_step=start + 1)
    if self._console.is_terminal:
      self._progress = Progress(
        TextColumn('{task.description}'),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn('{task.fields[figures]}'),
        TimeRemainingColumn(),
        console=self._console,
        expand=True,
      )
      self._task = self._progress.add_task('train', total=steps, completed=start, figures='')
      self._progress.start()

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def step(self, step: int) -> None:
    """Moves the bar."""
    if self._progress:
      self._progress.update(self._task, completed=step)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes named figures of a step; one that is not finite is null in metrics.jsonl."""
    if self._silent:
      return
    line = {name: value if math.isfinite(value) else None for name, value in values.items()}
    self._file.write(json.dumps({'step': step, **line}) + '\n')
    self._file.flush()
    for name, value in values.items():
      self._board.add_scalar(name, value, step)
    for hook in self._hooks:
      hook.scalars(step, values)
    figures = _figures(values)
    if self._progress and figures:
      self._progress.update(self._task, completed=step, figures=figures)
    elif figures:
      left = (time.monotonic() - self._begin) / (step - self._start) * (self._steps - step)
      self.say(f'step {step}/{self._steps}  {figures}  {_clock(left)} left')

  def pictures(self, step: int, name: str, image: np.ndarray) -> None:
    """Shows a picture, uint8 `[h w 3]`, in TensorBoard."""
    if self._silent:
      return
    self._board.add_image(name, image, step, dataformats='HWC')
    for hook in self._hooks:
      hook.pictures(step, name, image)

  def say(self, message: Any) -> None:
    """Prints a line or a table above the bar."""
    self._console.print(message, soft_wrap=isinstance(message, str), markup=False)

  def close(self) -> None:
    """Takes the bar away and closes the files."""
    if self._silent:
      return
    if self._progress:
      self._progress.stop()
    self._file.close()
    self._board.close()
    for hook in self._hooks:
      hook.close()


class Window:
  """The steps since the last log line: their metrics, and where the time went."""

  waited: float
  """Seconds spent waiting for data, to be added to."""

  def __init__(self):
    self._compiled = False
    self.restart()

  def restart(self) -> None:
    """Forgets all steps so far; the time until now counts for none."""
    self._metrics: list[dict[str, jax.Array]] = []
    self._start_clock()

  def add(self, metrics: dict[str, jax.Array], pictures: int) -> None:
    """Adds the metrics of a step, still on their way from the device."""
    # One step in flight: enough to keep the device busy, and the times stay honest.
    if self._metrics:
      self._metrics[-1]['loss'].block_until_ready()
    self._metrics.append(metrics)
    self._pictures += pictures
    if not self._compiled:
      # The first step compiles; its time says nothing about speed.
      metrics['loss'].block_until_ready()
      self._compiled = True
      self._start_clock()

  def close(self) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The metrics of each step, and their means with speed and data wait; restarts.

    'pictures_per_second', and 'data_wait', a share of the time, are absent after the first step.
    """
    each = jax.device_get(self._metrics)
    means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    if self._pictures:
      seconds = time.monotonic() - self._begin
      means['pictures_per_second'] = self._pictures / seconds
      means['data_wait'] = self.waited / seconds
    self.restart()
    return each, means

  def _start_clock(self) -> None:
    self.waited, self._pictures, self._begin = 0.0, 0, time.monotonic()


def open_hooks(text: str, workdir: pathlib.Path, config: Mapping[str, Any]) -> list[Any]:
  """The writers in `package.module:Writer | ...`, each made by `Writer(workdir, config)`.

  They have `scalars(step, values)`, `pictures(step, name, image)` with uint8 `[h w 3]`, and
  `close()`. Raises ValueError for one that cannot be found.
  """
  return [make(workdir, config) for make in spec.functions('writer', text, {}).values()]


def track(items: Iterable[T], what: str, *, total: int | None = None) -> Iterator[T]:
  """The items, with a progress bar on a terminal and nothing elsewhere."""
  columns = (
    TextColumn('{task.description}'),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
  )
  console = Console()
  if not console.is_terminal:
    yield from items
    return
  with Progress(*columns, console=console, transient=True) as progress:
    yield from progress.track(items, description=what, total=total)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
  """A table for the terminal; the first column is text, the others are figures."""
  shown = Table()
  for index, name in enumerate(header):
    shown.add_column(name, justify='right' if index else 'left')
  for row in rows:
    shown.add_row(*row)
  return shown


def truncate(path: pathlib.Path, step: int) -> None:
  """Drops the lines of a .jsonl file that a broken run wrote after `step`, half a line too."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text().splitlines():
    with contextlib.suppress(json.JSONDecodeError):
      if json.loads(line)['step'] <= step:
        kept.append(line + '\n')
  atomic.write_text(path, ''.join(kept))


def read_metrics(workdir: pathlib.Path) -> list[dict[str, float]]:
  """The lines of metrics.jsonl."""
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def _figures(values: Mapping[str, float]) -> str:
  formats = {
    'loss': 'loss {:.4g}',
    'psnr': '{:.2f} dB',
    'pictures_per_second': '{:.3g} pictures/s',
    'data_wait': 'data wait {:.1%}',
  }
  return '  '.join(formats[name].format(values[name]) for name in _SHOWN if name in values)


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}'
