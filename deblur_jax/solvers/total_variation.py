"""The picture of least total variation that explains what is seen: edges stay, noise goes."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, gradients, noise, planes

# Of ADMM's splittings, for pictures in [0, 1]; they change how fast it gets there, not where.
_RHO, _MU = 20.0, 0.05


def total_variation(
  image: jax.Array,
  psf: jax.Array,
  weight: float | None = None,
  num_iter: int = 60,
  *,
  noise_sigma: float | None = None,
  boundary: str = 'unknown',
) -> jax.Array:
  """What minimizes `|seen (K x - image)|^2 / 2 + weight sum |grad x|`, by ADMM.

  Rudin, Osher and Fatemi 1992, isotropic; Almeida and Figueiredo, "Deconvolving images with unknown
  boundaries using the alternating direction method of multipliers", IEEE TIP 2013.

  Args:
    image: blurred, `[h w]` or `[... h w c]`; every channel by itself.
    psf: `[kh kw]`, or one for each image.
    weight: of the total variation; by default `5 noise_sigma^2`.
    num_iter: steps.
    noise_sigma: the noise's standard deviation; None to estimate it (at least `noise.LEAST`).
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.

  Raises ValueError as `planes.each` does, and for less than one step.
  """
  if num_iter < 1:
    raise ValueError(f'at least one iteration, not {num_iter}')
  solve = functools.partial(
    _solve, weight=weight, noise_sigma=noise_sigma, num_iter=num_iter, boundary=boundary
  )
  return planes.each(solve, image, psf, boundary=boundary)


@functools.partial(jax.jit, static_argnames=('num_iter', 'boundary'))
def _solve(plane, psf, *, weight, noise_sigma, num_iter, boundary):
  if weight is None:
    if noise_sigma is None:
      noise_sigma = jnp.maximum(noise.estimate(plane), noise.LEAST)
    weight = 5 * noise_sigma**2
  scene = borders.scene(psf, plane.shape, boundary)
  placed, rho = scene.place(plane), _RHO * weight
  quadratic = _MU * jnp.square(jnp.abs(scene.transfer)) + rho * gradients.laplacian(*scene.shape)
  quadratic = quadratic.at[0, 0].max(_MU)

  def step(carry, _):
    blurred, blurred_dual, slope, slope_dual = carry
    pull = _MU * scene.correlate(blurred - blurred_dual)
    pull -= rho * gradients.divergence(slope - slope_dual)
    x = scene.filter(pull, 1 / quadratic)
    blur_x, slope_x = scene.blur(x) + blurred_dual, gradients.gradient(x) + slope_dual
    blurred = (scene.seen * placed + _MU * blur_x) / (scene.seen + _MU)
    slope = slope_x * jnp.maximum(1 - weight / rho / gradients.length(slope_x), 0)[None]
    return (blurred, blur_x - blurred, slope, slope_x - slope), x

  still = jnp.zeros((2, *scene.shape))
  _, x = jax.lax.scan(step, (placed, jnp.zeros(scene.shape), still, still), None, num_iter)
  return scene.crop(x[-1])
