"""Orthogonal wavelet transforms of periodic planes.

Coefficients are a plane of the same size: the vertical, horizontal and diagonal details of each
level are to the right, below, and below right of the next level's coefficients.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

FILTERS = {
  'haar': (0.7071067811865476, 0.7071067811865476),
  'db4': (
    -0.010597401785069032,
    0.0328830116668852,
    0.030841381835560764,
    -0.18703481171909309,
    -0.027983769416859854,
    0.6308807679298589,
    0.7148465705529157,
    0.2303778133088965,
  ),
}
"""Low-pass analysis filters (Daubechies 1992), equal to PyWavelets' `dec_lo`."""


def forward(plane: jax.Array, wavelet: str, levels: int) -> jax.Array:
  """Coefficients `[h w]` of a plane whose sides are multiples of `2**levels`."""
  for level in range(levels):
    h, w = (side >> level for side in plane.shape)
    corner = plane[:h, :w]
    for axis in (0, 1):
      corner = _split(corner, wavelet, axis)
    plane = plane.at[:h, :w].set(corner)
  return plane


def inverse(coefficients: jax.Array, wavelet: str, levels: int) -> jax.Array:
  """The inverse of `forward`, which is its transpose, since it is orthogonal."""
  transform = functools.partial(forward, wavelet=wavelet, levels=levels)
  return jax.linear_transpose(transform, coefficients)(coefficients)[0]


def details(shape: tuple[int, int], levels: int) -> np.ndarray:
  """1 for detail coefficients, 0 for the coarse approximation."""
  inside = np.ones(shape, np.float32)
  inside[: shape[0] >> levels, : shape[1] >> levels] = 0
  return inside


def _split(x: jax.Array, wavelet: str, axis: int) -> jax.Array:
  """Low-pass, then high-pass coefficients along an axis, both subsampled by 2."""
  low = FILTERS[wavelet]
  high = [(-1) ** (i + 1) * tap for i, tap in enumerate(low[::-1])]
  count, half = x.shape[axis] // 2, len(low) // 2
  # Even and odd positions, each padded periodically by the reach of the filters.
  pairs = x.reshape(*x.shape[:axis], count, 2, *x.shape[axis + 1 :])
  margin = (half // 2, half // 2 + 1)
  even, odd = (
    jnp.pad(
      jax.lax.index_in_dim(pairs, place, axis + 1, keepdims=False),
      [margin if one == axis else (0, 0) for one in range(x.ndim)],
      mode='wrap',
    )
    for place in (0, 1)
  )

  def filtered(weights):
    total = 0
    for i, weight in enumerate(weights):
      before, parity = divmod(half - i, 2)
      start = half // 2 + before
      part = odd if parity else even
      total += weight * jax.lax.slice_in_dim(part, start, start + count, axis=axis)
    return total

  return jnp.concatenate([filtered(low), filtered(high)], axis)
