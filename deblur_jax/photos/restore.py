"""Photographs in, photographs out, by any method: numpy arrays and files.

Colors are what a method sees: grey is repeated into three channels and comes back as the luma of
the result (Rec. 601), alpha is set aside and comes back bit for bit.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import operator
import os
import pathlib
import time
from typing import Any
import warnings

import numpy as np

from deblur_jax import color, methods, tiling, zoo
from deblur_jax.formats import conversion, kinds
from deblur_jax.photos import blind_check, diagnosis, history, interrupt, jobs, pictures
from deblur_jax.photos.pictures import as_float
from deblur_jax.solvers import WITHOUT_PSF, estimate_psf
from deblur_jax.types import Needs

Path = str | os.PathLike[str]
Note = Callable[[str], None]
Crop = tuple[int, int, int, int]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. 601; adds up to 1, so that a result that stayed grey is kept as it is."""

MOST_FLOAT = 16
"""A float image with larger values is one in [0, 255] or [0, 65535]."""

LOOKED_AT = 2048
"""Side of the middle of a picture in which a PSF is looked for."""

FALLBACK_STRENGTH = 0.5
"""Of the default weights for pictures whose PSF is not known. Of 40 real shakes and defocused shots
(GoPro, phones, a camera) none lost more than 0.4 dB with it and the mean gain is 0.6 dB; at full
strength the worst lost 1.2 dB."""

MUCH_SHARPER, MUCH_CLIPPED = 7.0, 0.05
"""Times as sharp and share of values clipped beyond which, both together, a PSF is likely wrong: so
were 95 of 105 results of crops of Kodak's for wrong ones, and 2 of 72 for the right one."""


@dataclasses.dataclass(frozen=True)
class Restorer:
  """A method applied to images as people have them. Keeps no state: safe to share among threads."""

  method: zoo.Method
  tile: int | None = None
  """Side of the tiles; by itself where None."""
  self_ensemble: bool = False
  """Whether to average over turned and mirrored copies, in eight times the time."""
  strength: float = 1.0
  """From 0, the input, to 1, the result."""
  precise: Callable[[], zoo.Method] | None = None
  """Gives the method that does pieces again, in float32, that came back with NaN or infinity."""
  find: Callable[[np.ndarray], estimate_psf.Estimate] | None = None
  """Estimates the PSF of a picture `[h w c]` in linear light; None if that is not wanted."""
  fallback: Callable[[], 'Restorer'] | None = None
  """The method for pictures whose estimated PSF is wrong; they stay as they are if None."""
  force: bool = False
  """Whether an estimated PSF is used even if it is likely wrong."""

  def __call__(self, image: np.ndarray, *, mask: np.ndarray | None = None) -> np.ndarray:
    """The restored image, of the dtype and shape of `image`.

    `image` is `[h w]`, `[h w c]` or `[b h w c]` with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB,
    alpha) channels, uint8, uint16 or float in [0, 1]. Floats are not clipped. `mask` `[h w]`, of
    one of these types or bool, says where to restore (white) and where not (black), and blends in
    between. Raises ValueError for any other image or mask. Warns of an estimated PSF that is likely
    wrong, for which `fallback` is used instead unless `force` is set.
    """
    given = np.asarray(image)
    image = given.astype(given.dtype.newbyteorder('='), copy=False)
    images = _batched(image)
    if mask is not None:
      mask = np.asarray(mask)
      mask = mask.astype(np.float32) if mask.dtype == bool else mask
      if mask.shape != images.shape[1:3]:
        raise ValueError(f'a mask [h w] is of {images.shape[1:3]} here, not {mask.shape}')
      mask = _batched(mask)
    result = np.empty_like(images)
    for i in range(len(images)):  # One by one: no image's result depends on the others.
      one = images[i : i + 1]
      restorer, found, reason = self.judged(one)
      if reason:
        warnings.warn(f'{reason}; force=True uses it all the same', stacklevel=2)
      for rows, restored in restorer.parts(one, mask=mask, psf=found and found.psf):
        result[i, rows] = restored[0]
    return result.reshape(image.shape).astype(given.dtype, copy=False)

  def find_psf(
    self, images: tiling.Images, transfer: color.Transfer = color.SRGB
  ) -> estimate_psf.Estimate | None:
    """What seems to have blurred the one picture in `images` `[1 h w c]`; None if it is given.

    Looks at the middle of a large picture, in linear light.
    """
    if not self.find:
      return None
    found = self.find(transfer.to_linear(middle(images)))
    return estimate_psf.Estimate(np.asarray(found.psf), float(found.confidence))

  def judged(
    self, images: tiling.Images, transfer: color.Transfer = color.SRGB, *, force: bool = False
  ) -> tuple['Restorer', estimate_psf.Estimate | None, str]:
    """(what restores the one picture in `images`, its estimated PSF, why that is not used or '').

    The PSF is None if it is given or not used; the first is `self` if nothing speaks against it.
    """
    found = self.find_psf(images, transfer)
    if found is None or force or self.force:
      return self, found, ''
    reason = blind_check.objection(middle(images), found, transfer)
    if not reason:
      return self, found, ''
    restorer, instead = _fallback(self)
    hint = blind_check.cut_off(found)
    return restorer, None, f'no PSF found ({reason}): {instead}{"; " if hint else ""}{hint}'

  def parts(
    self,
    images: tiling.Images,
    *,
    mask: tiling.Images | None = None,
    psf: np.ndarray | None = None,
    transfer: color.Transfer = color.SRGB,
    note: Note = lambda text: None,
    tick: Callable[[], None] = lambda: None,
  ) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields `(rows, restored [1 r w c])` from top to bottom of the one image in `images`.

    `images` is `[1 h w c]`, `mask` `[1 h w 1]`, `psf` the estimated blur if there is one, and
    `transfer` what light the values stand for, which classical methods use. `note` gets a sentence
    about whatever did not go as planned, `tick` is called after every tile. The image is padded
    only to the method's own multiple, so that its result does not depend on what else is restored.
    Raises MemoryError if not even the smallest tile fits, ValueError if the method returns values
    that are not finite.
    """
    needs = self.method.needs
    known = {} if psf is None else {'psf': psf}
    known |= {'transfer': transfer} if needs.borders else {}  # a classical method
    restore = functools.partial(self.method.restore, **known)
    restore = tiling.smaller_when_out_of_memory(_finite(restore, self.precise, note), needs, note)
    if self.self_ensemble:
      restore = tiling.self_ensemble(restore)
    tiles = _ticking(_on_colors(restore), tick)
    for (which, rows), colors in tiling.bands(tiles, images, needs, tile=self.tile):
      restored = np.array(images[which, rows])
      kept = restored[..., : _colors(restored)]
      if mask is not None or self.strength != 1:
        weight = self.strength * (1 if mask is None else as_float(mask[:, rows]))
        before = as_float(kept)
        colors = before + weight * (colors - before)
      kept[...] = _quantized(colors, kept.dtype)
      yield rows, restored


def middle(images: tiling.Images) -> np.ndarray:
  """The colors `[h w c]`, in [0, 1], of the middle of the first of `images` `[b h w c]`."""
  _, height, width, _ = images.shape
  top, left = (max(0, side - LOOKED_AT) // 2 for side in (height, width))
  part = images[:1, top : min(height, top + LOOKED_AT)][0, :, left : left + LOOKED_AT]
  return as_float(part[..., : _colors(part)])


def load(
  name: Path = methods.DEFAULT,
  *,
  tile: int | None = None,
  self_ensemble: bool = False,
  strength: float = 1.0,
  psf: np.ndarray | int | None = None,
  settings: Mapping[str, Any] | None = None,
  force: bool = False,
) -> Restorer:
  """A function that restores numpy images by the method called `name`.

  `name` is that of weights in the package (`methods.shipped`), a run's folder, a `.safetensors`
  file or a classical method (`solvers.SOLVERS`). A classical method takes the `psf` `[kh kw]` that
  blurred the pictures, or the odd side of a PSF that `solvers.estimate_psf` estimates for each
  picture. `tile`, `self_ensemble`, `strength` and `force` are those of `Restorer`, `settings`
  those of `zoo.load`. Raises FileNotFoundError if there is no such method, ValueError if it cannot
  be used like this.
  """
  if not 0 <= strength <= 1:
    raise ValueError(f'the strength is from 0 to 1, not {strength}')
  solver, find = methods.is_solver(name), None
  if solver and psf is None and name not in WITHOUT_PSF:
    raise ValueError(f'{name} needs the PSF that blurred the pictures')
  if solver and self_ensemble:
    raise ValueError(f'{name} does the same to turned pictures: there is no self-ensemble of it')
  if solver and isinstance(psf, int):
    find = functools.partial(estimate_psf.estimate, size=psf)
    method = zoo.load(name, settings=settings)
    method = method._replace(needs=method.needs._replace(halo=2 * psf))
  else:
    find = WITHOUT_PSF[name] if solver and psf is None else None
    method = zoo.load(name, psf=psf, settings=settings)
  if tile is not None:
    tiling.side(method.needs, tile)  # Better told before any work than after.
  # Kept: a picture may have many tiles that overflow.
  again = functools.partial(zoo.load, name, dtype='float32', settings=settings)
  precise = None if solver else functools.cache(again)
  fallback = None
  if find and methods.DEFAULT in methods.shipped():
    fallback = functools.cache(functools.partial(load, strength=FALLBACK_STRENGTH * strength))
  return Restorer(method, tile, self_ensemble, strength, precise, find, fallback, force)


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
  with contextlib.closing(pictures.Canvas(picture)) as canvas:
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
      pictures.write_side_by_side(beside, picture, result)
    if options.write_psf and psf:
      pictures.write_plane(job.target.with_name(f'{job.target.name}.psf.png'), psf.psf)
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
  return [*lost, *pictures.write(job.target, result, like, **kept)]


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


def _fallback(restorer: Restorer) -> tuple[Restorer, str]:
  """What restores a picture whose PSF is not known, and what to say of it."""
  if restorer.fallback:
    instead = f'{methods.DEFAULT} at strength {FALLBACK_STRENGTH * restorer.strength:g}'
    return restorer.fallback(), f'restored with {instead} instead'
  unchanged = zoo.Method('unchanged', lambda blurred: blurred, Needs())
  return Restorer(unchanged), 'left as it is'


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


def _batched(image: np.ndarray) -> np.ndarray:
  """`image` as `[b h w c]`, or ValueError."""
  if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != 'f':
    raise ValueError(f'images are uint8, uint16 or float in [0, 1], not {image.dtype}')
  if not image.size:
    raise ValueError(f'an image without pixels: shape {image.shape}')
  if image.dtype.kind == 'f' and not np.isfinite(image).all():
    raise ValueError('the image has values that are not finite (NaN or infinity)')
  if image.dtype.kind == 'f' and np.max(image) > MOST_FLOAT:
    raise ValueError(f'float images are in [0, 1], but the largest value is {np.max(image):g}')
  if image.ndim == 2:
    return image[None, :, :, None]
  if image.ndim not in (3, 4) or image.shape[-1] > 4:
    raise ValueError(
      f'images are [h w], [h w c] or [b h w c] with 1 to 4 channels, not {list(image.shape)}'
    )
  return image if image.ndim == 4 else image[None]


def _colors(images: np.ndarray) -> int:
  """How many of the channels are not alpha."""
  return images.shape[-1] - (images.shape[-1] in (2, 4))


def _finite(restore: Callable, precise: Callable[[], zoo.Method] | None, note: Note) -> Callable:
  """`restore`, with what is not finite done again precisely."""

  def run(images: np.ndarray) -> np.ndarray:
    restored = np.asarray(restore(images))
    if np.isfinite(restored).all():
      return restored
    if precise is not None:
      restored = np.asarray(precise().restore(images))
    if not np.isfinite(restored).all():
      raise ValueError('the method returned values that are not finite (NaN or infinity)')
    note('a piece with values that are not finite was done again in float32')
    return restored

  return run


def _ticking(restore: Callable, tick: Callable[[], None]) -> Callable[[np.ndarray], np.ndarray]:
  """`restore`, with a `tick` after every tile; Ctrl-C ends it before the next."""

  def run(images: np.ndarray) -> np.ndarray:
    interrupt.check()
    restored = restore(images)
    tick()
    return restored

  return run


def _on_colors(restore: Callable) -> Callable[[np.ndarray], np.ndarray]:
  """`restore` for images as stored: `[b h w 1..4]` of any dtype -> `[b h w 1 or 3]` float32."""

  def run(images: np.ndarray) -> np.ndarray:
    colors = as_float(images[..., : _colors(images)])
    if colors.shape[-1] == 3:
      return restore(colors)
    return (restore(np.repeat(colors, 3, -1)) @ LUMA)[..., None]

  return run


def _quantized(colors: np.ndarray, dtype: np.dtype) -> np.ndarray:
  if dtype.kind == 'f':
    return colors.astype(dtype)
  most = np.iinfo(dtype).max
  return np.rint(np.clip(colors, 0, 1) * most).astype(dtype)


def _line(error: Exception, job: jobs.Job) -> str:
  """The first line of an error, or its name where it has none; of a file of which it is told."""
  if isinstance(error, OSError) and error.strerror:
    path = pathlib.Path(error.filename or job.source)
    path = job.target if path.suffix == '.part' else path  # what is not yet the result
    return error.strerror if path == job.source else f'{path}: {error.strerror}'
  return next(iter(str(error).splitlines()), '') or type(error).__name__
