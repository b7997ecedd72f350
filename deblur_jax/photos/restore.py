"""Restores photograph files by any method: reads, restores, diagnoses and writes them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import hashlib
import operator
import pathlib
import time
from typing import Any, NamedTuple

import numpy as np

import deblur_jax
from deblur_jax import color, methods, tiling
from deblur_jax.formats import conversion, kinds
from deblur_jax.photos import (
  blind_check,
  diagnosis,
  history,
  interrupt,
  jobs,
  pictures,
  trust,
  writing,
)
from deblur_jax.photos.restorer import UNCHANGED, Path, Restorer, load, middle
from deblur_jax.provenance.disclosure import Record
from deblur_jax.provenance.signature import Signer
from deblur_jax.solvers import estimate_psf
from deblur_jax.uncertainty.conformal import Calibration
from deblur_jax.uncertainty.stored import Stored

Crop = tuple[int, int, int, int]

MUCH_SHARPER, MUCH_CLIPPED = 7.0, 0.05
"""Gain in sharpness and share of clipped values that, if both are exceeded, mean that the PSF is
likely wrong. On crops of Kodak pictures, 95 of 105 results with a wrong PSF exceeded both, and 2 of
72 with the right one."""


@dataclasses.dataclass(frozen=True)
class Options:
  """How files are restored."""

  overwrite: bool = False
  """Whether to restore again if the result exists."""
  strip: bool = False
  """Whether to drop all metadata except the ICC profile."""
  compare: bool = False
  """Whether to also write before and after side by side, as NAME.compare.png."""
  write_psf: bool = False
  """Whether to also write the estimated PSF, as NAME.psf.png."""
  mask: Path | None = None
  """A grey picture of the same size as every input: white where to restore."""
  where: Callable[[pictures.Picture], np.ndarray] | None = None
  """Returns a mask uint8 `[h w]` for each picture, as from `guided.where`; multiplied by `mask`."""
  dry_run: bool = False
  """Whether to only report what would be done."""
  crop: Crop | None = None
  """(left, top, width, height) of the part to restore; None restores all."""
  quality: int | None = None
  """Of JPEG, WebP and AVIF, from 1 to 100."""
  force: bool = False
  """Whether to use an estimated PSF even if it is likely wrong."""
  diagnose: bool = True
  """Whether to diagnose picture and result; without, the outcome has no diagnosis and its notes no
  warnings about the result. The result is the same."""
  made: Mapping[str, Any] | None = None
  """What results depend on, as from `history.made`; None skips every existing result, and records
  no settings in new ones."""
  provenance: bool = True
  """Whether to record in the result's XMP how it was made, see `provenance.disclosure`."""
  signer: Signer | None = None
  """Signs every result by C2PA."""
  uncertainty: Stored | None = None
  """What calibration found out about the restorer. If it is given, the outcome has the reliability
  of the result, and NAME.uncertainty.png shows how far each pixel may be off."""


def restore_files(
  todo: Sequence[jobs.Job],
  restorer: Restorer,
  options: Options = Options(),
  *,
  watch: jobs.Watch | None = None,
) -> jobs.Report:
  """Restores the files of a plan (see `jobs.plan`) and reports the outcome of each.

  A file that cannot be restored is reported, and the rest are restored; an input is never
  overwritten. Results are written completely or not at all. A result is the same, bit for bit,
  whatever other files are restored in the same call.
  """

  def run(steps: Sequence[Step]) -> Iterator[tuple[jobs.Job, jobs.Outcome]]:
    for step in steps:
      tiles = tiling.count(*step.size, restorer.method.needs, tile=restorer.tile)
      tick = _Ticks(watch, step.size[0] * step.size[1], tiles)
      yield step.job, restore_step(step, restorer, options, tick)
      tick.finish()

  return restore_by(run, todo, options, watch=watch)


class Step(NamedTuple):
  """A file that is left to restore."""

  job: jobs.Job
  size: tuple[int, int]
  """(height, width) to restore."""
  note: str
  """Why an existing result is replaced; '' if there is none."""


def restore_by(
  run: Callable[[Sequence[Step]], Iterable[tuple[jobs.Job, jobs.Outcome]]],
  todo: Sequence[jobs.Job],
  options: Options,
  *,
  watch: jobs.Watch | None = None,
) -> jobs.Report:
  """`restore_files`, with `run` to restore what is left to do.

  `run` returns the outcomes of its steps in any order, as from `restore_step`.
  """
  outcomes: dict[jobs.Job, jobs.Outcome] = {}

  def done(job: jobs.Job, outcome: jobs.Outcome) -> None:
    outcomes[job] = outcome
    if watch:
      watch.finish(outcome)

  pending, finished = jobs.select(todo, options.made, overwrite=options.overwrite)
  for job, outcome in finished:
    done(job, outcome)
  steps = []
  for job, note in pending.items():
    interrupt.check()
    try:
      steps.append(Step(job, size_to_restore(job.source, options.crop), note))
    except Exception as error:
      done(job, jobs.Outcome(job.source, job.target, 'failed', _line(error, job)))
  if watch:
    watch.start(sum(step.size[0] * step.size[1] for step in steps))
  for job, outcome in run(steps):
    done(job, outcome)
  return jobs.Report(tuple(outcomes[job] for job in todo))


def restore_step(
  step: Step, restorer: Restorer, options: Options, tick: Callable[[], None] = lambda: None
) -> jobs.Outcome:
  """The outcome of one file: restored and recorded, planned in a dry run, or failed."""
  job = step.job
  tiles = tiling.count(*step.size, restorer.method.needs, tile=restorer.tile)
  known = {'size': step.size, 'tiles': tiles}
  if options.dry_run:
    return jobs.Outcome(job.source, job.target, 'planned', **known)
  try:
    outcome = restore_file(job, restorer, options, tick)
    if options.made is not None:
      history.record(job.target, job.source, options.made)
  except Exception as error:  # One bad file must not stop the restoration of a thousand others.
    return jobs.Outcome(job.source, job.target, 'failed', _line(error, job), **known)
  return outcome._replace(notes=(*([step.note] if step.note else []), *outcome.notes))


def restore_file(
  job: jobs.Job,
  restorer: Restorer,
  options: Options = Options(),
  tick: Callable[[], None] = lambda: None,
) -> jobs.Outcome:
  """Restores and writes one file, even if the result exists; raises if it cannot.

  `tick` is called after every tile; if it raises, the restoration ends and nothing is written.
  """
  begin = time.monotonic()
  picture = pictures.read(job.source)
  mask = _mask(picture, options)
  picture = _cropped(picture, options.crop)
  samples = diagnosis.windows(picture.shape, picture.rows) if options.diagnose else None
  notes: Counter[str] = Counter((*picture.notes, *pictures.doubts(picture)))
  changes = []
  asked = restorer.method.name
  restorer, psf, parts = _parts(picture, mask, restorer, notes, tick, force=options.force)
  with contextlib.closing(writing.Canvas(picture)) as canvas:
    for rows, restored in parts:
      canvas.append(restored[0])
      if options.diagnose:
        changes.append(diagnosis.change(picture.rows(rows.start, rows.stop), restored[0]))
    result, found = canvas.picture(), None
    if samples is not None:
      after = diagnosis.windows(result.shape, result.rows)
      changed = functools.reduce(operator.add, changes)
      found = diagnosis.diagnose(samples, after, changed, min(picture.shape[:2]))
      if restorer.method.needs.borders and _overdone(found, changed):
        notes.update(['the PSF is likely wrong: the result is oversharpened and clipped'])
    record = _record(job.source, asked, restorer.method.name, options.made)
    more: dict[str, Callable[[pathlib.Path], None]] = {}
    if options.compare:
      more['compare'] = lambda path: writing.write_side_by_side(path, picture, result)
    if options.write_psf and psf:
      more['psf'] = lambda path: writing.write_plane(path, np.asarray(psf.psf))
    reliability = None
    if options.uncertainty and restorer.method.name != asked:
      notes.update(['no reliability, as it was calibrated for another method'])
    elif options.uncertainty:
      intervals, score = options.uncertainty
      spreads = _spreads(restorer, picture, notes, tick) if intervals else None
      if intervals and spreads is not None:
        plane = np.minimum(intervals.scale * spreads, 1)  # no value can be farther off
        notes.update([_about(plane, intervals)])
        more['uncertainty'] = lambda path: writing.write_plane(path, plane)
      if score and found and samples is not None:
        known = _known(picture, psf, spreads)
        reliability = score(trust.evidence(samples, after, found, changed, **known))
    job.target.parent.mkdir(parents=True, exist_ok=True)
    notes.update(_write(job, result, picture, options, record))
    notes.update(_write_beside(job.target, more))
  counted = [f'{text} ({times} times)' if times > 1 else text for text, times in notes.items()]
  size = picture.shape[:2]
  return jobs.Outcome(
    job.source,
    job.target,
    'restored',
    seconds=time.monotonic() - begin,
    size=size,
    tiles=tiling.count(*size, restorer.method.needs, tile=restorer.tile),
    notes=(*counted, *(found.warnings if found else ())),
    diagnosis=found,
    psf=psf,
    reliability=reliability,
  )


def restore(
  inputs: Iterable[Path],
  output: Path = 'restored',
  restorer: Restorer | None = None,
  options: Options = Options(),
) -> jobs.Report:
  """Restores photographs (files, folders, patterns) into the folder `output`.

  `restorer` is what `load` returns; the default has the default weights. See `jobs.plan` for the
  names of the results and `restore_files` for failures.
  """
  return restore_files(jobs.plan(inputs, output), restorer or load(), options)


class _Ticks:
  """Reports the pixels of a picture as done, an equal share after each tile."""

  def __init__(self, watch: jobs.Watch | None, pixels: int, tiles: int):
    self._watch, self._pixels, self._tiles = watch, pixels, tiles
    self._ticks = self._done = 0

  def __call__(self) -> None:
    """Reports one more tile; ignores more tiles than planned."""
    self._ticks = min(self._ticks + 1, self._tiles)
    self._advance(self._pixels * self._ticks // self._tiles)

  def finish(self) -> None:
    """Reports the remaining pixels, when the picture is restored or has failed."""
    self._advance(self._pixels)

  def _advance(self, done: int) -> None:
    if self._watch and done > self._done:
      self._watch.advance(done - self._done)
    self._done = done


class _Rows:
  """A picture as an array `[1 h w c]` that reads rows when they are sliced."""

  def __init__(self, picture: pictures.Picture):
    self._picture, self.shape = picture, (1, *picture.shape)

  def __getitem__(self, part: tuple[slice, slice], /) -> np.ndarray:
    start, stop, _ = part[1].indices(self.shape[1])
    return self._picture.rows(start, stop)[None]


class _Product:
  """The product `[1 h w 1]` of two masks, in [0, 1]."""

  def __init__(self, *masks: tiling.Images):
    self._masks, self.shape = masks, masks[0].shape

  def __getitem__(self, part: tuple[slice, slice], /) -> np.ndarray:
    one, other = (pictures.as_float(mask[part]) for mask in self._masks)
    return one * other


def _mask(picture: pictures.Picture, options: Options) -> tiling.Images | None:
  """The mask `[1 h w 1]` of what is restored, cropped; None if that is everything."""
  masks: list[tiling.Images] = []
  if options.mask:
    given = pictures.read_mask(options.mask, picture.shape[:2])
    masks.append(_Rows(_cropped(given, options.crop)))
  if options.where:
    found = options.where(picture)[None, ..., None]
    if options.crop:
      left, top, width, height = options.crop
      found = found[:, top : top + height, left : left + width]
    masks.append(found)
  return _Product(*masks) if len(masks) > 1 else next(iter(masks), None)


def _parts(
  picture: pictures.Picture,
  mask: tiling.Images | None,
  restorer: Restorer,
  notes: Counter[str],
  tick: Callable[[], None],
  *,
  force: bool,
) -> tuple[Restorer, estimate_psf.Estimate | None, Iterator[tuple[slice, np.ndarray]]]:
  """(what restores the picture, the PSF if it was estimated, the parts of `Restorer.parts`)."""
  whole = _Rows(picture)
  transfer, assumed = _transfer(picture) if restorer.method.needs.borders else (color.SRGB, '')
  notes.update([assumed] if assumed else [])
  restorer, psf, reason = restorer.checked(whole, transfer, force=force)
  if reason:
    notes.update([f'{reason}; --force uses it anyway'])
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
  return restorer, psf, parts


def _write(
  job: jobs.Job, result: pictures.Picture, like: pictures.Picture, options: Options, record: Record
) -> list[str]:
  """Writes a result in the format of its name; returns what could not be kept."""
  lost = []
  suffix = job.target.suffix.lower()
  if suffix != job.source.suffix.lower():  # else the format stays, even under a wrong suffix
    like = dataclasses.replace(like, kind=kinds.SUFFIXES[suffix])
    image, lost = conversion.converted(result.image, like.kind)
    result = dataclasses.replace(result, image=image)
  kept = {'strip': options.strip, 'quality': options.quality}
  shown = record if options.provenance else None
  lost += writing.write(job.target, result, like, record=shown, **kept)
  if options.signer:
    try:
      options.signer.sign(job.target, job.source, record)
    except ValueError:
      job.target.unlink()  # all or nothing
      raise
  return lost


def beside(target: pathlib.Path, name: str) -> pathlib.Path:
  """The file that shows something else about a result, such as its 'uncertainty'."""
  return target.with_name(f'{target.name}.{name}.png')


def _write_beside(
  target: pathlib.Path, files: Mapping[str, Callable[[pathlib.Path], None]]
) -> list[str]:
  """Calls each function with the path of its file beside `target`; returns what went wrong.

  The result is complete by then, so a file that cannot be written does not make it a failure.
  """
  problems = []
  for name, write in files.items():
    path = beside(target, name)
    try:
      write(path)
    except (OSError, ValueError) as error:
      reason = error.strerror if isinstance(error, OSError) and error.strerror else error
      problems.append(f'{path.name} could not be written ({reason}); the result is complete')
  return problems


def _spreads(
  restorer: Restorer, picture: pictures.Picture, notes: Counter[str], tick: Callable[[], None]
) -> np.ndarray:
  """The spread of each pixel `[h w]`."""
  found = restorer.spreads(_Rows(picture), note=lambda text: notes.update([text]), tick=tick)
  return np.concatenate([spread.mean(axis=-1)[0] for _, spread in found])


def _known(
  picture: pictures.Picture, psf: estimate_psf.Estimate | None, spreads: np.ndarray | None
) -> dict[str, Any]:
  """The keyword arguments of `trust.evidence`."""
  if spreads is not None:
    return {'spread': float(spreads.mean())}
  return {'psf': trust.of_psf(middle(_Rows(picture)), psf, _transfer(picture)[0])} if psf else {}


def _about(plane: np.ndarray, calibration: Calibration) -> str:
  """A sentence about half the widths of the intervals."""
  return (
    f'{1 - calibration.risk:.0%} of the values are expected within '
    f'{255 * plane.mean():.1f} of 255 levels on average; white in the map is '
    f'{255 * plane.max():.1f}'
  )


def _record(source: Path, asked: str, used: str, made: Mapping[str, Any] | None) -> Record:
  """The record of a restoration; it holds no names of files."""
  settings = None
  if made is not None:
    files = {name for name in history.FILES if f'{name}_sha256' in made}
    left_out = {'weights', 'no_provenance', 'sign'} | files
    settings = {'weights': asked.split(' + ')[-1]} if 'weights' in made else {}
    settings |= {name: value for name, value in made.items() if name not in left_out}
  with open(source, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  is_network = methods.is_network(used) and used != UNCHANGED
  return Record(deblur_jax.__version__, used, is_network, settings, digest)


def _cropped(picture: pictures.Picture, crop: Crop | None) -> pictures.Picture:
  if crop is None:
    return picture
  return dataclasses.replace(picture, image=picture.image.crop(*crop))


def _transfer(picture: pictures.Picture) -> tuple[color.Transfer, str]:
  """The transfer curve of a picture, and a note if sRGB had to be assumed."""
  try:
    return picture.transfer, ''
  except ValueError as error:
    return color.SRGB, f'{error}: sRGB is assumed'


def _overdone(found: diagnosis.Diagnosis, changed: diagnosis.Change) -> bool:
  """Whether a result looks as if the PSF was wrong."""
  sharper = found.sharpness_after > MUCH_SHARPER * found.sharpness_before
  return sharper and changed.clipped > MUCH_CLIPPED * changed.count * len(changed.before)


def size_to_restore(path: Path, crop: Crop | None = None) -> tuple[int, int]:
  """(height, width) to restore; raises as `pictures.size`, ValueError if the crop is outside."""
  height, width = pictures.size(path)
  if crop and (crop[0] + crop[2] > width or crop[1] + crop[3] > height):
    shown = ','.join(map(str, crop))
    raise ValueError(f'crop {shown} exceeds the picture of {width}x{height} pixels')
  return (crop[3], crop[2]) if crop else (height, width)


def _line(error: Exception, job: jobs.Job) -> str:
  """The first line of an error, or its type if it has none; names any file but the input."""
  if isinstance(error, OSError) and error.strerror:
    path = pathlib.Path(error.filename or job.source)
    path = job.target if path.suffix == '.part' else path  # the partly written result
    return error.strerror if path == job.source else f'{path}: {error.strerror}'
  return next(iter(str(error).splitlines()), '') or type(error).__name__
