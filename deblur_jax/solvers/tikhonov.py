"""The picture of smallest gradients that explains what is seen."""

import jax

from deblur_jax.solvers.wiener import wiener


def tikhonov(
  image: jax.Array,
  psf: jax.Array,
  weight: float | None = None,
  *,
  reg: str | jax.Array = 'gradient',
  noise_sigma: float | None = None,
  boundary: str = 'unknown',
) -> jax.Array:
  """What minimizes `|K x - image|^2 + weight |L x|^2` (Tikhonov and Arsenin 1977).

  The `wiener` filter with other words: `weight` is its balance, and L, `reg`, is by default the
  gradient. Arguments and errors are those of `wiener`.
  """
  return wiener(image, psf, weight, reg=reg, noise_sigma=noise_sigma, boundary=boundary)
