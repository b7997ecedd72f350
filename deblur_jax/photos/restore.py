"""Photographs in, photographs out, by any method: numpy arrays and files.

Colors are what a method sees: grey is repeated into three channels and comes back as the luma of
the result (Rec. 601), alpha is set aside and comes back bit for bit.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import operator
import pathlib
import time
from typing import Any

import numpy as np

from deblur_jax import color, tiling
from deblur_jax.formats import conversion, kinds
from deblur_jax.photos import blind_check, diagnosis, history, interrupt, jobs, pictures, writing
from deblur_jax.photos.restorer import Path, Restorer, load

Crop = tuple[int, int, int, int]

MUCH_SHARPER, MUCH_CLIPPED = 7.0, 0.05
"""Times as sharp and share of values clipped beyond which, both together, a PSF is likely wrong: so
were 95 of 105 results of crops of Kodak's for wrong ones, and 2 of 72 for the right one."""


@dataclasses.dataclass(frozen=True)
class Options:
  """How files are restored."""

  overwrite: bool = False
  """Whether results that are there already are made again."""
  strip: bool = False
  """Whether to leave out all metadata but the ICC profile."""
  compare: bool = False
  """Whether to write before and after side by side, too, as NAME.compare.png."""
  write_psf: bool = False
  """Whether to write the PSF that was estimated, too, as NAME.psf.png."""
  mask: Path | None = None
  """A grey picture of the size of all others: restore where it is white."""
  dry_run: bool = False
  """Whether to compute and write nothing."""
  crop: Crop | None = None
  """(left, top, width, height) of the part that is restored; all if None."""
  quality: int | None = None
  """From 1 to 100, of JPEG, WebP and AVIF."""
  force: bool = False
  """Whether an estimated PSF is used even if it is likely wrong."""
  made: Mapping[str, Any] | None = None
  """What results depend on, see `jobs.settle`; None skips every result that is there."""


def restore_files(
  todo: Sequence[jobs.Job],
  restorer: Restorer,
  options: Options = Options(),
  *,
  watch: jobs.Watch | None = None,
) -> jobs.Report:
  """Restores the files of a plan (see `jobs.plan`), and tells what became of each.

  A file that cannot be restored is told in the report and the rest is done; an input is never
  overwritten. Results appear complete or not at all. A result is the same, bit for bit, whatever
  other files are restored along with it.
  """
  outcomes: dict[jobs.Job, jobs.Outcome] = {}

  def finish(job: jobs.Job, status: str, message: str = '', **more: Any) -> None:
    outcomes[job] = jobs.Outcome(job.source, job.target, status, message, **more)
    if watch:
      watch.finish(outcomes[job])

  left, settled = jobs.settle(todo, options.made, overwrite=options.overwrite)
  for job, outcome in settled:
    finish(job, outcome.status, outcome.message)
  sizes = _sizes(left, options.crop, finish)
  if watch:
    watch.start(sum(height * width for height, width in sizes.values()))
  for job, size in sizes.items():
    tiles = tiling.count(*size, restorer.method.needs, tile=restorer.tile)
    known = {'size': size, 'tiles': tiles}
    if options.dry_run:
      finish(job, 'planned', **known)
      continue
    begin, tick = time.monotonic(), _Ticks(watch, size[0] * size[1], tiles)
    try:
      notes, found = _restore_file(job, restorer, options, tick)
      if options.made is not None:
        history.record(job.target, job.source, options.made)
    except Exception as error:  # One bad file must not end the work on a thousand others.
      finish(job, 'failed', _line(error, job), **known)
    else:
      notes = (left[job], *notes) if left[job] else notes
      seconds = time.monotonic() - begin
      finish(job, 'restored', seconds=seconds, notes=notes, **known, **found)
    tick.finish()
  return jobs.Report(tuple(outcomes[job] for job in todo))


def restore(
  inputs: Iterable[Path],
  output: Path = 'restored',
  restorer: Restorer | None = None,
  options: Options = Options(),
) -> jobs.Report:
  """Restores photographs (files, folders, patterns) into the folder `output`.

  `restorer` is what `load` returns, by default with the default weights. See `jobs.plan` for the
  names of the results and `restore_files` for what can go wrong.
  """
  return restore_files(jobs.plan(inputs, output), restorer or load(), options)


class _Ticks:
  """Reports the pixels of a picture, in equal parts for its tiles."""

  def __init__(self, watch: jobs.Watch | None, pixels: int, tiles: int):
    self._watch, self._pixels, self._tiles = watch, pixels, tiles
    self._ticks = self._done = 0

  def __call__(self) -> None:
    """One more tile is done; more tiles than planned do not count."""
    self._ticks = min(self._ticks + 1, self._tiles)
    self._advance(self._pixels * self._ticks // self._tiles)

  def finish(self) -> None:
    """The picture is done, or will not be."""
    self._advance(self._pixels)

  def _advance(self, done: int) -> None:
    if self._watch and done > self._done:
      self._watch.advance(done - self._done)
    self._done = done


class _Rows:
  """A picture as an array `[1 h w c]` that reads the rows that it is asked for."""

  def __init__(self, picture: pictures.Picture):
    self._picture, self.shape = picture, (1, *picture.shape)

  def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
    start, stop, _ = part[1].indices(self.shape[1])
    return self._picture.rows(start, stop)[None]


def _restore_file(
  job: jobs.Job, restorer: Restorer, options: Options, tick: Callable[[], None]
) -> tuple[tuple[str, ...], dict[str, Any]]:
  """The notes on a file and more of its `jobs.Outcome`, once its result is written."""
  picture = pictures.read(job.source)
  mask = options.mask and pictures.read_mask(options.mask, picture.shape[:2])
  picture, mask = _cropped(picture, options.crop), mask and _Rows(_cropped(mask, options.crop))
  samples = diagnosis.windows(picture.shape, picture.rows)
  notes: Counter[str] = Counter()
  changes = []
  whole = _Rows(picture)
  notes.update((*picture.notes, *pictures.doubts(picture)))
  transfer, assumed = _transfer(picture) if restorer.method.needs.borders else (color.SRGB, '')
  notes.update([assumed] if assumed else [])
  restorer, psf, reason = restorer.judged(whole, transfer, force=options.force)
  if reason:
    notes.update([f'{reason}; --force uses it all the same'])
  elif psf and (hint := blind_check.cut_off(psf)):
    notes.update([hint])
  parts = restorer.parts(
    whole,
    mask=mask,
    psf=psf and psf.psf,
    transfer=transfer,
    note=lambda text: notes.update([text]),
    tick=tick,
  )
  with contextlib.closing(writing.Canvas(picture)) as canvas:
    for rows, restored in parts:
      canvas.append(restored[0])
      changes.append(diagnosis.change(picture.rows(rows.start, rows.stop), restored[0]))
    result = canvas.picture()
    after = diagnosis.windows(result.shape, result.rows)
    changed = functools.reduce(operator.add, changes)
    found = diagnosis.diagnose(samples, after, changed, min(picture.shape[:2]))
    if restorer.method.needs.borders and _overdone(found, changed):
      notes.update(['the PSF is likely wrong: there is far more in the result than was blurred'])
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if options.compare:
      beside = job.target.with_name(f'{job.target.name}.compare.png')
      writing.write_side_by_side(beside, picture, result)
    if options.write_psf and psf:
      writing.write_plane(job.target.with_name(f'{job.target.name}.psf.png'), psf.psf)
    notes.update(_write(job, result, picture, options))
  told = [f'{text} ({times} times)' if times > 1 else text for text, times in notes.items()]
  return (*told, *found.warnings), {'diagnosis': found, 'psf': psf}


def _write(
  job: jobs.Job, result: pictures.Picture, like: pictures.Picture, options: Options
) -> list[str]:
  """Writes a result in the format of its name; what could not be kept."""
  lost = []
  suffix = job.target.suffix.lower()
  if suffix != job.source.suffix.lower():  # else a picture leaves as it came, whatever its name
    like = dataclasses.replace(like, kind=kinds.SUFFIXES[suffix])
    image, lost = conversion.suited(result.image, like.kind)
    result = dataclasses.replace(result, image=image)
  kept = {'strip': options.strip, 'quality': options.quality}
  return [*lost, *writing.write(job.target, result, like, **kept)]


def _cropped(picture: pictures.Picture, crop: Crop | None) -> pictures.Picture:
  if crop is None:
    return picture
  return dataclasses.replace(picture, image=picture.image.crop(*crop))


def _transfer(picture: pictures.Picture) -> tuple[color.Transfer, str]:
  """The transfer curve of a picture, and a note if sRGB had to be assumed."""
  try:
    return picture.transfer, ''
  except ValueError as error:
    return color.SRGB, f'{error}: taken for sRGB'


def _overdone(found: diagnosis.Diagnosis, changed: diagnosis.Change) -> bool:
  """Whether a result looks like what comes of the wrong PSF."""
  sharper = found.sharpness_after > MUCH_SHARPER * found.sharpness_before
  return sharper and changed.clipped > MUCH_CLIPPED * changed.count * len(changed.before)


def _sizes(
  todo: Iterable[jobs.Job], crop: Crop | None, finish: Callable
) -> dict[jobs.Job, tuple[int, int]]:
  """(height, width) of what is restored of the pictures; `finish` gets those that cannot be."""
  sizes = {}
  for job in todo:
    interrupt.check()
    try:
      height, width = pictures.size(job.source)
      if crop and (crop[0] + crop[2] > width or crop[1] + crop[3] > height):
        shown = ','.join(map(str, crop))
        raise ValueError(f'--crop {shown} reaches beyond the picture of {width}x{height} pixels')
      sizes[job] = (crop[3], crop[2]) if crop else (height, width)
    except Exception as error:
      finish(job, 'failed', _line(error, job))
  return sizes


def _line(error: Exception, job: jobs.Job) -> str:
  """The first line of an error, or its name where it has none; of a file of which it is told."""
  if isinstance(error, OSError) and error.strerror:
    path = pathlib.Path(error.filename or job.source)
    path = job.target if path.suffix == '.part' else path  # what is not yet the result
    return error.strerror if path == job.source else f'{path}: {error.strerror}'
  return next(iter(str(error).splitlines()), '') or type(error).__name__
