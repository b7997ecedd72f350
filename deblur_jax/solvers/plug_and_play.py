"""Deblurring by turns with a denoiser, whatever it is, that knows what pictures look like."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, estimate_noise, planes
from deblur_jax.solvers.non_local_means import non_local_means

_FIRST_SIGMA = 49 / 255  # of the noise to be removed; the last is that of the picture
_WEIGHT = 0.23  # of the denoised against the blurred picture, per variance; both as published


def plug_and_play(
  image: jax.Array,
  psf: jax.Array,
  denoiser: Callable[[jax.Array, jax.Array], jax.Array] = non_local_means,
  num_iter: int = 8,
  *,
  noise_sigma: float | None = None,
  boundary: str = 'unknown',
) -> jax.Array:
  """The picture that the PSF and a denoiser agree on, by half-quadratic splitting.

  Zhang et al., "Plug-and-play image restoration with deep denoiser prior" (DPIR), TPAMI 2021: in
  turn what explains `image` and is near the denoised estimate, and that without noise of less and
  less strength.

  Args:
    image: blurred, `[h w]` or `[... h w c]`; every channel by itself.
    psf: `[kh kw]`, or one for each image.
    denoiser: `(plane [h w], sigma) -> [h w]` without the noise, traceable.
    num_iter: steps.
    noise_sigma: the noise's standard deviation; None: estimated, at least `estimate_noise.LEAST`.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.

  Raises ValueError as `planes.each` does, and for less than one step.
  """
  if num_iter < 1:
    raise ValueError(f'at least one iteration, not {num_iter}')
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
