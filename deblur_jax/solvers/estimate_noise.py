"""How strong the noise in a picture is, where nobody says."""

import jax
import jax.numpy as jnp

LEAST = 0.004
"""What solvers reckon with at least: rounding, compression and light that is not quite linear."""


_NONE = 1e-8  # in place of no noise at all, which would have solvers divide 0 by 0


def level(plane: jax.Array, known: jax.Array | float | None) -> jax.Array | float:
  """`known`, the noise's standard deviation; where it is None what is estimated from `plane`."""
  return jnp.maximum(estimate(plane), LEAST) if known is None else jnp.maximum(known, _NONE)


def estimate(plane: jax.Array) -> jax.Array:
  """Standard deviation of white Gaussian noise in a plane `[h w]`, both sides at least 2.

  The median of the finest diagonal wavelet band, where blurred pictures have next to nothing
  (Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 1994).
  """
  h, w = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
  top, bottom = plane[0:h:2], plane[1:h:2]
  diagonal = (top[:, 0:w:2] - top[:, 1:w:2] - bottom[:, 0:w:2] + bottom[:, 1:w:2]) / 2
  return jnp.median(jnp.abs(diagonal)) / 0.6745  # of a standard normal's absolute value
