"""A few padded shapes for images of many sizes, to limit the number of compilations."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from deblur_jax import tiling

MOST_SHAPES = 256
"""`assign` rounds sizes more coarsely until at most this many differ, to stay fast."""


def assign(
  sizes: Iterable[tuple[int, int]], multiple: int = 1, most: int = 3
) -> dict[tuple[int, int], tuple[int, int]]:
  """A padded (height, width) for each (height, width), at most `most` different ones.

  Padded sides are multiples of `multiple`. Minimizes the total padded area, counting a size as
  often as it occurs, greedily: by repeatedly merging the cheapest pair of shapes. Raises ValueError
  if `most` or `multiple` is less than 1.
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


def _rounded(counts: Counter, grid: int) -> Counter:
  shapes: Counter = Counter()
  for (height, width), count in counts.items():
    shapes[tiling.round_up(height, grid), tiling.round_up(width, grid)] += count
  return shapes


def _merged(shapes: Counter, most: int) -> list[tuple[int, int]]:
  """At most `most` boxes that hold all shapes: repeatedly merges the pair that adds least area."""
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
  """The smallest box that holds all `sizes`; (0, 0) if there are none."""
  heights, widths = tuple(zip(*sizes, strict=True)) or ((0,), (0,))
  return tiling.round_up(max(heights), multiple), tiling.round_up(max(widths), multiple)
