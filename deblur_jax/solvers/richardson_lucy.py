"""Richardson-Lucy deconvolution: maximum likelihood under Poisson noise, positivity preserved."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, gradients, planes

_EPSILON, _TINY = 1e-6, 1e-12
# Pixels beyond the border of whose light less than this reaches the picture are not updated.
_LEAST_SEEN = 1e-2


def richardson_lucy(
  image: jax.Array,
  psf: jax.Array,
  num_iter: int = 30,
  *,
  tv: float = 0.0,
  accelerate: bool = False,
  noise_sigma: float | None = None,
  boundary: str = 'unknown',
  history: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """The estimate after `num_iter` steps towards the maximum likelihood under Poisson noise.

  Richardson 1972, Lucy 1974; borders as in Bertero and Boccacci, "A simple method for the reduction
  of boundary effects in the Richardson-Lucy approach to image deconvolution", A&A 2005. More steps
  sharpen further and amplify noise.

  Args:
    image: blurred, `[h w]` or `[... h w c]`, nonnegative.
    psf: `[kh kw]`, nonnegative, or one for each image.
    num_iter: steps.
    tv: weight of the total variation (Dey et al. 2006), about 0.002 to 0.01 against noise.
    accelerate: whether to extrapolate in the direction of the last step (Biggs and Andrews 1997),
      which reduces the steps needed to a half or two thirds.
    noise_sigma: the noise's standard deviation, to stop when the blurred estimate differs from
      `image` only as much as noise would (Morozov's discrepancy principle); None: all steps.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.
    history: whether to also return the negative log likelihood after each step (divided by the
      number of photons for a value of 1): `(restored, [... c num_iter])`.

  Raises ValueError as `planes.each` does, and for less than one step.
  """
  if num_iter < 1:
    raise ValueError(f'num_iter must be at least 1, got {num_iter}')
  solve = functools.partial(
    _solve,
    tv=tv,
    noise_sigma=noise_sigma,
    num_iter=num_iter,
    smooth=not (isinstance(tv, (int, float)) and tv == 0),
    accelerate=accelerate,
    boundary=boundary,
    history=history,
  )
  return planes.each(solve, image, psf, boundary=boundary)


_STATIC = ('num_iter', 'smooth', 'accelerate', 'boundary', 'history')


@functools.partial(jax.jit, static_argnames=_STATIC)
def _solve(plane, psf, *, tv, noise_sigma, num_iter, smooth, accelerate, boundary, history):
  scene = borders.scene(psf, plane.shape, boundary)
  seen = scene.correlate(scene.seen)
  known, seen = seen > _LEAST_SEEN, jnp.maximum(seen, _LEAST_SEEN)
  placed = scene.place(jnp.maximum(plane, 0))

  def improve(x):
    blurred = scene.blur(x)
    ratio = scene.seen * placed / jnp.maximum(blurred, _EPSILON)
    better = x * jnp.where(known, jnp.maximum(scene.correlate(ratio), 0) / seen, 1)
    if smooth:
      better = better / jnp.maximum(1 - tv * gradients.curvature(better), 0.1)
    if noise_sigma is None:
      return better
    enough = 2 * scene.misfit(blurred, placed) <= plane.size * noise_sigma**2
    return jnp.where(enough, x, better)

  def unlikelihood(x):
    blurred = jnp.maximum(scene.blur(x), _EPSILON)
    return jnp.sum(scene.seen * (blurred - placed * jnp.log(blurred)))

  def leap(x, memory):
    """A step from a point ahead of `x`, the further the more the last two steps agree."""
    before, gain, gain_before = memory
    along = jnp.vdot(gain, gain_before) / jnp.maximum(jnp.vdot(gain_before, gain_before), _TINY)
    start = jnp.maximum(x + jnp.clip(along, 0, 1) * (x - before), 0)
    better = improve(start)
    return better, (x, better - start, gain)

  def step(carry, _):
    x, memory = carry
    x, memory = leap(x, memory) if accelerate else (improve(x), ())
    return (x, memory), unlikelihood(x) if history else None

  flat, still = jnp.full_like(placed, placed.mean()), jnp.zeros_like(placed)
  start = (flat, (flat, still, still) if accelerate else ())
  (x, _), energies = jax.lax.scan(step, start, None, num_iter)
  return (scene.crop(x), energies) if history else scene.crop(x)
