"""Blur that varies over the picture: PSFs on a grid, blended smoothly in between."""

import functools
import math

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.blur import operators


@struct.dataclass
class SpatiallyVarying:
  """Blur by a grid of PSFs, each exact at the center of its cell, bilinear in between.

  Efficient filter flow (Hirsch et al., "Efficient filter flow for space-variant multiframe blind
  deconvolution", CVPR 2010), with the windows after the filters: a pixel of the blurred picture
  blends the results of the PSFs around it, so constants stay constant. A PSF is only applied to the
  patch that its window covers.

  psfs: `[gy gx kh kw]`, from the top left corner; each is centered at `[kh // 2, kw // 2]`.
  boundary: see `operators.Convolution`.
  """

  psfs: jax.Array
  boundary: str = struct.field(pytree_node=False, default='reflect')

  def apply(self, image: jax.Array) -> jax.Array:
    """Blurred `image`, of the same shape `[... h w c]`."""
    self._check(image)
    kh, kw = self.psfs.shape[-2:]
    extended = jax.lax.optimization_barrier(self._extend(image))

    def add(total, patch):
      psf, start, high, wide = patch
      seen = _cut(extended, start, high.size + kh - 1, wide.size + kw - 1)
      return _add(total, start, _window(high, wide, _convolve(seen, psf, 0, 0))), None

    return jax.lax.scan(add, jnp.zeros_like(image), self._patches(image))[0]

  def adjoint(self, image: jax.Array) -> jax.Array:
    """The adjoint, so that <apply(x), y> = <x, adjoint(y)> for all x and y, borders included."""
    self._check(image)
    kh, kw = self.psfs.shape[-2:]

    def add(total, patch):
      psf, start, high, wide = patch
      seen = _window(high, wide, _cut(image, start, high.size, wide.size))
      return _add(total, start, _convolve(seen, psf[::-1, ::-1], kh - 1, kw - 1)), None

    total = jnp.zeros_like(self._extend(image))
    total, _ = jax.lax.scan(add, total, self._patches(image))
    # The margins are folded back into the pixels that they were copied from.
    (folded,) = jax.linear_transpose(self._extend, image)(total)
    return folded

  def _patches(self, image: jax.Array) -> tuple[jax.Array, ...]:
    """PSF, first pixel, row window and column window of each patch, in order."""
    gy, gx = self.psfs.shape[:2]
    (tops, high), (lefts, wide) = _windows(image.shape[-3], gy), _windows(image.shape[-2], gx)
    starts = np.stack([np.repeat(tops, gx), np.tile(lefts, gy)], axis=1)
    high, wide = np.repeat(high, gx, axis=0), np.tile(wide, (gy, 1))
    return self.psfs.reshape(-1, *self.psfs.shape[2:]), starts, high, wide

  def _extend(self, image: jax.Array) -> jax.Array:
    return operators.extend(image, *operators.margins(*self.psfs.shape[-2:]), self.boundary)

  def _check(self, image: jax.Array) -> None:
    operators.check_boundary(self.boundary)
    gy, gx = self.psfs.shape[:2]
    if self.psfs.ndim != 4 or gy > image.shape[-3] or gx > image.shape[-2]:
      raise ValueError(
        f'PSFs must be [gy gx kh kw], at most one per pixel; {self.psfs.shape} do not fit images '
        f'{image.shape}'
      )


def _convolve(patch: jax.Array, psf: jax.Array, rows: int, columns: int) -> jax.Array:
  """`patch` convolved with this many rows and columns of zeros on either side."""
  return operators.convolve(patch, psf, (rows, rows), (columns, columns), 'zero')


def _cut(image: jax.Array, start: jax.Array, height: int, width: int) -> jax.Array:
  rows = jax.lax.dynamic_slice_in_dim(image, start[0], height, axis=-3)
  return jax.lax.dynamic_slice_in_dim(rows, start[1], width, axis=-2)


def _add(image: jax.Array, start: jax.Array, patch: jax.Array) -> jax.Array:
  corner = (0,) * (image.ndim - 3) + (start[0], start[1], 0)
  patch = patch + jax.lax.dynamic_slice(image, corner, patch.shape)
  return jax.lax.dynamic_update_slice(image, patch, corner)


def _window(high: jax.Array, wide: jax.Array, patch: jax.Array) -> jax.Array:
  window = (high[:, None] * wide[None])[..., None]
  return patch * window.reshape((1,) * (patch.ndim - 3) + window.shape)


@functools.cache
def _windows(length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
  """First pixels `[cells]` and weights `[cells support]` of the windows along one axis.

  The weights of a pixel sum to 1: tents between the cell centers, constant beyond the outermost.
  """
  pitch = length / cells
  middles = (np.arange(cells) + 0.5) * pitch - 0.5
  support = min(length, math.ceil(2 * pitch))
  starts = np.clip(np.floor(middles - pitch).astype(np.int32) + 1, 0, length - support)
  pixels = starts[:, None] + np.arange(support)
  inside = np.clip(pixels, middles[0], middles[-1])
  weights = np.maximum(1 - np.abs(inside - middles[:, None]) / pitch, 0)
  return starts, weights.astype(np.float32)
