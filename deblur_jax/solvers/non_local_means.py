"""Non-local means denoising: each pixel is averaged with pixels that have similar neighborhoods."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.solvers import estimate_noise


@functools.partial(jax.jit, static_argnames=('patch_size', 'patch_distance'))
def non_local_means(
  image: jax.Array,
  sigma: jax.Array | float | None = None,
  *,
  patch_size: int = 5,
  patch_distance: int = 8,
  h: jax.Array | float | None = None,
) -> jax.Array:
  """`image` denoised, of the same shape.

  Buades, Coll and Morel, "A non-local algorithm for image denoising", CVPR 2005, with the noise's
  contribution subtracted from the distances. Like `skimage.restoration.denoise_nl_means`, with the
  same arguments, but with unweighted patches as in its fast mode.

  Args:
    image: `[h w]` or `[... h w c]`; channels are compared together.
    sigma: the noise's standard deviation; None to estimate it for each image, from its first
      channel.
    patch_size: side of the patches, odd.
    patch_distance: how far to search, in pixels along rows and columns.
    h: cutoff of the patch distance; by default 0.8 sigma.
  """
  image = jnp.asarray(image, jnp.float32)
  if image.ndim > 3:
    one = functools.partial(
      non_local_means, sigma=sigma, patch_size=patch_size, patch_distance=patch_distance, h=h
    )
    flat = jax.lax.map(one, image.reshape(-1, *image.shape[-3:]))
    return flat.reshape(image.shape)
  planes = image[None] if image.ndim == 2 else jnp.moveaxis(image, -1, 0)  # [c h w]
  sigma = estimate_noise.estimate(planes[0]) if sigma is None else sigma
  h = 0.8 * sigma if h is None else h
  half, (channels, height, width) = patch_size // 2, planes.shape
  near = jnp.pad(planes, ((0, 0), (half, half), (half, half)), mode='reflect')
  reach = half + patch_distance
  # Reflects repeatedly if the picture is small.
  far = jnp.pad(planes, ((0, 0), (reach, reach), (reach, reach)), mode='reflect')

  def add(carry, offset):
    total, weights = carry
    there = jax.lax.dynamic_slice(far, (0, *offset), near.shape)
    distance = _box(jnp.square(there - near).sum(0), patch_size)
    distance = distance / (channels * patch_size**2) - 2 * sigma**2
    weight = jnp.exp(-jnp.maximum(distance, 0) / (h**2 + 1e-12))
    middle = there[:, half : half + height, half : half + width]
    return (total + weight[None] * middle, weights + weight), None

  steps = np.arange(2 * patch_distance + 1)
  offsets = np.stack(np.meshgrid(steps, steps, indexing='ij'), -1).reshape(-1, 2)
  start = jnp.zeros_like(planes), jnp.zeros((height, width))
  (total, weights), _ = jax.lax.scan(add, start, offsets)
  found = total / weights[None]
  return found[0] if image.ndim == 2 else jnp.moveaxis(found, 0, -1)


def _box(plane: jax.Array, size: int) -> jax.Array:
  """Sums over windows that lie wholly inside the plane."""
  height, width = (side - size + 1 for side in plane.shape)
  rows = sum(plane[i : i + height] for i in range(size))
  return sum(rows[:, i : i + width] for i in range(size))
