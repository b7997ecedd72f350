"""Deconvolution with a hyper-Laplacian prior, which favors sparse gradients: few, sharp edges."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, estimate_noise, gradients, planes

# Weights of the splitting over the steps, increasing; the published schedule.
_LOOSE, _TIGHT = 1.0, 256.0
_WEIGHT = 0.5  # tuned like that of total variation, for photographs with noise of 0.002 to 0.03
_NEWTON_STEPS, _TINY = 4, 1e-6


def hyper_laplacian(
  image: jax.Array,
  psf: jax.Array,
  weight: float | None = None,
  num_iter: int = 8,
  *,
  power: float = 2 / 3,
  noise_sigma: float | None = None,
  boundary: str = 'unknown',
  history: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """Minimizes `|seen (K x - image)|^2 / 2 + weight sum |grad x|^power` by half-quadratic splitting.

  Krishnan and Fergus, "Fast image deconvolution using hyper-Laplacian priors", NeurIPS 2009, with
  the gradient's length instead of its components, which makes it isotropic. The objective has many
  minima; the few steps of the paper give better pictures than many.

  Args:
    image: blurred, `[h w]` or `[... h w c]`; channels are restored independently.
    psf: `[kh kw]`, or one for each image.
    weight: of the gradients; by default `0.5 noise_sigma^1.5`.
    num_iter: steps, with an increasing weight of the splitting.
    power: above 0 and at most 1; 0.5 to 0.8 fits photographs.
    noise_sigma: the noise's standard deviation; None: estimated, at least `estimate_noise.LEAST`.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.
    history: whether to also return the objective after each step: `(restored, [... c num_iter])`.

  Raises ValueError as `planes.each` does, for less than one step and for another power.
  """
  if num_iter < 1:
    raise ValueError(f'num_iter must be at least 1, got {num_iter}')
  if not 0 < power <= 1:
    raise ValueError(f'power must be above 0 and at most 1, got {power}')
  solve = functools.partial(
    _solve,
    weight=weight,
    noise_sigma=noise_sigma,
    num_iter=num_iter,
    power=power,
    boundary=boundary,
    history=history,
  )
  return planes.each(solve, image, psf, boundary=boundary)


@functools.partial(jax.jit, static_argnames=('num_iter', 'power', 'boundary', 'history'))
def _solve(plane, psf, *, weight, noise_sigma, num_iter, power, boundary, history):
  if weight is None:
    weight = _WEIGHT * estimate_noise.level(plane, noise_sigma) ** 1.5
  scene = borders.scene(psf, plane.shape, boundary)
  placed = scene.place(plane)
  laplacian = gradients.laplacian(*scene.shape)

  def energy(x):
    sparsity = (gradients.length(gradients.gradient(x)) ** power).sum()
    return scene.misfit(scene.blur(x), placed) + weight * sparsity

  def step(x, beta):
    rho = weight * beta
    slope = gradients.gradient(x)
    length = gradients.length(slope)
    slope = slope * (shrink(length, beta, power) / length)[None]
    x = scene.fit(placed, rho * laplacian, -rho * gradients.divergence(slope), x)
    return x, energy(x) if history else None

  x, energies = jax.lax.scan(step, placed, jnp.geomspace(_LOOSE, _TIGHT, num_iter))
  return (scene.crop(x), energies) if history else scene.crop(x)


def shrink(length: jax.Array, beta: jax.Array | float, power: float) -> jax.Array:
  """Minimizes `w^power + beta / 2 (w - length)^2` over `w >= 0`, by Newton's method."""
  # It is convex between its inflection point and `length`, where its minimum other than 0 is.
  bend = jnp.minimum((power * (1 - power) / beta) ** (1 / (2 - power)), length)
  w = length
  for _ in range(_NEWTON_STEPS):
    w = jnp.maximum(w, _TINY)
    first = power * w ** (power - 1) + beta * (w - length)
    second = power * (power - 1) * w ** (power - 2) + beta
    w = jnp.clip(w - first / jnp.maximum(second, _TINY), bend, length)
  better = w**power + beta / 2 * jnp.square(w - length) < beta / 2 * jnp.square(length)
  return jnp.where(better, w, 0)
