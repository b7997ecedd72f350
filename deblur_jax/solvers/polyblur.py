"""Blind removal of mild blur: estimates a Gaussian and applies a polynomial of it."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax import checks
from deblur_jax.blur import kernels
from deblur_jax.solvers import borders, gradients, planes
from deblur_jax.solvers import estimate_gaussian as slopes
from deblur_jax.solvers.estimate_psf import Estimate, likeness

MOST = 4.0
"""Largest sigma removed, in pixels; a larger estimate means strong blur or a soft picture."""

_SIZE = 25  # side of the kernel: three times the largest sigma each way
_TINY, _FLAT = 1e-12, 1e-4


def polyblur(
  image: jax.Array,
  psf: jax.Array | None = None,
  *,
  alpha: float = 2.0,
  beta: float = 3.0,
  boundary: str = 'unknown',
) -> jax.Array:
  """`image` sharpened by a cubic polynomial of its blur, without iterations.

  Delbracio et al., "Polyblur: Removing Mild Blur by Polynomial Reblurring", IEEE TCI 2021. The
  polynomial inverts the blur at frequencies that it attenuates little. Where a gradient would be
  reversed, as in halos, the result is blended with the input.

  Args:
    image: blurred, `[h w]` or `[... h w c]`.
    psf: `[kh kw]`, or one for each image; by default the Gaussian that `estimate` finds for each.
    alpha: the curvature of the polynomial: how strongly middle frequencies are restored.
    beta: the gain at frequencies that the blur removes; 1 does not amplify noise.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.

  Raises ValueError as `planes.each` does.
  """
  checks.images(image, 'images to restore')
  image = jnp.asarray(image, jnp.float32)
  if psf is None:
    with jax.enable_x64(False):
      psf = _psf(image[..., None] if image.ndim == 2 else image)
  assert psf is not None
  solve = functools.partial(_sharpen, alpha=alpha, beta=beta, boundary=boundary)
  return planes.each(solve, image, psf, boundary=boundary)


def estimate(image: jax.Array) -> Estimate:
  """The estimated Gaussian blur of an image `[h w]` or `[h w c]`, as a PSF.

  The confidence, from 0 to 1, is the `likeness` of the Gaussians of the two halves of the picture,
  times `estimate_gaussian.fit`, which is low for motion; 0 if sigma is `MOST` or more. Of 42
  pictures (docs/diagnosis.md), 24 had 0.85 or more, and the likeness of the PSF to the true one
  exceeded 0.9 for 23 of these and for 4 of the 18 below.
  """
  checks.images(image)
  return _estimate(jnp.asarray(image, jnp.float32))


@jax.jit
def _estimate(image: jax.Array) -> Estimate:
  image = image if image.ndim == 3 else image[..., None]
  wide = jnp.moveaxis(image, 0, 1) if image.shape[0] > image.shape[1] else image
  middle = wide.shape[1] // 2
  if not middle:  # a single pixel has no halves to compare
    return Estimate(_psf(image), jnp.zeros(()))
  first, second = (_psf(half) for half in (wide[:, :middle], wide[:, middle:]))
  steepest = slopes.slopes(slopes.stretched(image))
  known = slopes.from_slopes(steepest).sigma < MOST
  confidence = likeness(first, second) * slopes.fit(steepest)
  return Estimate(_psf(image), jnp.where(known, confidence, 0.0))


@jax.jit
def _psf(images: jax.Array) -> jax.Array:
  """Gaussians `[... size size]` of images `[... h w c]`."""
  size = min(_SIZE, (min(images.shape[-3:-1]) - 1) // 2 * 2 + 1)
  found = slopes.gaussian(images)
  sigma = jnp.minimum(found.sigma, MOST)

  def draw(sigma, ratio, angle):
    return kernels.gaussian(sigma, size, ratio=ratio, angle=angle)

  return jnp.vectorize(draw, signature='(),(),()->(k,l)')(sigma, found.ratio, found.angle)


@functools.partial(jax.jit, static_argnames='boundary')
def _sharpen(plane, psf, *, alpha, beta, boundary):
  scene, placed = borders.surround(plane, psf, boundary)
  size = jnp.sqrt(borders.power(scene.transfer) + _TINY)
  inverse = beta + size * (
    (5 - 3 * beta + alpha / 2) + size * ((3 * beta - alpha - 6) + size * (alpha / 2 - beta + 2))
  )
  sharp = scene.filter(placed, inverse * jnp.conj(scene.transfer) / size)
  before, after = gradients.gradient(placed), gradients.gradient(sharp)
  turned = jnp.maximum(-gradients.dot(before, after), 0)
  halo = turned / (gradients.dot(before, before) + turned + _FLAT)
  return scene.crop(halo * placed + (1 - halo) * sharp)
