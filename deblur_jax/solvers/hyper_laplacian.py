"""The picture of sparsest gradients that explains what is seen: few and sharp edges."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, estimate_noise, gradients, planes

# Weights of the splitting over the steps, from loose to tight; the published schedule.
_LOOSE, _TIGHT = 1.0, 256.0
_WEIGHT = 0.5  # as of total variation: best for photographs under noise of 0.002 to 0.03
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
  """What makes `|seen (K x - image)|^2 / 2 + weight sum |grad x|^power` small, half-quadratically.

  Krishnan and Fergus, "Fast image deconvolution using hyper-Laplacian priors", NeurIPS 2009, with
  the gradient's length for its parts, so that no direction is favored. That objective has many
  minima; the few steps of the paper, not many, find the best pictures.

  Args:
    image: blurred, `[h w]` or `[... h w c]`; every channel by itself.
    psf: `[kh kw]`, or one for each image.
    weight: of the gradients; by default `0.5 noise_sigma^1.5`.
    num_iter: steps, between which the splitting is tightened.
    power: above 0 and at most 1; 0.5 to 0.8 fits photographs.
    noise_sigma: the noise's standard deviation; None: estimated, at least `estimate_noise.LEAST`.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.
    history: whether to return the objective after each step, too: `(restored, [... c num_iter])`.

  Raises ValueError as `planes.each` does, for less than one step and for another power.
  """
  if num_iter < 1:
    raise ValueError(f'at least one iteration, not {num_iter}')
  if not 0 < power <= 1:
    raise ValueError(f'the power is above 0 and at most 1, not {power}')
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
  """What minimizes `w^power + beta / 2 (w - length)^2` over `w >= 0`, by Newton's method."""
  # Between its inflection and `length` it is convex, and has there the minimum other than 0.
  bend = jnp.minimum((power * (1 - power) / beta) ** (1 / (2 - power)), length)
  w = length
  for _ in range(_NEWTON_STEPS):
    w = jnp.maximum(w, _TINY)
    first = power * w ** (power - 1) + beta * (w - length)
    second = power * (power - 1) * w ** (power - 2) + beta
    w = jnp.clip(w - first / jnp.maximum(second, _TINY), bend, length)
  better = w**power + beta / 2 * jnp.square(w - length) < beta / 2 * jnp.square(length)
  return jnp.where(better, w, 0)
