"""What all solvers do with their arguments: any image, plane by plane, and a PSF that fits it."""

from collections.abc import Callable
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.blur import operators

BOUNDARIES = ('unknown', 'wrap')
"""What is taken to lie beyond the picture: nobody knows what, or the picture again (periodic)."""

_SUMS_TO_ONE = 1e-3


def each(
  solve: Callable[[jax.Array, jax.Array], jax.Array],
  image: jax.Array,
  psf: jax.Array,
  *,
  boundary: str = 'unknown',
) -> jax.Array:
  """`solve(plane [h w], psf [kh kw])` of every plane of `image`, in float32, of the same shape.

  Args:
    solve: restores a plane.
    image: `[h w]` or `[... h w c]`; every channel is a plane.
    psf: `[kh kw]`, odd or even sides, in place by `[kh // 2, kw // 2]`; or `[... kh kw]`, one for
      each image. Where it does not add up to 1 it is divided by its sum, with a warning.
    boundary: one of `BOUNDARIES`, to be checked.

  Raises ValueError for a PSF that is empty, larger than the image or not one for each image.
  """
  if boundary not in BOUNDARIES:
    raise ValueError(f'no boundary {boundary!r} (known: {", ".join(BOUNDARIES)})')
  image, psf = jnp.asarray(image, jnp.float32), jnp.asarray(psf, jnp.float32)
  if image.ndim == 2:
    return each(solve, image[..., None], psf, boundary=boundary)[..., 0]
  _check(image, psf)
  total = psf.sum((-2, -1), keepdims=True)
  if not isinstance(total, jax.core.Tracer) and np.abs(total - 1).max() > _SUMS_TO_ONE:
    warnings.warn(f'the PSF adds up to {np.ravel(total)[0]:.4g}, not 1: normalized', stacklevel=3)
  psf = psf / total
  planes = jnp.moveaxis(image, -1, -3)  # [... c h w]
  psfs = jnp.broadcast_to(
    psf if psf.ndim == 2 else psf[..., None, :, :], (*planes.shape[:-2], *psf.shape[-2:])
  )
  flat = planes.reshape(-1, *planes.shape[-2:]), psfs.reshape(-1, *psfs.shape[-2:])
  restored = operators.each(lambda pair: solve(*pair), flat)
  return jnp.moveaxis(restored.reshape(planes.shape), -3, -1)


def _check(image: jax.Array, psf: jax.Array) -> None:
  if psf.ndim < 2 or not psf.size:
    raise ValueError(f'a PSF is [kh kw], not {list(psf.shape)}')
  if psf.ndim > 2 and psf.shape[:-2] != image.shape[:-3]:
    raise ValueError(
      f'PSFs {psf.shape} do not match images {image.shape}: give one, or one for each image'
    )
  (kh, kw), (height, width) = psf.shape[-2:], image.shape[-3:-1]
  if kh > height or kw > width:
    raise ValueError(f'the PSF, {kh}x{kw}, is larger than the picture, {height}x{width}')
