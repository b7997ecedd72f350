"""Images of any size for functions of a few sizes: padding, shape buckets, tiles, self-ensemble.

Works on the host, in numpy, around a batched function `[b h w c] -> [b h w c]`, and knows no
network. Images are channels last; dtype and range are the function's affair. Nothing clips.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from deblur_jax.types import Needs

WHOLE_PIXELS = 1280 * 1024
"""Up to this many pixels go through in one piece; it bounds the memory that a function needs."""

TILE = {'exact': 512, 'approximate': 1024}
"""Longest side of a tile; where whole-image statistics enter, as large as `WHOLE_PIXELS` allows."""

BLEND = {'exact': 0, 'approximate': 32}
"""Pixels over which neighboring tiles fade into each other; tiles that agree need no fading."""

MOST_SHAPES = 256
"""`buckets` rounds sizes more coarsely until at most this many differ, to stay fast."""


class Images(Protocol):
  """Images `[b h w c]`: an array, or what gives arrays of the rows that it is asked for."""

  @property
  def shape(self) -> tuple[int, ...]:
    """(b, h, w, c)"""
    ...

  def __getitem__(self, part: Any, /) -> Any:
    """`[b h w c]` for a slice of images, perhaps with a slice of rows."""
    ...


def round_up(size: int, multiple: int) -> int:
  """The smallest multiple of `multiple` that is at least `size`."""
  return -(-size // multiple) * multiple


def pad(images: np.ndarray, height: int, width: int) -> np.ndarray:
  """`images` `[... h w c]` continued to `[... height width c]` by reflection at bottom and right.

  Reflects as often as it takes, so that any size will do; a single row or column is repeated.
  Raises ValueError where the given size is smaller than the images.
  """
  if height < images.shape[-3] or width < images.shape[-2]:
    raise ValueError(f'cannot pad {images.shape[-3:-1]} to the smaller {(height, width)}')
  return _cut(images, 0, 0, height, width)


def buckets(
  sizes: Iterable[tuple[int, int]], multiple: int = 1, most: int = 3
) -> dict[tuple[int, int], tuple[int, int]]:
  """A padded (height, width) for each (height, width), at most `most` different ones.

  Padded sides are multiples of `multiple`. The total padded area, counting a size as often as it
  occurs, is the least that merging the cheapest pair of shapes, again and again, can find.
  """
  counts = Counter((int(height), int(width)) for height, width in sizes)
  if most < 1 or multiple < 1:
    raise ValueError(f'most and multiple must be at least 1, got {most} and {multiple}')
  grid = multiple
  while len(shapes := _rounded(counts, grid)) > MOST_SHAPES:
    grid *= 2
  boxes = _merged(shapes, most)
  while True:
    chosen = {size: _smallest(boxes, size) for size in counts}
    tight = {_hull((size for size in counts if chosen[size] == box), multiple) for box in boxes}
    if (tight := sorted(tight - {(0, 0)})) == sorted(boxes):
      return chosen
    boxes = tight


def side(needs: Needs, tile: int | None = None) -> int:
  """The longest side of a tile: `tile`, or one chosen for `needs`, rounded up to the multiple.

  Raises ValueError where tiles make no sense or `tile` is too small to hold the context.
  """
  if needs.tiling not in TILE:
    raise ValueError('this method needs the whole picture at once: leave out the tile size')
  if needs.side:
    if tile not in (None, needs.side):
      raise ValueError(f'this method takes tiles of {needs.side} pixels only, not of {tile}')
    return needs.side
  overlap = _overlap(needs)
  if tile is None:
    tile = max(TILE[needs.tiling], 2 * overlap)
  elif tile < overlap + needs.multiple:
    least = overlap + needs.multiple
    raise ValueError(f'a tile of {tile} pixels is too small: this method takes at least {least}')
  return round_up(tile, needs.multiple)


def tile_shape(
  height: int, width: int, needs: Needs, *, tile: int | None = None
) -> tuple[int, int]:
  """(height, width) of the tiles of an image of this size: as many as with `side`, no longer than
  it takes to cover the image.
  """
  most, overlap = side(needs, tile), _overlap(needs)
  if needs.side:
    return most, most

  def length(size: int) -> int:
    tiles = max(-(-(size - overlap) // (most - overlap)), 1)
    return round_up(-(-(size - overlap) // tiles) + overlap, needs.multiple)

  return length(height), length(width)


def fits(height: int, width: int, needs: Needs, *, tile: int | None = None) -> bool:
  """Whether an image of this size goes through in one piece.

  It does where tiles make no sense, where it is no larger than one tile, and, unless a tile size
  is asked for or given by `needs.side`, up to `WHOLE_PIXELS`.
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
  """How many tiles `bands` cuts an image of this size into; 1 if it goes through whole."""
  rows, columns = _cuts((1, height, width), needs, tile)
  return len(rows) * len(columns)


def bands(
  restore: Callable[[np.ndarray], Any],
  images: Images,
  needs: Needs,
  *,
  tile: int | None = None,
) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
  """Yields `((images, rows), restored)`, float32 `[b r w c]`, until all rows are done.

  Holds one band of tiles at a time, so that memory stays bounded whatever the size. `images` is
  `[b h w c]` of any dtype and `restore` gets tiles of it as they are. Tiles are cut from the images
  padded to `needs.multiple`, and the last ones end at the border, so a tile at the border sees
  there what the whole image would. All tiles of an image have one shape, which suits the image and
  has no side longer than `tile`.
  """
  if 0 in images.shape:
    raise ValueError(f'an image without pixels: {images.shape}')
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

  In one piece up to `WHOLE_PIXELS`, beyond that (or beyond `tile`, where given) in overlapping
  tiles of one shape with `needs.halo` pixels of context. Where `needs.tiling` is 'exact' the
  result is the whole's; where it is 'approximate', neighboring tiles fade into each other.
  """
  image = np.asarray(image)
  if image.ndim not in (3, 4):
    raise ValueError(f'expected an image [h w c] or images [b h w c], got shape {image.shape}')
  images = image if image.ndim == 4 else image[None]
  result = np.empty(images.shape, np.float32)
  for where, restored in bands(restore, images, needs, tile=tile):
    result[where] = restored
  return result.reshape(image.shape)


def enduring(
  restore: Callable[[np.ndarray], Any], needs: Needs, note: Callable[[str], None]
) -> Callable[[np.ndarray], np.ndarray]:
  """`restore` that halves its pieces when memory runs out, down to the least that there can be.

  `note` is told in a sentence, once for every halving. Made anew for every picture, as it goes on
  with the size that fitted. Raises MemoryError where nothing fits.
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
        raise MemoryError(f'memory ran out even in pieces of {width}x{height} pixels')
      limit = side(needs, longest // 2)
      note(f'memory ran out with pieces of {width}x{height}: cut to at most {limit} pixels')
    return tiled(run, images, needs, tile=limit)

  return run


def self_ensemble(restore: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
  """The mean of `restore` over the four turns of an image and of its mirror image.

  Eight times the work; images that are not square run in two shapes.
  """

  def ensemble(images: np.ndarray) -> np.ndarray:  # [b h w c]
    total = 0.0
    for flip in (False, True):
      for turns in range(4):
        turned = np.rot90(images[:, :, ::-1] if flip else images, turns, (1, 2))
        restored = np.asarray(restore(np.ascontiguousarray(turned)))
        restored = np.rot90(restored, -turns, (1, 2))
        total = total + (restored[:, :, ::-1] if flip else restored)
    return np.asarray(total / 8)

  return ensemble


def _mirrored(start: int, count: int, size: int) -> np.ndarray:
  """Indices `start, start + 1, ...` into `size` pixels that are continued by reflection."""
  period = max(2 * (size - 1), 1)
  index = np.arange(start, start + count) % period
  return np.minimum(index, period - index) if size > 1 else np.zeros(count, int)


def _cut(images: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
  rows = _mirrored(top, height, images.shape[-3])
  columns = _mirrored(left, width, images.shape[-2])
  return images[..., rows[:, None], columns, :]


def _overlap(needs: Needs) -> int:
  """By how much neighboring tiles overlap: the context of both, and what they fade over."""
  return round_up(2 * needs.halo + BLEND[needs.tiling], needs.multiple)


def _places(length: int, size: int, needs: Needs) -> list[tuple[int, np.ndarray]]:
  """Where tiles start along one axis, and their weights there, which add up to 1 everywhere."""
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
  """Whether images `[b h w ...]` go through whole."""
  return fits(shape[0] * shape[1], shape[2], needs, tile=tile)


def _cuts(shape: Sequence[int], needs: Needs, tile: int | None) -> tuple[list, list]:
  """Where the tiles of images `[b h w ...]` start, and their weights: of rows, and of columns."""
  height, width = shape[1:3]
  tall, wide = (max(round_up(size, needs.multiple), needs.side) for size in (height, width))
  whole = _whole(shape, needs, tile)
  sides = (tall, wide) if whole else tile_shape(height, width, needs, tile=tile)
  rows, columns = _places(tall, sides[0], needs), _places(wide, sides[1], needs)
  # What lies beyond the image is not asked for.
  return [row for row in rows if row[0] < shape[1]], [one for one in columns if one[0] < shape[2]]


def _band(restore, images, top, row_weights, columns) -> np.ndarray:
  """One row of tiles, weighted and added up: `[b len(row_weights) w c]`."""
  rows = _mirrored(top, len(row_weights), images.shape[1])
  strip = images[:, rows.min() : rows.max() + 1]
  rows = (rows - rows.min())[:, None]
  band = None
  for left, weights in columns:
    across = _mirrored(left, len(weights), images.shape[2])
    piece = np.asarray(restore(strip[:, rows, across]))
    if band is None:
      wide = columns[-1][0] + len(columns[-1][1])
      band = np.zeros((*piece.shape[:2], wide, piece.shape[-1]), np.float32)
    band[:, :, left : left + len(weights)] += piece * (row_weights[:, None] * weights)[..., None]
  assert band is not None  # `columns` is never empty
  return band


def _out_of_memory(error: Exception) -> bool:
  """Whether an error, of numpy or of any of JAX's backends, says that memory ran out."""
  return isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error)


def _rounded(counts: Counter, grid: int) -> Counter:
  shapes: Counter = Counter()
  for (height, width), count in counts.items():
    shapes[round_up(height, grid), round_up(width, grid)] += count
  return shapes


def _merged(shapes: Counter, most: int) -> list[tuple[int, int]]:
  """At most `most` boxes that hold all shapes: merges the pair that adds the least area."""
  boxes = np.array([(*shape, count) for shape, count in shapes.items()], np.int64).reshape(-1, 3)
  while len(boxes) > most:
    height, width, count = boxes.T
    area = height * width * count
    added = np.maximum.outer(height, height) * np.maximum.outer(width, width)
    added = (added * np.add.outer(count, count) - np.add.outer(area, area)).astype(float)
    np.fill_diagonal(added, np.inf)
    i, j = np.unravel_index(np.argmin(added), added.shape)
    box = (*np.maximum(boxes[i, :2], boxes[j, :2]), count[i] + count[j])
    boxes = np.concatenate([np.delete(boxes, [i, j], axis=0), [box]])
  return [(int(height), int(width)) for height, width, _ in boxes]


def _smallest(boxes: Sequence[tuple[int, int]], size: tuple[int, int]) -> tuple[int, int]:
  """The smallest box that holds `size`."""
  holds = [box for box in boxes if box[0] >= size[0] and box[1] >= size[1]]
  return min(holds, key=lambda box: (box[0] * box[1], box))


def _hull(sizes: Iterable[tuple[int, int]], multiple: int) -> tuple[int, int]:
  """The smallest box that holds all `sizes`; (0, 0) for none."""
  heights, widths = tuple(zip(*sizes, strict=True)) or ((0,), (0,))
  return round_up(max(heights), multiple), round_up(max(widths), multiple)
