"""Plug-and-play deblurring with any denoiser as the prior."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, estimate_noise, planes
from deblur_jax.solvers.non_local_means import non_local_means

_FIRST_SIGMA = 49 / 255  # of the first denoising; the last uses the picture's noise level
_WEIGHT = 0.23  # of the denoised picture, relative to the variance of the noise; both as published


def plug_and_play(
  image: jax.Array,
  psf: jax.Array,
  denoiser: Callable[[jax.Array, jax.Array], jax.Array] = non_local_means,
  num_iter: int = 8,
  *,
  noise_sigma: float | None = None,
  boundary: str = 'unknown',
) -> jax.Array:
  """Restores `image` with a denoiser as the prior, by half-quadratic splitting.

  Zhang et al., "Plug-and-play image restoration with deep denoiser prior" (DPIR), TPAMI 2021:
  alternates between fitting `image` near the denoised estimate, and denoising that with a
  decreasing noise level.

  Args:
    image: blurred, `[h w]` or `[... h w c]`; channels are restored independently.
    psf: `[kh kw]`, or one for each image.
    denoiser: `(plane [h w], sigma) -> denoised [h w]`, traceable.
    num_iter: steps.
    noise_sigma: the noise's standard deviation; None: estimated, at least `estimate_noise.LEAST`.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.

  Raises ValueError as `planes.each` does, and for less than one step.
  """
  if num_iter < 1:
    raise ValueError(f'num_iter must be at least 1, got {num_iter}')
  solve = functools.partial(
    _solve, denoiser=denoiser, noise_sigma=noise_sigma, num_iter=num_iter, boundary=boundary
  )
  return planes.each(solve, image, psf, boundary=boundary)


@functools.partial(jax.jit, static_argnames=('denoiser', 'num_iter', 'boundary'))
def _solve(plane, psf, *, denoiser, noise_sigma, num_iter, boundary):
  scene = borders.scene(psf, plane.shape, boundary)
  placed = scene.place(plane)
  last = estimate_noise.level(plane, noise_sigma)

  def step(x, sigma):
    rho = _WEIGHT * last**2 / sigma**2
    return denoiser(scene.fit(placed, rho, rho * x, x), sigma), None

  x, _ = jax.lax.scan(step, placed, jnp.geomspace(_FIRST_SIGMA, last, num_iter))
  return scene.crop(x)
