"""Masks from strokes that somebody has drawn: green where to restore, red what to leave alone."""

import cv2
import numpy as np
import scipy.ndimage
from skimage import graph

SIDE = 768
"""Longer side in pixels that strokes are spread at."""

STRONG = 60
"""Least difference of green and red, of 255, of a stroke's color."""

CHANGED = 40
"""Least difference from the picture, of 255, of a stroke on a copy of it."""

STEP, EDGE, UNLIKE = 0.01, 3.0, 0.2
"""The costs of a step between equal pixels, of one from black to white, and of one onto a pixel
that has the colors of the other strokes."""

BINS = 16
"""Of a color histogram, per channel."""

RADIUS, SMOOTH = 8, 1e-3
"""Of the guided filter, in pixels at `SIDE` and as a variance of values in [0, 1]."""


def mask_from_strokes(image: np.ndarray, strokes: np.ndarray) -> np.ndarray:
  """The mask that strokes mean, uint8 `[h w]`: 255 to restore, 0 to leave alone.

  `image` is uint8 `[h w 3]`. `strokes` is a picture of the same size with green and red strokes:
  `[h w 4]`, drawn on transparent, or `[h w 3]`, drawn on a copy of the picture or on white. Every
  pixel belongs to the stroke to which there is the cheapest way, where edges and colors of the
  other strokes are expensive (as in Bai and Sapiro, "A geodesic framework for interactive
  segmentation", 2007); a guided filter (He et al. 2013) then fits the border to the edges. If there
  are strokes of one color only, the border of the picture counts as the other. Raises ValueError if
  there are none, or the sizes differ.
  """
  if strokes.shape[:2] != image.shape[:2]:
    (height, width), (tall, wide) = strokes.shape[:2], image.shape[:2]
    raise ValueError(f'the strokes are {width}x{height} pixels, but the picture is {wide}x{tall}')
  green, red = drawn(image, strokes)
  if not green.any() and not red.any():
    raise ValueError('no strokes found: draw in green what to restore, in red what to leave alone')
  full = image.shape[1::-1]
  scale = min(1.0, SIDE / max(full))
  size = tuple(max(1, round(side * scale)) for side in full)
  small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
  seeds = [
    cv2.resize(one.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    for one in (green, red)
  ]
  inside = _nearest(small, *seeds)
  plane = _guided(small.mean(-1), inside.astype(np.float32))
  plane = np.clip((plane - 0.2) / 0.6, 0, 1)  # exactly 0 and 1 away from the border
  plane = cv2.resize(plane.astype(np.float32), full, interpolation=cv2.INTER_LINEAR)
  plane[green], plane[red] = 1, 0
  return np.rint(255 * np.clip(plane, 0, 1)).astype(np.uint8)


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


def _nearest(image: np.ndarray, green: np.ndarray, red: np.ndarray) -> np.ndarray:
  """Where the cheapest way leads to green, bool `[h w]`."""
  border = np.ones(green.shape, bool)
  border[1:-1, 1:-1] = False
  green, red = (
    one
    if one.any()
    else border & ~np.asarray(scipy.ndimage.binary_dilation(other, iterations=9), bool)
    for one, other in ((green, red), (red, green))
  )
  smooth = cv2.GaussianBlur(image, (0, 0), 1)
  slopes = [np.hypot(*np.gradient(smooth[..., c])) for c in range(3)]
  cost = STEP + EDGE * np.max(slopes, axis=0)
  likely = _likely(smooth, green, red)
  far = [
    graph.MCP_Geometric(cost + UNLIKE * unlike).find_costs(np.argwhere(one))[0]
    for one, unlike in ((green, 1 - likely), (red, likely))
  ]
  inside = _touched(far[0] < far[1], green)
  return ~_touched(~inside, red)


def _touched(inside: np.ndarray, seeds: np.ndarray) -> np.ndarray:
  """The connected parts of `inside` that a stroke touches."""
  _, parts = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
  return inside & np.isin(parts, np.unique(parts[seeds & inside]))


def _likely(image: np.ndarray, green: np.ndarray, red: np.ndarray) -> np.ndarray:
  """How much more the colors `[h w]` are those under green strokes, in [0, 1]."""
  bins = np.minimum((image * BINS).astype(int), BINS - 1)
  shares = []
  for one in (green, red):
    counts = np.zeros((BINS,) * 3)
    np.add.at(counts, tuple(bins[one].T), 1)
    found = scipy.ndimage.gaussian_filter(counts / counts.sum(), 1) + 1e-5
    shares.append(found[tuple(np.moveaxis(bins, -1, 0))])
  return shares[0] / (shares[0] + shares[1])


def _guided(guide: np.ndarray, plane: np.ndarray) -> np.ndarray:
  """`plane` filtered along the edges of `guide`, both `[h w]` in [0, 1]."""

  def mean(one):
    return cv2.blur(one, (2 * RADIUS + 1, 2 * RADIUS + 1))

  guide_mean, plane_mean = mean(guide), mean(plane)
  slope = mean(guide * plane) - guide_mean * plane_mean
  slope /= mean(guide * guide) - guide_mean**2 + SMOOTH
  return mean(slope) * guide + mean(plane_mean - slope * guide_mean)
