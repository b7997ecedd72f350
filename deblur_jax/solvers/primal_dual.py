"""Total variation for any linear blur, such as one that varies over the picture."""

import functools
from typing import Protocol

import jax
import jax.numpy as jnp

from deblur_jax.solvers import estimate_noise, gradients
from deblur_jax.solvers.total_variation import WEIGHT

# Ratio of the primal to the dual step size; dual variables are smaller by about this much.
_RATIO = 10.0


class Blur(Protocol):
  """A linear blur of images `[... h w c]`, such as `blur.varying.SpatiallyVarying`; a pytree."""

  def apply(self, image: jax.Array) -> jax.Array:
    """`image` blurred."""

  def adjoint(self, image: jax.Array) -> jax.Array:
    """The adjoint of `apply`."""


def total_variation_of(
  image: jax.Array,
  blur: Blur,
  weight: float | None = None,
  num_iter: int = 100,
  *,
  noise_sigma: float | None = None,
  history: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """Minimizes `|K x - image|^2 / 2 + weight sum |grad x|` for any linear blur K.

  Chambolle and Pock, "A first-order primal-dual algorithm for convex problems with applications to
  imaging", J. Math. Imaging Vis. 2011. `blur` defines what lies beyond the border. For a single PSF
  `total_variation` is faster and treats the region beyond the border as unknown.

  Args:
    image: blurred, `[h w]` or `[... h w c]`; channels are restored independently.
    blur: the blur of all images.
    weight: of the total variation; by default `0.7 noise_sigma^1.5`.
    num_iter: steps.
    noise_sigma: the noise's standard deviation; None: estimated, at least `estimate_noise.LEAST`.
    history: whether to also return the objective after each step: `(restored, [... num_iter])`.

  Raises ValueError for less than one step and for an invalid image shape.
  """
  if num_iter < 1:
    raise ValueError(f'num_iter must be at least 1, got {num_iter}')
  image = jnp.asarray(image, jnp.float32)
  if image.ndim < 2 or not image.size:
    raise ValueError(f'an image must be [h w] or [... h w c], got {list(image.shape)}')
  colors = image[..., None] if image.ndim == 2 else image
  leading = colors.shape[:-3]
  options = {'weight': weight, 'noise_sigma': noise_sigma}
  options |= {'num_iter': num_iter, 'history': history}
  images = colors.reshape(-1, *colors.shape[-3:])
  found = _solve(images, blur, **options)
  if not history:
    return found.reshape(image.shape)
  return found[0].reshape(image.shape), found[1].reshape(*leading, num_iter)


@functools.partial(jax.jit, static_argnames=('num_iter', 'history'))
def _solve(images, blur, **options):
  return jax.lax.map(lambda image: _solve_one(image, blur, **options), images)


def _solve_one(image, blur, *, weight, noise_sigma, num_iter, history):
  if weight is None:
    level = jnp.stack(
      [estimate_noise.level(plane, noise_sigma) for plane in jnp.moveaxis(image, -1, 0)]
    )
    weight = WEIGHT * level**1.5
  weight = jnp.broadcast_to(weight, image.shape[-1:])
  over_channels = functools.partial(jax.vmap, in_axes=-1, out_axes=-1)
  slope_of, spread = over_channels(gradients.gradient), over_channels(gradients.divergence)
  lengths = over_channels(gradients.length)
  # The squared norm of (K, grad): K and its adjoint of ones bound K's, 8 bounds the gradient's.
  most = blur.apply(jnp.ones_like(image)).max() * blur.adjoint(jnp.ones_like(image)).max()
  stride = 1 / jnp.sqrt(most + 8)
  down, up = stride * _RATIO, stride / _RATIO

  def step(carry, _):
    x, ahead, misfit, slope = carry
    misfit = (misfit + up * (blur.apply(ahead) - image)) / (1 + up)
    slope = slope + up * slope_of(ahead)
    longest = jnp.maximum(lengths(slope), weight[None, None])
    slope = slope * (weight[None, None] / longest)[None]
    better = x - down * (blur.adjoint(misfit) - spread(slope))
    return (better, 2 * better - x, misfit, slope), energy(better) if history else None

  def energy(x):
    rough = jnp.sum(weight[None, None] * lengths(slope_of(x)))
    return 0.5 * jnp.sum(jnp.square(blur.apply(x) - image)) + rough

  start = (image, image, jnp.zeros_like(image), jnp.zeros((2, *image.shape)))
  (x, *_), energies = jax.lax.scan(step, start, None, num_iter)
  return (x, energies) if history else x
