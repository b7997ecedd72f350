"""Estimates the noise level of a picture."""

import jax
import jax.numpy as jnp

LEAST = 0.004
"""The least level that solvers assume, for rounding, compression and imperfect linearization."""


_NONE = 1e-8  # instead of no noise at all, which would make solvers divide 0 by 0


def level(plane: jax.Array, known: jax.Array | float | None) -> jax.Array | float:
  """The noise's standard deviation: `known`, or if it is None an estimate from `plane`."""
  return jnp.maximum(estimate(plane), LEAST) if known is None else jnp.maximum(known, _NONE)


@jax.jit
def estimate(plane: jax.Array) -> jax.Array:
  """Standard deviation of white Gaussian noise in a plane `[h w]`, both sides at least 2.

  From the median of the finest diagonal wavelet band, where blurred pictures have almost no signal
  (Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 1994).
  """
  h, w = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
  top, bottom = plane[0:h:2], plane[1:h:2]
  diagonal = (top[:, 0:w:2] - top[:, 1:w:2] - bottom[:, 0:w:2] + bottom[:, 1:w:2]) / 2
  return jnp.median(jnp.abs(diagonal)) / 0.6745  # median of |x| for a standard normal x
