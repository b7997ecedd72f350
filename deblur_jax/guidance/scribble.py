"""Where to restore, from a few strokes that spread over a picture up to its edges.

The page does the same as `spread` in `serve/page/scribble.js`.
"""

import numpy as np

SIDE = 256
"""Longest side of the reduced picture in which strokes spread."""

EDGE = 12.0
"""Cost of crossing an edge, by the square of its contrast (summed over the colors); to cross the
whole picture without an edge costs 1. The noise of a reduced photograph costs next to nothing, and
an edge of a tenth of the range as much as a third of the picture."""

REACH = 0.3
"""How far, in these costs, strokes of one kind spread if there are none of the other."""

RADIUS, SMOOTH = 3, 1e-3
"""Of the guided filter: half its window in reduced pixels, and the variance of the guide below
which it only smooths."""


STRONG = 60
"""Least difference of green and red, of 255, of a stroke's color."""

CHANGED = 40
"""Least difference from the picture, of 255, of a stroke on a copy of it."""


def mask_from_strokes(image: np.ndarray, strokes: np.ndarray) -> np.ndarray:
  """The mask that strokes mean, uint8 `[h w]`: 255 to restore, 0 to leave alone, see `spread`.

  `image` is uint8 `[h w 3]`. `strokes` is a picture of the same size with green and red strokes:
  `[h w 4]`, drawn on transparent, or `[h w 3]`, drawn on a copy of the picture or on white. Raises
  ValueError if there are none, or the sizes differ.
  """
  if strokes.shape[:2] != image.shape[:2]:
    (height, width), (tall, wide) = strokes.shape[:2], image.shape[:2]
    raise ValueError(f'the strokes are {width}x{height} pixels, but the picture is {wide}x{tall}')
  green, red = drawn(image, strokes)
  if not green.any() and not red.any():
    raise ValueError('no strokes found: draw in green what to restore, in red what to leave alone')
  mask = spread(image / np.float32(255), green, red)
  mask = np.clip((mask - 0.2) / 0.6, 0, 1)  # exactly 0 and 1 away from the border
  mask[green], mask[red & ~green] = 1, 0
  return np.rint(255 * mask).astype(np.uint8)


def drawn(image: np.ndarray, strokes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Where strokes are green, and where red, bool `[h w]` each."""
  colors = strokes[..., :3].astype(np.int16)
  if strokes.shape[-1] == 4:
    is_stroke = strokes[..., 3] > 127
  else:
    is_stroke = np.abs(colors - image).max(-1) > CHANGED
  r, g, b = np.moveaxis(colors, -1, 0)
  green = is_stroke & (g - np.maximum(r, b) > STRONG)
  return green, is_stroke & (r - np.maximum(g, b) > STRONG)


def spread(picture: np.ndarray, sharpen: np.ndarray, leave: np.ndarray) -> np.ndarray:
  """A mask `[h w]` in [0, 1], float32, from strokes: 1 where to restore, 0 where to leave alone.

  Each pixel follows the strokes that are nearer to it by geodesic distance, whose paths avoid edges
  (Criminisi, Sharp and Blake, "GeoS: geodesic image segmentation", ECCV 2008). This is done in a
  reduced picture; a guided filter (He, Sun and Tang, ECCV 2010) transfers the mask to the edges of
  the full one.

  Args:
    picture: `[h w c]`, float in [0, 1].
    sharpen: `[h w]`, above 0.5 where a stroke says to restore.
    leave: `[h w]`, above 0.5 where a stroke says to leave alone; `sharpen` wins where both do.

  Raises ValueError if the shapes differ or there is no stroke.
  """
  if not picture.shape[:2] == sharpen.shape == leave.shape:
    shapes = f'{picture.shape[:2]}, {sharpen.shape} and {leave.shape}'
    raise ValueError(f'picture and strokes must have one size, not {shapes}')
  factor = -(-max(sharpen.shape) // SIDE)
  small = _reduced(picture, factor, np.mean)
  near, far = (_reduced(one > 0.5, factor, np.max) for one in (sharpen, leave))
  if not near.any() and not far.any():
    raise ValueError('there is no stroke')
  to_sharpen, to_leave = _distance(small, near), _distance(small, far & ~near)
  ratio = np.square(to_sharpen / np.maximum(to_leave, 1e-6))
  slope, offset = _linear(small.mean(-1), 1 / (1 + ratio * ratio))
  grey = picture.mean(-1)
  mask = _enlarged(slope, factor, grey.shape) * grey + _enlarged(offset, factor, grey.shape)
  return np.clip(mask, 0, 1).astype(np.float32)


def _reduced(array: np.ndarray, factor: int, of) -> np.ndarray:
  """`of` blocks of `factor` x `factor` pixels; the last ones are completed with edge pixels."""
  margins = [(0, -side % factor) for side in array.shape[:2]] + [(0, 0)] * (array.ndim - 2)
  padded = np.pad(array, margins, 'edge')
  h, w = (side // factor for side in padded.shape[:2])
  return of(padded.reshape(h, factor, w, factor, *array.shape[2:]), axis=(1, 3))


def _distance(small: np.ndarray, stroke: np.ndarray) -> np.ndarray:
  """Least cost `[h w]` of a path over neighbors from the stroke; `REACH` without a stroke."""
  if not stroke.any():
    return np.full(stroke.shape, REACH)
  small, unit = small.astype(np.float64), 1 / max(stroke.shape)

  def cost(one, other, length):
    return length * unit + EDGE * np.square(one - other).sum(-1)

  across = np.pad(np.cumsum(cost(small[:, 1:], small[:, :-1], 1), 1), ((0, 0), (1, 0)))
  steps = (
    cost(small[1:], small[:-1], 1),  # from a row to the next: straight down,
    cost(small[1:, 1:], small[:-1, :-1], 2**0.5),  # down and to the right,
    cost(small[1:, :-1], small[:-1, 1:], 2**0.5),  # down and to the left
  )
  up = [steps[i][::-1] for i in (0, 2, 1)]
  distance, before = np.where(stroke, 0.0, np.inf), None
  while before is None or (before - distance > 1e-9).any():
    before = distance.copy()
    forward = across + np.minimum.accumulate(distance - across, 1)
    backward = np.minimum.accumulate((distance + across)[:, ::-1], 1)[:, ::-1] - across
    distance = np.minimum(distance, np.minimum(forward, backward))
    _sweep(distance, *steps)
    _sweep(distance[::-1], *up)
  return distance


def _sweep(distance: np.ndarray, down: np.ndarray, right: np.ndarray, left: np.ndarray) -> None:
  """Lowers each row of `distance`, in place, to what paths from the row above cost."""
  for above, row, straight, to_right, to_left in zip(
    distance, distance[1:], down, right, left, strict=False
  ):
    np.minimum(row, above + straight, out=row)
    np.minimum(row[1:], above[:-1] + to_right, out=row[1:])
    np.minimum(row[:-1], above[1:] + to_left, out=row[:-1])


def _linear(guide: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(slope, offset) of the guided filter: near each pixel `values` ~ slope * guide + offset."""
  mean, level = _box(guide), _box(values)
  variance = _box(guide * guide) - mean * mean
  slope = (_box(guide * values) - mean * level) / (variance + SMOOTH)
  return _box(slope), _box(level - slope * mean)


def _box(plane: np.ndarray) -> np.ndarray:
  """The mean over a window around each pixel, as much of it as is inside the plane."""
  for axis in (0, 1):
    size = plane.shape[axis]
    sums = np.pad(np.cumsum(plane, axis), [(1, 0) if axis == i else (0, 0) for i in (0, 1)])
    start = np.maximum(np.arange(size) - RADIUS, 0)
    stop = np.minimum(np.arange(size) + RADIUS + 1, size)
    total = sums.take(stop, axis) - sums.take(start, axis)
    plane = total / np.expand_dims(stop - start, 1 - axis)
  return plane


def _enlarged(plane: np.ndarray, factor: int, shape: tuple[int, ...]) -> np.ndarray:
  """Linear interpolation between the centers of the blocks of `_reduced`."""
  for axis in (0, 1):
    at = (np.arange(shape[axis]) + 0.5) / factor - 0.5
    at = np.clip(at, 0, plane.shape[axis] - 1)
    first = np.minimum(at.astype(int), max(plane.shape[axis] - 2, 0))
    share = np.expand_dims(at - first, 1 - axis)
    second = np.minimum(first + 1, plane.shape[axis] - 1)
    plane = (1 - share) * plane.take(first, axis) + share * plane.take(second, axis)
  return plane
