"""Deconvolution with a total variation prior, which keeps edges and removes noise."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, estimate_noise, gradients, planes

# Of ADMM's splittings, for pictures in [0, 1]; they affect the convergence, not the result.
_RHO, _MU = 20.0, 0.02
_LEAST_WEIGHT = 1e-12  # avoids 0 / 0
# Within a factor of 1.5 of the best for photographs with noise of 0.003 to 0.03, measured with
# motion blur; with the square of the noise it would be too low for weak and too high for strong
# noise.
WEIGHT = 0.7


def total_variation(
  image: jax.Array,
  psf: jax.Array,
  weight: float | None = None,
  num_iter: int = 60,
  *,
  noise_sigma: float | None = None,
  boundary: str = 'unknown',
  history: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """Minimizes `|seen (K x - image)|^2 / 2 + weight sum |grad x|` by ADMM.

  Rudin, Osher and Fatemi 1992, isotropic; Almeida and Figueiredo, "Deconvolving images with unknown
  boundaries using the alternating direction method of multipliers", IEEE TIP 2013.

  Args:
    image: blurred, `[h w]` or `[... h w c]`; channels are restored independently.
    psf: `[kh kw]`, or one for each image.
    weight: of the total variation; by default `0.7 noise_sigma^1.5`.
    num_iter: steps.
    noise_sigma: the noise's standard deviation; None: estimated, at least `estimate_noise.LEAST`.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.
    history: whether to also return the objective after each step: `(restored, [... c num_iter])`.

  Raises ValueError as `planes.each` does, and for less than one step.
  """
  if num_iter < 1:
    raise ValueError(f'num_iter must be at least 1, got {num_iter}')
  solve = functools.partial(
    _solve,
    weight=weight,
    noise_sigma=noise_sigma,
    num_iter=num_iter,
    boundary=boundary,
    history=history,
  )
  return planes.each(solve, image, psf, boundary=boundary)


@functools.partial(jax.jit, static_argnames=('num_iter', 'boundary', 'history'))
def _solve(plane, psf, *, weight, noise_sigma, num_iter, boundary, history):
  if weight is None:
    weight = WEIGHT * estimate_noise.level(plane, noise_sigma) ** 1.5
  weight = jnp.maximum(weight, _LEAST_WEIGHT)
  scene = borders.scene(psf, plane.shape, boundary)
  placed, rho = scene.place(plane), _RHO * weight
  quadratic = _MU * borders.power(scene.transfer) + rho * gradients.laplacian(*scene.shape)
  quadratic = quadratic.at[0, 0].max(_MU)

  # ADMM's split variables (for the blurred picture and the gradients) and scaled multipliers all
  # follow from the sum of each variable and its multiplier, so only the sums are carried.
  def step(carry, _):
    blur_sum, slope_sum, _ = carry
    blur_dual = blur_sum - (scene.seen * placed + _MU * blur_sum) / (scene.seen + _MU)
    slope_dual = slope_sum / jnp.maximum(gradients.length(slope_sum) * rho / weight, 1)[None]
    pull = jnp.fft.rfft2(_MU * (blur_sum - 2 * blur_dual))
    pull = borders.times(pull, jnp.conj(scene.transfer))
    pull -= jnp.fft.rfft2(rho * gradients.divergence(slope_sum - 2 * slope_dual))
    spectrum = borders.times(pull, 1 / quadratic)
    x = jnp.fft.irfft2(spectrum, s=scene.shape)
    blurred = jnp.fft.irfft2(borders.times(spectrum, scene.transfer), s=scene.shape)
    slope = gradients.gradient(x)
    energy = scene.misfit(blurred, placed) + weight * gradients.length(slope).sum()
    carry = (blurred + blur_dual, slope + slope_dual, x)
    return carry, energy if history else None

  start = (placed, jnp.zeros((2, *scene.shape)), placed)
  (*_, x), energies = jax.lax.scan(step, start, None, num_iter)
  return (scene.crop(x), energies) if history else scene.crop(x)
