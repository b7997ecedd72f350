"""What a run reports: a progress bar or lines, metrics.jsonl, TensorBoard, speed."""

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import json
import math
import pathlib
import sys
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

from deblur_jax import atomic, spec

T = TypeVar('T')

# The metrics that are printed; the files get all of them.
_SHOWN = ('loss', 'psnr', 'pictures_per_second', 'data_wait')


def _summary_writer() -> Any:
  """tensorboardX's `SummaryWriter`, which would import torch, to no use here and for seconds."""
  modules: dict[str, Any] = sys.modules
  blocked = 'torch' not in modules
  if blocked:
    modules['torch'] = None  # an import of it now fails as if it were not installed
  try:
    from tensorboardX import SummaryWriter
  finally:
    if blocked:
      del modules['torch']
  return SummaryWriter


class Writer:
  """Scalars and pictures of a training run, to the terminal and to files in `workdir`.

  Args:
    workdir: where metrics.jsonl and the TensorBoard files are written.
    steps: length of the run.
    start: the step that the run resumes from; lines that an interrupted run wrote after it are
      dropped.
    silent: whether to write nothing, as in all processes but the first.
    hooks: further writers that get everything too, see `open_hooks`.
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
    self._steps, self._start = steps, start
    self._begin = time.monotonic()  # of the second step: the first one compiles
    if silent:
      return
    path = workdir / 'metrics.jsonl'
    truncate(path, start)
    self._file = path.open('a')
    self._board = _summary_writer()(str(workdir), purge_step=start + 1)
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
    """Updates the progress bar."""
    if step == self._start + 1:
      self._begin = time.monotonic()
    if self._progress:
      self._progress.update(self._task, completed=step)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes the scalars of a step; those that are not finite are null in metrics.jsonl."""
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
      done = step - self._start - 1
      left = (time.monotonic() - self._begin) / max(done, 1) * (self._steps - step)
      self.say(f'step {step}/{self._steps}  {figures}' + f'  {_clock(left)} left' * (done > 0))

  def pictures(self, step: int, name: str, image: np.ndarray) -> None:
    """Shows a picture, uint8 `[h w 3]`, in TensorBoard."""
    if self._silent:
      return
    self._board.add_image(name, image, step, dataformats='HWC')
    for hook in self._hooks:
      hook.pictures(step, name, image)

  def say(self, message: Any) -> None:
    """Prints a line or a table above the progress bar."""
    self._console.print(message, soft_wrap=isinstance(message, str), markup=False)

  def close(self) -> None:
    """Stops the progress bar and closes the files."""
    if self._silent:
      return
    if self._progress:
      self._progress.stop()
    self._file.close()
    self._board.close()
    for hook in self._hooks:
      hook.close()


class Window:
  """The steps since the last log line: their metrics and timing."""

  waited: float
  """Seconds spent waiting for data; the caller adds to it."""

  def __init__(self):
    self._compiled = False
    self.restart()

  def restart(self) -> None:
    """Discards all steps so far and restarts the clock."""
    self._metrics: list[dict[str, jax.Array]] = []
    self._start_clock()

  def add(self, metrics: dict[str, jax.Array], pictures: int) -> None:
    """Adds the metrics of a step, which may still be computing on the device."""
    # One step in flight: enough to keep the device busy, and timings stay correct.
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
    """The metrics of each step, and their means with speed and data wait; restarts the window.

    'pictures_per_second' and 'data_wait', a fraction of the time, are absent after the first step.
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
  """The writers in `package.module:Writer | ...`, each created by `Writer(workdir, config)`.

  They have `scalars(step, values)`, `pictures(step, name, image)` with uint8 `[h w 3]`, and
  `close()`. Raises ValueError if one cannot be found.
  """
  return [make(workdir, config) for make in spec.functions('writer', text, {}).values()]


def track(items: Iterable[T], what: str, *, total: int | None = None) -> Iterator[T]:
  """Yields the items, with a progress bar if the output is a terminal."""
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
  """A table for the terminal; the first column is text, the others are numbers."""
  shown = Table()
  for index, name in enumerate(header):
    shown.add_column(name, justify='right' if index else 'left')
  for row in rows:
    shown.add_row(*row)
  return shown


def truncate(path: pathlib.Path, step: int) -> None:
  """Drops the lines of a .jsonl file after `step`, and incomplete ones, of an interrupted run."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text().splitlines():
    with contextlib.suppress(json.JSONDecodeError):
      if json.loads(line)['step'] <= step:
        kept.append(line + '\n')
  atomic.write_text(path, ''.join(kept))


def read_metrics(workdir: pathlib.Path) -> list[dict[str, float]]:
  """The lines of metrics.jsonl as dicts."""
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
