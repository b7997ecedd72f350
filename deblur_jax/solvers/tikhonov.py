"""Deconvolution with Tikhonov regularization of the gradients."""

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
  """Minimizes `|K x - image|^2 + weight |L x|^2` (Tikhonov and Arsenin 1977).

  The same as the `wiener` filter: `weight` is its balance, and L, `reg`, is the gradient by
  default. Arguments and errors are those of `wiener`.
  """
  return wiener(image, psf, weight, reg=reg, noise_sigma=noise_sigma, boundary=boundary)
