"""Argument handling of all solvers: checks image and PSF, and maps over images and channels."""

from collections.abc import Callable
from concurrent import futures
from typing import Any
import warnings

import jax
from jax.extend.core import get_opaque_trace_state
import jax.numpy as jnp
import numpy as np

from deblur_jax import checks
from deblur_jax.blur import operators

BOUNDARIES = ('unknown', 'wrap')
"""What lies beyond the picture: unknown values, or the picture itself, repeated."""

_SUMS_TO_ONE = 1e-3


def each(
  solve: Callable[[jax.Array, jax.Array], Any],
  image: jax.Array,
  psf: jax.Array,
  *,
  boundary: str = 'unknown',
) -> Any:
  """`solve(plane [h w], psf [kh kw])` of every plane of `image`, in float32, of the same shape.

  Args:
    solve: restores a plane; may return `(restored, history)` with a `history` `[n]`, which is
      returned as `[... c n]`, without `c` for a gray image.
    image: `[h w]` or `[... h w c]`; every channel is a plane.
    psf: `[kh kw]`, odd or even sides, centered at `[kh // 2, kw // 2]`; or `[... kh kw]`, one for
      each image. If it does not sum to 1 it is divided by its sum, with a warning.
    boundary: one of `BOUNDARIES`; only checked here.

  Raises ValueError for an image that is empty, of integers or in [0, 255], and for a PSF that is
  empty, sums to 0, is larger than the image or does not match the images in number.
  """

  def by_channels(image, psf):
    found = _mapped(lambda plane: solve(plane, psf), _moved(image, -1, 0))
    return jax.tree.map(lambda part: _moved(part, 0, -1), found)

  with jax.enable_x64(False):  # float64 constants would change the dtypes of loop carries
    found = _over_images(by_channels, *_checked(image, psf, boundary))
  if not isinstance(found, tuple):
    return jnp.asarray(found.reshape(jnp.shape(image)))
  restored, history = found
  history = _moved(history, -1, -2)
  history = history[0] if jnp.ndim(image) == 2 else history
  return jnp.asarray(restored.reshape(jnp.shape(image))), jnp.asarray(history)


def each_image(
  solve: Callable[[jax.Array, jax.Array], Any],
  image: jax.Array,
  psf: jax.Array,
  *,
  boundary: str = 'unknown',
) -> Any:
  """As `each`, for a `solve` that takes all channels `[h w c]` together; `history` is `[... n]`."""
  with jax.enable_x64(False):  # as in `each`
    found = _over_images(solve, *_checked(image, psf, boundary))
  if not isinstance(found, tuple):
    return jnp.asarray(found.reshape(jnp.shape(image)))
  return jnp.asarray(found[0].reshape(jnp.shape(image))), jnp.asarray(found[1])


def _over_images(solve, image, psf):
  leading = image.shape[:-3]
  psfs = _like(psf).broadcast_to(psf, (*leading, *psf.shape[-2:]))
  flat = image.reshape(-1, *image.shape[-3:]), psfs.reshape(-1, *psfs.shape[-2:])
  found = _mapped(lambda pair: solve(*pair), flat)
  return jax.tree.map(lambda part: part.reshape(*leading, *part.shape[1:]), found)


def _mapped(function, inputs):
  leaves = jax.tree.leaves(inputs)
  if not isinstance(leaves[0], np.ndarray):
    return operators.each(function, inputs)
  # Not jax.lax.map, which outside of jit would compile in every call.
  items = [jax.tree.map(lambda one: one[i], inputs) for i in range(len(leaves[0]))]
  found = _side_by_side(function, items) if len(items) > 1 else [function(items[0])]
  return jax.tree.map(_stacked, *found)


def _stacked(*parts):
  # `solve` may close over traced values even if the image is not traced.
  if any(isinstance(part, jax.core.Tracer) for part in parts):
    return jnp.stack(parts)
  return np.stack(parts) if len(parts) > 1 else np.asarray(parts[0])[None]


def _like(array):
  return np if isinstance(array, np.ndarray) else jnp


def _moved(array, source, destination):
  return _like(array).moveaxis(array, source, destination)


def _side_by_side(function, items):
  """`function` of every item: of the first, which compiles it, then of the rest in threads.

  An FFT uses only one core. Under `jax.grad` and other transformations, which threads do not
  inherit, the items are processed one after the other.
  """
  first = function(items[0])
  with futures.ThreadPoolExecutor() as pool:
    elsewhere = pool.submit(get_opaque_trace_state).result()
    run = pool.map if elsewhere == get_opaque_trace_state() else map
    return [first, *run(function, items[1:])]


def _checked(image, psf, boundary):
  """An image `[... h w c]` and PSFs that sum to 1. Raises as `each`.

  As NumPy arrays if neither is traced and the backend is a CPU: the reshaping around `solve` is
  then free, whereas uncompiled in JAX it took as long as a fast solver.
  """
  if boundary not in BOUNDARIES:
    raise ValueError(f'no boundary {boundary!r} (known: {", ".join(BOUNDARIES)})')
  checks.images(image if hasattr(image, 'dtype') else np.asarray(image), 'images to restore')
  traced = any(isinstance(one, jax.core.Tracer) for one in (image, psf))
  array = np.asarray if jax.default_backend() == 'cpu' and not traced else jnp.asarray
  image, psf = array(image, np.float32), array(psf, np.float32)
  image = image[..., None] if image.ndim == 2 else image
  _check(image, psf)
  total = psf.sum((-2, -1), keepdims=True)
  if not isinstance(total, jax.core.Tracer):
    sums = np.ravel(total)
    if not (np.isfinite(sums) & (sums != 0)).all():
      raise ValueError('the PSF sums to 0 or has values that are not finite')
    worst = sums[np.abs(sums - 1).argmax()]
    if abs(worst - 1) > _SUMS_TO_ONE:
      warnings.warn(f'the PSF sums to {worst:.4g}, not 1: normalized', stacklevel=4)
  return image, psf / total


def _check(image: jax.Array, psf: jax.Array) -> None:
  if image.ndim < 3 or not image.size:
    raise ValueError(f'an image must be [h w] or [... h w c], got {list(image.shape)}')
  if psf.ndim < 2 or not psf.size:
    raise ValueError(f'a PSF must be [kh kw], got {list(psf.shape)}')
  if psf.ndim > 2 and psf.shape[:-2] != image.shape[:-3]:
    raise ValueError(
      f'PSFs {psf.shape} do not match images {image.shape}: give one, or one for each image'
    )
  (kh, kw), (height, width) = psf.shape[-2:], image.shape[-3:-1]
  if kh > height or kw > width:
    raise ValueError(f'the PSF of {kh}x{kw} is larger than the picture of {height}x{width}')
