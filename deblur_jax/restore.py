"""Photographs in, photographs out, by any method: numpy arrays and files.

Colors are what a method sees: grey is repeated into three channels and comes back as the luma of
the result (Rec. 601), alpha is set aside and comes back bit for bit.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import operator
import os
import pathlib
import time
from typing import Any

import numpy as np

from deblur_jax import diagnosis, jobs, pictures, tiling, zoo
from deblur_jax.blur import light
from deblur_jax.pictures import as_float
from deblur_jax.solvers import WITHOUT_PSF, blind

Path = str | os.PathLike[str]
Note = Callable[[str], None]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. 601; adds up to 1, so that a result that stayed grey is kept as it is."""

MOST_FLOAT = 16
"""A float image with larger values is one in [0, 255] or [0, 65535]."""

LOOKED_AT = 2048
"""Side of the middle of a picture in which a PSF is looked for."""

DOUBTFUL = 0.5
"""Confidence below which a PSF that was estimated is likely wrong, see `blind.Estimate`."""

MUCH_SHARPER, MUCH_CLIPPED = 7.0, 0.05
"""Times as sharp and share of values clipped beyond which, both together, a PSF is likely wrong: so
were 95 of 105 results of crops of Kodak's for wrong ones, and 2 of 72 for the right one."""

AT_THE_EDGE = 0.01
"""Part of a PSF in its outermost pixels above which it is likely cut off."""


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
  find: Callable[[np.ndarray], blind.Estimate] | None = None
  """Estimates the PSF of a picture `[h w c]` in linear light; None where that is not wanted."""

  def __call__(self, image: np.ndarray, *, mask: np.ndarray | None = None) -> np.ndarray:
    """The restored image, of the dtype and shape of `image`.

    `image` is `[h w]`, `[h w c]` or `[b h w c]` with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB,
    alpha) channels, uint8, uint16 or float in [0, 1]. Floats are not clipped. `mask` `[h w]`, of
    one of these types or bool, says where to restore (white) and where not (black), and blends in
    between. Raises ValueError for any other image or mask.
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
    if self.find and len(images) > 1:
      return np.stack([self(one, mask=None if mask is None else mask[0, ..., 0]) for one in images])
    found = self.find_psf(images)
    result = np.empty_like(images)
    for where, rows in self.parts(images, mask=mask, psf=found and found.psf):
      result[where] = rows
    return result.reshape(image.shape).astype(given.dtype, copy=False)

  def find_psf(self, images: tiling.Images) -> blind.Estimate | None:
    """What seems to have blurred the one picture in `images` `[1 h w c]`; None where it is known.

    Looks at the middle of a large picture, in linear light.
    """
    if not self.find:
      return None
    _, height, width, _ = images.shape
    top, left = (max(0, side - LOOKED_AT) // 2 for side in (height, width))
    middle = images[:, top : min(height, top + LOOKED_AT)][0, :, left : left + LOOKED_AT]
    colors = as_float(middle[..., : _colors(middle)])
    found = self.find(light.to_linear(colors))
    return blind.Estimate(np.asarray(found.psf), float(found.confidence))

  def parts(
    self,
    images: tiling.Images,
    *,
    mask: tiling.Images | None = None,
    psf: np.ndarray | None = None,
    shape: tuple[int, int] | None = None,
    tile: tuple[int, int] | None = None,
    note: Note = lambda text: None,
  ) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Yields `((images, rows), restored)` until all of `images` `[b h w c]` is done.

    `mask` is `[1 h w 1]`, `psf` what blurred all images, where it was found out. `shape` is a size
    to pad to first and `tile` the shape of the tiles, so that images of several sizes share a
    compiled function. `note` is told, in sentences, what went otherwise than planned. Raises
    MemoryError where not even the smallest tile fits, and ValueError where values are not finite.
    """
    needs = self.method.needs
    known = {} if psf is None else {'psf': psf}
    restore = functools.partial(self.method.restore, **known)
    restore = tiling.enduring(_finite(restore, self.precise, note), needs, note)
    if self.self_ensemble:
      restore = tiling.self_ensemble(restore)
    pieces = tiling.bands(_on_colors(restore), images, needs, tile=tile or self.tile, shape=shape)
    for (which, rows), colors in pieces:
      restored = np.array(images[which, rows])
      kept = restored[..., : _colors(restored)]
      if mask is not None or self.strength != 1:
        weight = self.strength * (1 if mask is None else as_float(mask[:, rows]))
        before = as_float(kept)
        colors = before + weight * (colors - before)
      kept[...] = _quantized(colors, kept.dtype)
      yield (which, rows), restored


def load(
  name: Path = zoo.DEFAULT,
  *,
  tile: int | None = None,
  self_ensemble: bool = False,
  strength: float = 1.0,
  psf: np.ndarray | int | None = None,
) -> Restorer:
  """A function that restores numpy images by the method called `name`.

  `name` is that of weights in the package (`zoo.shipped`), a run's folder, a `.safetensors` file or
  a classical method (`solvers.SOLVERS`), which takes the `psf` `[kh kw]` that blurred the pictures,
  or the odd side of one that `solvers.blind` is to estimate for each picture; `tile`,
  `self_ensemble` and `strength` as in `Restorer`. Raises FileNotFoundError where there is no such
  method, ValueError where it cannot be used so.
  """
  if not 0 <= strength <= 1:
    raise ValueError(f'the strength is from 0 to 1, not {strength}')
  solver, find = zoo.is_solver(name), None
  if solver and psf is None and name not in WITHOUT_PSF:
    raise ValueError(f'{name} needs the PSF that blurred the pictures')
  if solver and self_ensemble:
    raise ValueError(f'{name} does the same to turned pictures: there is no self-ensemble of it')
  if solver and isinstance(psf, int):
    find = functools.partial(blind.estimate, size=psf)
    method = zoo.load(name)
    method = method._replace(needs=method.needs._replace(halo=2 * psf))
  else:
    find = WITHOUT_PSF[name] if solver and psf is None else None
    method = zoo.load(name, psf=psf)
  if tile is not None:
    tiling.side(method.needs, tile)  # Better told before any work than after.
  precise = None if solver else functools.partial(zoo.load, name, dtype='float32')
  return Restorer(method, tile, self_ensemble, strength, precise, find)


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
  """Whether to do nothing but look."""


def restore_files(
  todo: Sequence[jobs.Job],
  restorer: Restorer,
  options: Options = Options(),
  *,
  watch: jobs.Watch | None = None,
) -> jobs.Report:
  """Restores the files of a plan (see `jobs.plan`), and tells what became of each.

  A file that cannot be restored is told in the report and the rest is done; an input is never
  overwritten. Results appear complete or not at all. Pictures of many sizes run in at most three
  shapes, and one more for tiles, but those of a method that sees to their borders in their own.
  """
  outcomes: dict[jobs.Job, jobs.Outcome] = {}

  def finish(job: jobs.Job, status: str, message: str = '', **more: Any) -> None:
    outcomes[job] = jobs.Outcome(job.source, job.target, status, message, **more)
    if watch:
      watch.finish(outcomes[job])

  sizes = _sizes(todo, options.overwrite, finish)
  shapes = _shapes(list(sizes.values()), restorer)
  if watch:
    watch.start(sum(height * width for height, width in sizes.values()))
  for job, size in sizes.items():
    box, tile = shapes[size]
    needs, limit = restorer.method.needs, tile or restorer.tile
    known = {'size': size, 'tiles': tiling.count(*size, needs, tile=limit, shape=box)}
    if options.dry_run:
      finish(job, 'planned', **known)
      continue
    begin, left = time.monotonic(), size[0] * size[1]

    def advance(rows: int) -> None:
      nonlocal left
      left -= rows * size[1]
      if watch:
        watch.advance(rows * size[1])

    try:
      found = _restore_file(job, restorer, box, tile, options, advance)
    except Exception as error:  # One bad file must not end the work on a thousand others.
      advance(left // size[1])
      finish(job, 'failed', _line(error, job), **known)
    else:
      finish(job, 'restored', seconds=time.monotonic() - begin, **known, **found)
  return jobs.Report(tuple(outcomes[job] for job in todo))


class _Rows:
  """A picture as an array `[1 h w c]` that reads the rows that it is asked for."""

  def __init__(self, picture: pictures.Picture):
    self._picture, self.shape = picture, (1, *picture.shape)

  def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
    start, stop, _ = part[1].indices(self.shape[1])
    return self._picture.rows(start, stop)[None]


def _restore_file(
  job: jobs.Job, restorer: Restorer, box, tile, options: Options, advance: Callable[[int], None]
) -> dict[str, Any]:
  """What is to be told of a file (see `jobs.Outcome`), once its result is written."""
  picture = pictures.read(job.source)
  suffix = job.target.suffix.lower()
  if suffix != job.source.suffix.lower() and pictures.SUFFIXES.get(suffix) != picture.kind:
    fitting = next(one for one, kind in pictures.SUFFIXES.items() if kind == picture.kind)
    raise ValueError(f'pictures stay of their kind: name the result *{fitting}')
  mask = options.mask and _Rows(pictures.read_mask(options.mask, picture.shape[:2]))
  samples = diagnosis.windows(picture.shape, picture.rows)
  notes: Counter[str] = Counter()
  changes = []
  whole = _Rows(picture)
  notes.update((*picture.notes, *pictures.doubts(picture)))
  psf = restorer.find_psf(whole)
  if psf:
    notes.update(_doubts(psf))
  parts = restorer.parts(
    whole,
    mask=mask,
    psf=psf and psf.psf,
    shape=box,
    tile=tile,
    note=lambda text: notes.update([text]),
  )
  with contextlib.closing(pictures.Canvas(picture)) as canvas:
    for (_, rows), restored in parts:
      canvas.append(restored[0])
      changes.append(diagnosis.change(picture.rows(rows.start, rows.stop), restored[0]))
      advance(rows.stop - rows.start)
    result = canvas.picture()
    after = diagnosis.windows(result.shape, result.rows)
    changed = functools.reduce(operator.add, changes)
    found = diagnosis.diagnose(samples, after, changed)
    if restorer.method.needs.borders and _overdone(found, changed):
      notes.update(['the PSF is likely wrong: there is far more in the result than was blurred'])
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if options.compare:
      beside = job.target.with_name(f'{job.target.name}.compare.png')
      pictures.write_side_by_side(beside, picture, result)
    if options.write_psf and psf:
      pictures.write_plane(job.target.with_name(f'{job.target.name}.psf.png'), psf.psf)
    notes.update(pictures.write(job.target, result, picture, strip=options.strip))
  told = [f'{text} ({times} times)' if times > 1 else text for text, times in notes.items()]
  return {'notes': (*told, *found.warnings), 'diagnosis': found, 'psf': psf}


def _doubts(found: blind.Estimate) -> Iterator[str]:
  """What speaks against a PSF that was estimated."""
  if found.confidence < DOUBTFUL:
    yield f'the PSF is doubtful (confidence {found.confidence:.2f}): expect artifacts'
  size = len(found.psf)
  if 1 - found.psf[1:-1, 1:-1].sum() > AT_THE_EDGE:
    yield (
      f'the PSF reaches the edge of the {size} pixels that it may have: the blur is likely larger, '
      f'try --psf auto:{2 * size - 1}'
    )


def _overdone(found: diagnosis.Diagnosis, changed: diagnosis.Change) -> bool:
  """Whether a result looks like what comes of the wrong PSF."""
  sharper = found.sharpness_after > MUCH_SHARPER * found.sharpness_before
  return sharper and changed.clipped > MUCH_CLIPPED * changed.count * len(changed.before)


def _sizes(
  todo: Iterable[jobs.Job], overwrite: bool, finish: Callable
) -> dict[jobs.Job, tuple[int, int]]:
  """(height, width) of the jobs that are to be done; `finish` is told of all others."""
  sizes = {}
  for job in todo:
    if job.problem:
      finish(job, 'failed', job.problem)
    elif job.target.is_dir():
      finish(job, 'failed', f'{job.target} is a folder: there is no place for the result')
    elif job.target.exists() and not overwrite:
      finish(job, 'skipped')
    else:
      try:
        sizes[job] = pictures.size(job.source)
      except Exception as error:
        finish(job, 'failed', _line(error, job))
  return sizes


def _shapes(sizes: Sequence[tuple[int, int]], restorer: Restorer) -> dict:
  """(shape to pad to, shape of tiles) for each size, or None: a few buckets, and one tile shape."""
  needs, limit = restorer.method.needs, restorer.tile
  if needs.borders:
    return dict.fromkeys(sizes, (None, None))
  small = [size for size in sizes if tiling.fits(*size, needs, tile=limit)]
  chosen = {
    size: (box, None)
    for size, box in tiling.buckets(small, needs.multiple).items()
    if tiling.fits(*box, needs, tile=limit)
  }
  large = [size for size in sizes if size not in chosen]
  if large and needs.tiling == 'none':
    return chosen | dict.fromkeys(large, (None, None))
  if large:
    tile = tiling.tile_shape(large, needs, tile=limit)
    chosen |= {size: (tuple(map(max, size, tile)), tile) for size in large}
  return chosen


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
