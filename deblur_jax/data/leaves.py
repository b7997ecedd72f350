"""Dead leaves: opaque disks that cover one another, with the statistics of natural images.

Radii follow a power law, so that structure has no preferred scale; edges come from occlusion and
are anti-aliased; leaves are shaded and some are textured (Lee, Mumford and Huang 2001; as training
pictures Achddou, Gousseau and Ladjal 2021). Runs in numpy on the host; a picture depends only on
the generator that is passed.
"""

from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
  """Which leaf is visible where, on the rendering grid."""

  visible: np.ndarray
  """int32 `[n n]`: index of the visible leaf, 0 if there is none; leaf 0 is the ground."""
  centers: np.ndarray
  """`[leaves 2]`, (y, x) in pixels of the grid."""
  radii: np.ndarray
  """`[leaves]` in pixels of the grid."""


def layout(
  rng: np.random.Generator,
  n: int,
  *,
  count: int = 3000,
  exponent: float = 3.0,
  smallest: float = 8.0,
  largest: float | None = None,
) -> Layout:
  """Disks on an `n` x `n` grid, radius density ~ r^-exponent between `smallest` and `largest` (n).

  Centers are drawn from [-0.3 n, 1.3 n], so that leaves extend over the borders.
  """
  largest = n if largest is None else largest
  power = 1.0 - exponent
  u = rng.random(count + 1)
  radii = (smallest**power + u * (largest**power - smallest**power)) ** (1 / power)
  centers = rng.uniform(-0.3 * n, 1.3 * n, (count + 1, 2))
  visible = np.zeros((n, n), np.int32)
  low = np.clip(np.ceil(centers - radii[:, None]), 0, n).astype(int)
  high = np.clip(np.floor(centers + radii[:, None]) + 1, 0, n).astype(int)
  seen = np.flatnonzero((high > low).all(axis=1))
  grid = np.arange(n, dtype=np.float32)
  for i in seen[seen > 0]:  # back to front, within the disk's bounding box
    (top, left), (bottom, right) = low[i], high[i]
    dy, dx = grid[top:bottom] - centers[i, 0], grid[left:right] - centers[i, 1]
    inside = (dx * dx)[None, :] <= (radii[i] ** 2 - dy * dy)[:, None]
    np.putmask(visible[top:bottom, left:right], inside, i)
  return Layout(visible, centers, radii)


def render(
  rng: np.random.Generator,
  size: int,
  palette: np.ndarray | None = None,
  *,
  count: int = 3000,
  shade: float = 0.3,
  texture: float = 0.15,
  textured: float = 0.7,
) -> np.ndarray:
  """A dead-leaves picture, uint8 `[size size 3]`, rendered at twice the size and averaged down.

  Args:
    rng: source of all randomness.
    size: side in pixels.
    palette: colors to draw leaves from, uint8 `[colors 3]`; muted ones by default.
    count: number of leaves; 3000 cover 99.8 % of 256x256.
    shade: largest change of value from a leaf's center to its rim, in one direction.
    texture: largest amplitude of the sinusoid on a textured leaf.
    textured: share of leaves with texture.
  """
  n = 2 * size
  leaves = layout(rng, n, count=count)
  k, index = len(leaves.radii), leaves.visible
  colors = _muted(rng, k) if palette is None else _exposed(rng, palette, k)
  slope = _directions(rng, k) * (rng.uniform(0, shade, k) / leaves.radii)[:, None]
  level = -(slope * leaves.centers).sum(axis=1)  # no change at the leaf's center
  wave = _directions(rng, k) * (2 * np.pi / rng.uniform(4, 30, k))[:, None]
  phase = rng.uniform(0, 2 * np.pi, k)
  swing = rng.uniform(0, texture, k) * (rng.random(k) < textured)

  y, x = np.ogrid[:n, :n]
  fine = _plane(level, slope, index, y, x)
  fine += swing.astype(np.float32)[index] * np.sin(_plane(phase, wave, index, y, x))
  fine = fine[..., None] + colors.astype(np.float32)[index]  # [n n 3]
  np.clip(fine, 0, 1, out=fine)
  coarse = fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]
  return np.round(coarse * (255 / 4)).astype(np.uint8)  # [size size 3]


def _plane(level, slope, index, y, x) -> np.ndarray:
  """Per pixel, `level + slope . (y, x)` of the leaf visible there, float32 `[n n]`."""
  level, slope = level.astype(np.float32), slope.astype(np.float32)
  out = level[index]
  out += slope[:, 0][index] * y.astype(np.float32)
  out += slope[:, 1][index] * x.astype(np.float32)
  return out


def _directions(rng: np.random.Generator, k: int) -> np.ndarray:
  angle = rng.uniform(0, 2 * np.pi, k)
  return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _muted(rng: np.random.Generator, k: int) -> np.ndarray:
  """Mostly grey colors `[k 3]` that share a contrast and a mean, as in an average photograph."""
  free = rng.random((k, 3))
  grey = free.mean(axis=1, keepdims=True)
  colors = grey + rng.beta(2, 3, (k, 1)) * (free - grey)
  return rng.uniform(0.3, 0.6) + rng.uniform(0.35, 0.9) * (colors - 0.5)


def _exposed(rng: np.random.Generator, palette: np.ndarray, k: int) -> np.ndarray:
  """Colors `[k 3]` of a photograph, scaled so that their mean is that of an average scene."""
  colors = palette[rng.integers(len(palette), size=k)] / 255
  return colors * (rng.uniform(0.3, 0.6) / max(float(colors.mean()), 0.05))
