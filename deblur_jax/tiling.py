"""Applies a function to images of any size: padding, tiles, self-ensemble.

Works on the host, in numpy, around any batched function `[b h w c] -> [b h w c]`. Images are
channels last, of whatever dtype and range the function takes. Nothing clips.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from deblur_jax.types import Needs

WHOLE_PIXELS = 1280 * 1024
"""Images of up to this many pixels are not tiled; it bounds the memory that a function needs."""

TILE = {'exact': 512, 'approximate': 1024}
"""Longest side of a tile; approximate tiles are better if larger, so up to `WHOLE_PIXELS`."""

BLEND = {'exact': 0, 'approximate': 32}
"""Pixels over which neighboring tiles are blended; exact tiles agree and need no blending."""


class Images(Protocol):
  """Images `[b h w c]`: an array, or an object that returns arrays of the rows requested."""

  @property
  def shape(self) -> tuple[int, ...]:
    """(b, h, w, c)"""
    ...

  def __getitem__(self, part: Any, /) -> Any:
    """`[b h w c]` for a slice of images, optionally with a slice of rows."""
    ...


def round_up(size: int, multiple: int) -> int:
  """The smallest multiple of `multiple` that is at least `size`."""
  return -(-size // multiple) * multiple


def pad(images: np.ndarray, height: int, width: int) -> np.ndarray:
  """`images` `[... h w c]` padded to `[... height width c]` by reflection at bottom and right.

  Reflects repeatedly if needed, so any size is possible; a single row or column is repeated.
  Raises ValueError if the given size is smaller than the images.
  """
  if height < images.shape[-3] or width < images.shape[-2]:
    raise ValueError(f'cannot pad {images.shape[-3:-1]} to the smaller {(height, width)}')
  return _cut(images, 0, 0, height, width)


def side(needs: Needs, tile: int | None = None) -> int:
  """The longest side of a tile: `tile`, or a default for `needs`, rounded up to the multiple.

  Raises ValueError if the method cannot be tiled or `tile` is too small to hold the context.
  """
  if needs.tiling not in TILE:
    raise ValueError('this method requires the whole picture at once: omit the tile size')
  if needs.side:
    if tile not in (None, needs.side):
      raise ValueError(f'this method requires tiles of {needs.side} pixels, got {tile}')
    return needs.side
  overlap = _overlap(needs)
  if tile is None:
    tile = max(TILE[needs.tiling], 2 * overlap)
  elif tile < overlap + needs.multiple:
    least = overlap + needs.multiple
    raise ValueError(f'a tile of {tile} pixels is too small: this method requires at least {least}')
  return round_up(tile, needs.multiple)


def tile_shape(
  height: int, width: int, needs: Needs, *, tile: int | None = None
) -> tuple[int, int]:
  """(height, width) of the tiles of an image of this size.

  As many tiles as with `side`, but no longer than needed to cover the image.
  """
  most, overlap = side(needs, tile), _overlap(needs)
  if needs.side:
    return most, most

  def length(size: int) -> int:
    tiles = max(-(-(size - overlap) // (most - overlap)), 1)
    return round_up(-(-(size - overlap) // tiles) + overlap, needs.multiple)

  return length(height), length(width)


def fits(height: int, width: int, needs: Needs, *, tile: int | None = None) -> bool:
  """Whether an image of this size is processed whole.

  It is if the method cannot be tiled, if it is no larger than one tile, or, unless the tile size is
  set by `tile` or `needs.side`, if it has at most `WHOLE_PIXELS`.
  """
  if tile is None and not needs.side and (needs.tiling == 'none' or height * width <= WHOLE_PIXELS):
    return True
  return max(height, width) <= side(needs, tile)


def count(
  height: int,
  width: int,
  needs: Needs,
  *,
  tile: int | None = None,
) -> int:
  """How many tiles `bands` cuts an image of this size into; 1 if it is processed whole."""
  rows, columns = _cuts((1, height, width), needs, tile)
  return len(rows) * len(columns)


def bands(
  restore: Callable[[np.ndarray], Any],
  images: Images,
  needs: Needs,
  *,
  tile: int | None = None,
) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
  """Yields `((images, rows), restored)`, float32 `[b r w c]`, for successive bands of rows.

  Holds one row of tiles at a time, so memory is bounded for any image size. `images` is `[b h w c]`
  of any dtype, and `restore` gets tiles of that dtype. Tiles are cut from the images padded to
  `needs.multiple`, and the last ones end at the border, so tiles at the border see the same padding
  as the whole image would. All tiles of an image have the same shape, `tile_shape`.
  """
  if 0 in images.shape:
    raise ValueError(f'the image has no pixels: shape {images.shape}')
  if images.shape[0] > 1 and not _whole(images.shape, needs, tile):
    for i in range(images.shape[0]):
      for (_, rows), restored in bands(restore, images[i : i + 1], needs, tile=tile):
        yield (slice(i, i + 1), rows), restored
    return
  height, width = images.shape[1:3]
  rows, columns = _cuts(images.shape, needs, tile)
  ends = [start for start, _ in rows[1:]] + [height]
  carried = None
  for (top, weights), end in zip(rows, ends, strict=True):
    band = _band(restore, images, top, weights, columns)
    if carried is not None:
      band[:, : carried.shape[1]] += carried
    yield (slice(None), slice(top, end)), band[:, : end - top, :width]
    carried = band[:, end - top :]


def tiled(
  restore: Callable[[np.ndarray], Any],
  image: np.ndarray,
  needs: Needs,
  *,
  tile: int | None = None,
) -> np.ndarray:
  """`restore` of an image `[h w c]` or images `[b h w c]` of any size: float32, the same shape.

  Whole up to `WHOLE_PIXELS`; beyond that (or beyond `tile`, if given) in overlapping tiles of one
  shape with `needs.halo` pixels of context. If `needs.tiling` is 'exact', the result is that of the
  whole image; if it is 'approximate', neighboring tiles are blended.
  """
  image = np.asarray(image)
  if image.ndim not in (3, 4):
    raise ValueError(f'expected an image [h w c] or images [b h w c], got shape {image.shape}')
  images = image if image.ndim == 4 else image[None]
  result = np.empty(images.shape, np.float32)
  for where, restored in bands(restore, images, needs, tile=tile):
    result[where] = restored
  return result.reshape(image.shape)


def smaller_when_out_of_memory(
  restore: Callable[[np.ndarray], Any], needs: Needs, note: Callable[[str], None]
) -> Callable[[np.ndarray], np.ndarray]:
  """`restore` that halves its tiles when it runs out of memory, down to the smallest possible.

  Calls `note` with a message at every halving. It keeps the size that fit, so make a new one for
  every picture. Raises MemoryError if even the smallest tile does not fit.
  """
  limit = None

  def run(images: np.ndarray) -> np.ndarray:  # [b h w c]
    nonlocal limit
    longest = max(images.shape[1:3])
    if limit is None or longest <= limit:
      try:
        return np.asarray(restore(images))
      except Exception as error:
        if not _out_of_memory(error):
          raise
      height, width = images.shape[1:3]
      if needs.tiling == 'none' or needs.side or longest // 2 < _overlap(needs) + needs.multiple:
        raise MemoryError(f'out of memory even with tiles of {width}x{height} pixels')
      limit = side(needs, longest // 2)
      note(f'out of memory with tiles of {width}x{height}: reduced to at most {limit} pixels')
    return tiled(run, images, needs, tile=limit)

  return run


def self_ensemble(restore: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
  """The mean of `restore` over the four rotations of an image and of its mirror image.

  Costs eight times as much; images that are not square run in two shapes.
  """

  def ensemble(images: np.ndarray) -> np.ndarray:  # [b h w c]
    return np.asarray(sum(turned(restore, images)) / 8)

  return ensemble


def turned(restore: Callable[[np.ndarray], Any], images: np.ndarray) -> Iterator[np.ndarray]:
  """Yields what `restore` makes of each of the eight orientations of `images`, turned back."""
  for flip in (False, True):
    for turns in range(4):
      given = np.rot90(images[:, :, ::-1] if flip else images, turns, (1, 2))
      restored = np.rot90(np.asarray(restore(np.ascontiguousarray(given))), -turns, (1, 2))
      yield restored[:, :, ::-1] if flip else restored


def _mirrored(start: int, count: int, size: int) -> np.ndarray:
  """Indices `start, start + 1, ...` into `size` pixels padded by reflection."""
  period = max(2 * (size - 1), 1)
  index = np.arange(start, start + count) % period
  return np.minimum(index, period - index) if size > 1 else np.zeros(count, int)


def _cut(images: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
  rows = _mirrored(top, height, images.shape[-3])
  columns = _mirrored(left, width, images.shape[-2])
  return images[..., rows[:, None], columns, :]


def _overlap(needs: Needs) -> int:
  """By how much neighboring tiles overlap: the context of both, and the blended pixels."""
  return round_up(2 * needs.halo + BLEND[needs.tiling], needs.multiple)


def _places(length: int, size: int, needs: Needs) -> list[tuple[int, np.ndarray]]:
  """Where tiles start along one axis, and their weights, which add up to 1 everywhere."""
  if length <= size:
    return [(0, np.ones(length, np.float32))]
  blend = BLEND[needs.tiling]
  starts = [*range(0, length - size, size - _overlap(needs)), length - size]
  ramp = np.sin((np.arange(blend) + 0.5) / max(blend, 1) * np.pi / 2) ** 2
  fade = np.ones(size)
  fade[: needs.halo] = 0
  fade[needs.halo : needs.halo + blend] = ramp
  weights = np.ones((len(starts), size))
  weights[1:] *= fade
  weights[:-1] *= fade[::-1]
  total = np.zeros(length)
  for start, weight in zip(starts, weights, strict=True):
    total[start : start + size] += weight
  return [
    (start, (weight / total[start : start + size]).astype(np.float32))
    for start, weight in zip(starts, weights, strict=True)
  ]


def _whole(shape: Sequence[int], needs: Needs, tile: int | None) -> bool:
  """Whether images `[b h w ...]` are processed whole."""
  return fits(shape[0] * shape[1], shape[2], needs, tile=tile)


def _cuts(shape: Sequence[int], needs: Needs, tile: int | None) -> tuple[list, list]:
  """Starts and weights of the tiles of images `[b h w ...]`: of rows, and of columns."""
  height, width = shape[1:3]
  tall, wide = (max(round_up(size, needs.multiple), needs.side) for size in (height, width))
  whole = _whole(shape, needs, tile)
  sides = (tall, wide) if whole else tile_shape(height, width, needs, tile=tile)
  rows, columns = _places(tall, sides[0], needs), _places(wide, sides[1], needs)
  # Tiles that lie wholly in the padding are skipped.
  return [row for row in rows if row[0] < shape[1]], [one for one in columns if one[0] < shape[2]]


def _band(restore, images, top, row_weights, columns) -> np.ndarray:
  """The weighted sum of one row of tiles: `[b len(row_weights) w c]`."""
  rows = _mirrored(top, len(row_weights), images.shape[1])
  strip = images[:, rows.min() : rows.max() + 1]
  rows = (rows - rows.min())[:, None]
  band = None
  for left, weights in columns:
    across = _mirrored(left, len(weights), images.shape[2])
    tile = np.asarray(restore(strip[:, rows, across]))
    if band is None:
      wide = columns[-1][0] + len(columns[-1][1])
      band = np.zeros((*tile.shape[:2], wide, tile.shape[-1]), np.float32)
    band[:, :, left : left + len(weights)] += tile * (row_weights[:, None] * weights)[..., None]
  assert band is not None  # `columns` is never empty
  return band


def _out_of_memory(error: Exception) -> bool:
  """Whether an error, of numpy or of any JAX backend, means out of memory."""
  return isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error)
