"""Means over a window around each pixel, for networks that use statistics of the whole image.

X. Chu, L. Chen, C. Chen, X. Lu, "Improving Image Restoration by Revisiting Global Information
Aggregation", ECCV 2022, arXiv:2112.04491 (TLC): a network trained on patches expects statistics of
regions as large as a patch; at test time windows of about that size give better results than the
whole photograph.

The authors use integral images, whose rounding errors grow with the image. Here windows are summed
from windows of half the length, which is accurate at any size and several times faster on the CPU.
"""

from collections.abc import Sequence

import jax
from jax import lax
import jax.numpy as jnp


def sides(x: jax.Array, image: Sequence[int], window: int) -> tuple[int, int]:
  """Rows and columns of `x` `[b h w c]` that correspond to `window` pixels of an image `[b H W c]`.

  At most all of them, and all of them if `window` is 0.
  """
  if not window:
    return x.shape[1:3]
  scaled = (max(window * x.shape[axis] // image[axis], 1) for axis in (1, 2))
  return tuple(min(pair) for pair in zip(scaled, x.shape[1:3], strict=True))


def mean(x: jax.Array, image: Sequence[int] = (), window: int = 0) -> jax.Array:
  """Means of `x` `[b h w c]` over all windows inside it, float32 `[b h-rows+1 w-columns+1 c]`.

  Windows have the `sides` of `window` pixels of `image`, a shape `[b H W c]`; if they cover `x`,
  and by default, this is the global mean `[b 1 1 c]`.
  """
  rows, columns = sides(x, image, window)
  if (rows, columns) == x.shape[1:3]:
    return x.mean((1, 2), keepdims=True, dtype=jnp.float32)
  x = x.astype(jnp.float32)
  return _sums(_sums(x, rows, axis=1) / rows, columns, axis=2) / columns


def spread(means: jax.Array, x: jax.Array) -> jax.Array:
  """`means` of windows, or values computed from them, extended to one per pixel of `x` `[b h w c]`.

  Pixels near the border get the value of the nearest window. Global means are returned unchanged.
  """
  if means.shape[1:3] == (1, 1):
    return means
  rows, columns = (x.shape[axis] - means.shape[axis] for axis in (1, 2))
  margins = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
  return jnp.pad(means, ((0, 0), *margins, (0, 0)), mode='edge')


def _sums(x, length, axis):
  """Sums of `length` neighbors: windows of 1, 2, 4, ... added according to the bits of `length`."""
  count, powers = x.shape[axis] - length + 1, x
  total, done = 0.0, 0
  for bit in range(length.bit_length()):
    size = 1 << bit
    if length & size:
      total = total + lax.slice_in_dim(powers, done, done + count, axis=axis)
      done += size
    if 2 * size <= length:
      rest = powers.shape[axis] - size
      first = lax.slice_in_dim(powers, 0, rest, axis=axis)
      powers = first + lax.slice_in_dim(powers, size, size + rest, axis=axis)
  return total
