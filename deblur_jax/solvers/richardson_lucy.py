"""The most likely picture where photons are counted, by multiplications that keep it positive."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, gradients, planes

_EPSILON, _TINY = 1e-6, 1e-12
_LEAST_SEEN = 1e-2  # of its light; a pixel beyond the border that sends less stays as it is


def richardson_lucy(
  image: jax.Array,
  psf: jax.Array,
  num_iter: int = 30,
  *,
  tv: float = 0.0,
  accelerate: bool = False,
  boundary: str = 'unknown',
) -> jax.Array:
  """The estimate after `num_iter` steps towards the most likely picture under Poisson noise.

  Richardson 1972, Lucy 1974; borders as Bertero and Boccacci, "A simple method for the reduction of
  boundary effects in the Richardson-Lucy approach to image deconvolution", A&A 2005. More steps
  sharpen further and let noise grow.

  Args:
    image: blurred, `[h w]` or `[... h w c]`, nowhere negative.
    psf: `[kh kw]`, nowhere negative, or one for each image.
    num_iter: steps.
    tv: weight of the total variation (Dey et al. 2006), some 0.002 to 0.01 against noise.
    accelerate: whether to step on in the direction of the last step (Biggs and Andrews 1997), which
      takes a half to two thirds of the steps.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.

  Raises ValueError as `planes.each` does, and for less than one step.
  """
  if num_iter < 1:
    raise ValueError(f'at least one iteration, not {num_iter}')
  solve = functools.partial(
    _solve, tv=tv, num_iter=num_iter, accelerate=accelerate, boundary=boundary
  )
  return planes.each(solve, image, psf, boundary=boundary)


@functools.partial(jax.jit, static_argnames=('num_iter', 'accelerate', 'boundary'))
def _solve(plane, psf, *, tv, num_iter, accelerate, boundary):
  scene = borders.scene(psf, plane.shape, boundary)
  seen = scene.correlate(scene.seen)
  known, seen = seen > _LEAST_SEEN, jnp.maximum(seen, _LEAST_SEEN)
  placed = scene.place(jnp.maximum(plane, 0))

  def improve(x):
    ratio = scene.seen * placed / jnp.maximum(scene.blur(x), _EPSILON)
    x = x * jnp.where(known, jnp.maximum(scene.correlate(ratio), 0) / seen, 1)
    return x / jnp.maximum(1 - tv * gradients.curvature(x), 0.1)

  def step(carry, _):
    x, before, gain, gain_before = carry
    start = x
    if accelerate:
      along = jnp.vdot(gain, gain_before) / jnp.maximum(jnp.vdot(gain_before, gain_before), _TINY)
      start = jnp.maximum(x + jnp.clip(along, 0, 1) * (x - before), 0)
    better = improve(start)
    return (better, x, better - start, gain), None

  flat, still = jnp.full_like(placed, placed.mean()), jnp.zeros_like(placed)
  (x, *_), _ = jax.lax.scan(step, (flat, flat, still, still), None, num_iter)
  return scene.crop(x)
