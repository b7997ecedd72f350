"""Photographs in, photographs out, by any method: numpy arrays, files and folders.

Colors are what a method sees: grey is repeated into three channels and comes back as the luma of
the result (Rec. 601), alpha is set aside and comes back bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import os
import pathlib
import time
from typing import NamedTuple, Protocol

import numpy as np

from deblur_jax import pictures, tiling, zoo

Path = str | os.PathLike[str]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. 601; adds up to 1, so that a result that stayed grey is kept as it is."""

MOST_FLOAT = 16
"""A float image with larger values is one in [0, 255] or [0, 65535]."""


@dataclasses.dataclass(frozen=True)
class Restorer:
  """A method applied to images as people have them. Keeps no state: safe to share among threads."""

  method: zoo.Method
  tile: int | None = None
  """Side of the tiles; by itself where None."""
  self_ensemble: bool = False
  """Whether to average over turned and mirrored copies, in eight times the time."""

  def __call__(self, image: np.ndarray) -> np.ndarray:
    """The restored image, of the dtype and shape of `image`.

    `image` is `[h w]`, `[h w c]` or `[b h w c]` with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB,
    alpha) channels, uint8, uint16 or float in [0, 1]. Floats are not clipped. Raises ValueError for
    any other image.
    """
    image = np.asarray(image)
    images = _batched(image)
    result = np.empty_like(images)
    for where, rows in self.parts(images):
      result[where] = rows
    return result.reshape(image.shape)

  def parts(
    self,
    images: np.ndarray,
    *,
    shape: tuple[int, int] | None = None,
    tile: tuple[int, int] | None = None,
  ) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Yields `((images, rows), restored)` until all of `images` `[b h w c]` is done.

    `shape` is a size to pad to first and `tile` the shape of the tiles, so that images of several
    sizes share a compiled function.
    """
    height, width, channels = images.shape[1:]
    restore = self.method.restore
    if self.self_ensemble:
      restore = tiling.self_ensemble(restore)
    restore = _on_colors(restore)
    padded = images if shape is None else tiling.pad(images, *shape)
    pieces = tiling.bands(restore, padded, self.method.needs, tile=tile or self.tile)
    for (which, rows), colors in pieces:
      rows = slice(rows.start, min(rows.stop, height))
      if rows.start >= rows.stop:
        continue
      colors = colors[:, : rows.stop - rows.start, :width]
      restored = images[which, rows].copy()
      restored[..., : channels - _has_alpha(channels)] = _quantized(colors, images.dtype)
      yield (which, rows), restored


def load(name: Path, *, tile: int | None = None, self_ensemble: bool = False) -> Restorer:
  """A function that restores numpy images by the method called `name`.

  `name` is a run's folder or a `.safetensors` file; `tile` and `self_ensemble` as in `Restorer`.
  """
  return _checked(Restorer(zoo.load(name), tile, self_ensemble))


class Outcome(NamedTuple):
  """What became of one file."""

  source: pathlib.Path
  target: pathlib.Path
  status: str
  """'restored', 'skipped' (the target was there) or 'failed'."""
  message: str = ''
  """Why it failed, in one line."""
  seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of all files, in order."""

  outcomes: tuple[Outcome, ...]

  def count(self, status: str) -> int:
    """How many files ended as `status`."""
    return sum(outcome.status == status for outcome in self.outcomes)

  @property
  def restored(self) -> int:
    return self.count('restored')

  @property
  def skipped(self) -> int:
    return self.count('skipped')

  @property
  def failed(self) -> int:
    return self.count('failed')


class Watch(Protocol):
  """Is told how the work goes."""

  def start(self, pixels: int) -> None:
    """There are so many pixels to restore in all."""

  def advance(self, pixels: int) -> None:
    """So many more are done, or will not be."""

  def finish(self, outcome: Outcome) -> None:
    """A file is done with."""


class Job(NamedTuple):
  """A file to restore, and where the result goes."""

  source: pathlib.Path
  target: pathlib.Path
  problem: str = ''
  """Why it cannot be, in one line."""


def restore_files(
  inputs: Iterable[Path],
  output: Path,
  restorer: Restorer,
  *,
  recursive: bool = False,
  overwrite: bool = False,
  watch: Watch | None = None,
) -> Report:
  """Restores files and the pictures in folders into the folder `output`, under the same names.

  Folders inside folders are left out unless `recursive`, which mirrors the tree. What is in
  `output` already is skipped unless `overwrite`; an input is never overwritten. A file that cannot
  be restored is told in the report and the rest is done. Results appear complete or not at all.
  Pictures of many sizes run in at most three shapes, and one more for tiles.
  """
  jobs = plan(inputs, output, recursive=recursive)
  outcomes: dict[Job, Outcome] = {}

  def finish(job: Job, status: str, message: str = '', seconds: float = 0.0) -> None:
    outcomes[job] = Outcome(job.source, job.target, status, message, seconds)
    if watch:
      watch.finish(outcomes[job])

  sizes = _sizes(jobs, overwrite, finish)
  shapes = _shapes(list(sizes.values()), restorer)
  if watch:
    watch.start(sum(height * width for height, width in sizes.values()))
  for job, size in sizes.items():
    begin, left = time.monotonic(), size[0] * size[1]
    try:
      for rows in _restore_file(job, restorer, *shapes[size]):
        left -= rows * size[1]
        if watch:
          watch.advance(rows * size[1])
    except Exception as error:  # One bad file must not end the work on a thousand others.
      if watch and left:
        watch.advance(left)
      finish(job, 'failed', _line(error))
    else:
      finish(job, 'restored', seconds=time.monotonic() - begin)
  return Report(tuple(outcomes[job] for job in jobs))


def plan(inputs: Iterable[Path], output: Path, *, recursive: bool = False) -> list[Job]:
  """The files that `inputs` (files and folders) stand for, each once, with the place of its result.

  A job that would overwrite an input or another's result bears the problem.
  """
  output = pathlib.Path(output)
  pairs: dict[pathlib.Path, tuple[pathlib.Path, pathlib.Path]] = {}
  for given in map(pathlib.Path, inputs):
    if given.is_dir():
      for source in _pictures_in(given, recursive):
        if output.resolve() == given.resolve() or output.resolve() not in source.resolve().parents:
          pairs.setdefault(source.resolve(), (source, output / source.relative_to(given)))
    else:
      pairs.setdefault(given.resolve(), (given, output / given.name))
  jobs, taken = [], {}
  for source, target in pairs.values():
    place = target.resolve()
    problem = ''
    if not source.exists():
      problem = 'no such file or folder'
    elif place in pairs:
      problem = f'would overwrite the input {pairs[place][0]}: give another output folder'
    elif place in taken:
      problem = f'would overwrite the result of {taken[place]}: give another output folder'
    taken.setdefault(place, source)
    jobs.append(Job(source, target, problem))
  return jobs


def _sizes(jobs: Iterable[Job], overwrite: bool, finish: Callable) -> dict[Job, tuple[int, int]]:
  """(height, width) of the jobs that are to be done; `finish` is told of all others."""
  sizes = {}
  for job in jobs:
    if job.problem:
      finish(job, 'failed', job.problem)
    elif job.target.exists() and not overwrite:
      finish(job, 'skipped')
    else:
      try:
        sizes[job] = pictures.size(job.source)
      except Exception as error:
        finish(job, 'failed', _line(error))
  return sizes


def _restore_file(job: Job, restorer: Restorer, shape, tile) -> Iterator[int]:
  """Yields how many more rows are done; the file is written at the end."""
  picture = pictures.read(job.source)
  result = np.empty_like(picture.pixels)
  for (_, rows), restored in restorer.parts(picture.pixels[None], shape=shape, tile=tile):
    result[rows] = restored[0]
    yield rows.stop - rows.start
  job.target.parent.mkdir(parents=True, exist_ok=True)
  pictures.write(job.target, result, picture)


def _shapes(sizes: Sequence[tuple[int, int]], restorer: Restorer) -> dict:
  """(shape to pad to, shape of tiles or None) for each size: a few buckets, and one tile shape."""
  needs, limit = restorer.method.needs, restorer.tile
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


def _pictures_in(folder: pathlib.Path, recursive: bool) -> list[pathlib.Path]:
  """The pictures in a folder, by name; hidden files are left out."""
  found = folder.rglob('*') if recursive else folder.iterdir()
  return sorted(
    path
    for path in found
    if path.suffix.lower() in pictures.SUFFIXES and path.name[0] != '.' and path.is_file()
  )


def _batched(image: np.ndarray) -> np.ndarray:
  """`image` as `[b h w c]`, or ValueError."""
  if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != 'f':
    raise ValueError(f'images are uint8, uint16 or float in [0, 1], not {image.dtype}')
  if not image.size:
    raise ValueError(f'an image without pixels: shape {image.shape}')
  if image.dtype.kind == 'f' and np.max(image) > MOST_FLOAT:
    raise ValueError(f'float images are in [0, 1], but the largest value is {np.max(image):g}')
  if image.ndim == 2:
    return image[None, :, :, None]
  if image.ndim not in (3, 4) or image.shape[-1] > 4:
    raise ValueError(
      f'images are [h w], [h w c] or [b h w c] with 1 to 4 channels, not {list(image.shape)}'
    )
  return image if image.ndim == 4 else image[None]


def _has_alpha(channels: int) -> bool:
  return channels in (2, 4)


def _on_colors(restore: Callable) -> Callable[[np.ndarray], np.ndarray]:
  """`restore` for images as stored: `[b h w 1..4]` of any dtype -> `[b h w 1 or 3]` float32."""

  def run(images: np.ndarray) -> np.ndarray:
    channels = images.shape[-1]
    colors = images[..., : channels - _has_alpha(channels)].astype(np.float32)
    if images.dtype.kind == 'u':
      colors /= np.iinfo(images.dtype).max
    restored = np.asarray(restore(np.repeat(colors, 3, -1) if channels < 3 else colors))
    if not np.isfinite(restored).all():
      raise ValueError('the method returned values that are not finite')
    return (restored @ LUMA)[..., None] if channels < 3 else restored

  return run


def _quantized(colors: np.ndarray, dtype: np.dtype) -> np.ndarray:
  if dtype.kind == 'f':
    return colors.astype(dtype)
  most = np.iinfo(dtype).max
  return np.rint(np.clip(colors, 0, 1) * most).astype(dtype)


def _checked(restorer: Restorer) -> Restorer:
  """`restorer`, unless its tile size is wrong: better told before any work than after."""
  if restorer.tile is not None:
    tiling.side(restorer.method.needs, restorer.tile)
  return restorer


def _line(error: Exception) -> str:
  """The first line of an error, or its name where it has none."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  return next(iter(str(error).splitlines()), '') or type(error).__name__
