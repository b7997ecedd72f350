"""Blind estimation of the PSF that blurred a picture.

From coarse to fine, alternates between a sketch of the sharp picture and the PSF that blurs it into
the observed one. The sketch first keeps only strong edges, which blur cannot produce (Xu, Zheng,
Jia, "Unnatural L0 sparse representation for natural image deblurring", CVPR 2013), and of those
only the strongest (Xu and Jia, "Two-phase kernel estimation for robust motion deblurring", ECCV
2010); later it is the restoration by total variation, whose gradients are more accurate once the
PSF is nearly right. The PSF is a least-squares fit of gradients, restricted to its support, by
pixels that the region beyond the border does not affect.
"""

from collections.abc import Sequence
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import checks
from deblur_jax.blur import kernels, operators
from deblur_jax.solvers import borders, estimate_noise, gradients
from deblur_jax.solvers.total_variation import total_variation

SIZE = 31
"""Default side of the estimated PSF, in pixels."""

WINDOW = 400
"""Larger pictures are estimated from the most textured square of this side."""

LEAST_SIZE = 5
"""Smallest side of a PSF, which is also its side on the coarsest level."""

_PASSES, _STEEPEST = 8, 24  # passes with edges only; steps of increasing penalty in each
_EDGE, _COARSER = 4e-3, 1.4  # cost of an edge; factor on each coarser level
_REFINEMENTS, _VARIATION, _VARIATION_STEPS = 3, 3e-4, 30
_SMALL, _STEPS = 0.1, 25  # weight of the PSF's own energy; steps of conjugate gradients
_PARTS = (0.0, 1.0), (0.0, 0.5), (0.5, 1.0)  # of the width: all, and each half
_TAP, _ISLAND = 1 / 20, 0.1  # fractions of the largest tap and of the sum below which it is noise


class Estimate(NamedTuple):
  """An estimated PSF."""

  psf: jax.Array | np.ndarray
  """`[size size]`, nonnegative, sum 1, its centroid within a pixel of the middle."""
  confidence: jax.Array | float
  """From 0 to 1: the `likeness` of the PSFs estimated from each half of the picture, times the
  distance of the PSF from no blur (the root of 1 minus its squared likeness to it), times the
  fraction of the gradients' energy that is not noise.

  Of 22 shaken pictures (tools/blind_table.py) all had 0.63 or more, and restoration by total
  variation gained 4.3 to 12.8 dB. Sharp and featureless pictures have less, but a shake that varies
  over the picture, is clipped, or is longer than the PSF's size may not.
  """


def estimate(image: jax.Array, size: int = SIZE) -> Estimate:
  """The estimated PSF of a uniform blur of `image`, `[h w]` or `[h w c]`.

  `image` is in linear light; uses the most textured square of `WINDOW` pixels of the mean of its
  channels. `size`, odd, is the side of the PSF, ideally a little larger than the blur. Raises
  ValueError for an even size, or a picture smaller than twice the size.
  """
  if size < LEAST_SIZE or size % 2 == 0:
    raise ValueError(f'the side of the PSF must be odd and at least {LEAST_SIZE}, got {size}')
  checks.images(image)
  plane = jnp.asarray(image, jnp.float32)
  plane = plane if plane.ndim == 2 else plane.mean(-1)
  if min(plane.shape) < 2 * size:
    h, w = plane.shape
    raise ValueError(
      f'a PSF of {size}x{size} requires a picture of at least {2 * size}x{2 * size}, got {w}x{h}'
    )
  plane = _window(plane)
  psf, *halves = _estimates(plane, size)
  return Estimate(psf, _confidence(plane, psf, halves))


@jax.jit
def likeness(psf: jax.Array, other: jax.Array) -> jax.Array:
  """Normalized correlation of two PSFs `[kh kw]` of any sizes, at the best shift: 0 to 1.

  The kernel similarity of Hu and Yang, "Good regions to deblur", ECCV 2012.
  """
  shape = [one + two for one, two in zip(psf.shape, other.shape, strict=True)]
  first, second = (jnp.fft.rfft2(one, s=shape) for one in (psf, other))
  most = jnp.fft.irfft2(first * jnp.conj(second), s=shape).max()
  return most / jnp.sqrt(jnp.square(psf).sum() * jnp.square(other).sum())


@jax.jit
def _confidence(plane: jax.Array, psf: jax.Array, halves: Sequence[jax.Array]) -> jax.Array:
  blurs = 1 - likeness(psf, kernels.delta(psf.shape[0])) ** 2
  energy = 2 * jnp.square(gradients.gradient(plane)).mean()
  signal = 1 - 4 * estimate_noise.estimate(plane) ** 2 / jnp.maximum(energy, 1e-6)
  return likeness(*halves) * jnp.sqrt(jnp.maximum(blurs, 0)) * jnp.clip(signal, 0, 1)


def _estimates(plane: jax.Array, size: int) -> jax.Array:
  """A PSF for each of `_PARTS`, `[3 size size]`."""
  psfs = jnp.zeros((len(_PARTS), 1, 2)).at[...].set(0.5)
  for level in range(int(2 * math.log2(size / LEAST_SIZE)), -1, -1):
    shrink = 2 ** (-level / 2)
    side = 2 * round((size * shrink - 1) / 2) + 1
    small = jax.image.resize(plane, [round(length * shrink) for length in plane.shape], 'linear')
    psfs = _by_edges(small, _resized(psfs, side), _EDGE * _COARSER**level)
  return _by_variation(plane, psfs)


def most_textured(plane: jax.Array, side: int = WINDOW) -> tuple[slice, slice]:
  """Rows and columns of the most textured square of a plane `[h w]`; all of it if it is smaller."""
  h, w = (min(length, side) for length in plane.shape)
  top, left = (int(start) for start in _most_textured(plane, side))
  return slice(top, top + h), slice(left, left + w)


@functools.partial(jax.jit, static_argnames='side')
def _most_textured(plane: jax.Array, side: int) -> tuple[jax.Array, jax.Array]:
  h, w = (min(length, side) for length in plane.shape)
  texture = jnp.pad(gradients.length(gradients.gradient(plane)), ((1, 0), (1, 0)))
  sums = texture.cumsum(0).cumsum(1)
  sums = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
  top, left = jnp.unravel_index(jnp.argmax(sums), sums.shape)
  return top, left


@functools.partial(jax.jit, static_argnames='side')
def _window(plane: jax.Array, side: int = WINDOW) -> jax.Array:
  """The most textured square of a plane, scaled to a range of values of about 1."""
  size = [min(length, side) for length in plane.shape]
  plane = jax.lax.dynamic_slice(plane, _most_textured(plane, side), size)
  low, high = jnp.quantile(plane, jnp.array([0.001, 0.999]))
  return (plane - low) / jnp.maximum(high - low, 1e-3)


@jax.jit
def _by_edges(plane: jax.Array, psfs: jax.Array, cost: float) -> jax.Array:
  """`psfs` improved by the strong edges of `plane`."""
  slopes, passes = gradients.gradient(plane), jnp.arange(_PASSES)

  def find(pair):
    def improve(psf, passed):
      cost, share = passed
      edges = _strongest(_sketch(plane, psf, cost), psf.shape[0], share)
      return _tidy(_fit(edges, slopes, psf.shape[0], part)), None

    psf, part = pair
    return jax.lax.scan(improve, psf, (cost / 1.1**passes, 1.05**passes))[0]

  return operators.each(find, (psfs, jnp.array(_PARTS)))


@jax.jit
def _by_variation(plane: jax.Array, psfs: jax.Array) -> jax.Array:
  """`psfs`, which are nearly right, improved by all gradients of `plane`."""
  slopes = gradients.gradient(plane)
  weight = jnp.maximum(_VARIATION, 5 * estimate_noise.estimate(plane) ** 2)

  def find(pair):
    def improve(psf, _):
      sharp: Any = total_variation(plane, psf, weight, _VARIATION_STEPS)
      return _tidy(_fit(gradients.gradient(sharp), slopes, psf.shape[0], part)), None

    psf, part = pair
    return jax.lax.scan(improve, psf, None, _REFINEMENTS)[0]

  return operators.each(find, (psfs, jnp.array(_PARTS)))


@functools.partial(jax.jit, static_argnames='side')
def _resized(psfs: jax.Array, side: int) -> jax.Array:
  resized = jax.image.resize(psfs, (len(psfs), side, side), 'linear')
  return jax.vmap(_middle)(resized)


def _sketch(plane: jax.Array, psf: jax.Array, weight: jax.Array) -> jax.Array:
  """Approximately minimizes `|K x - plane|^2 + weight (number of pixels where x changes)`."""
  scene, placed = borders.surround(plane, psf, 'unknown')
  power, laplacian = borders.power(scene.transfer), gradients.laplacian(*scene.shape)
  pull = jnp.conj(scene.transfer) * jnp.fft.rfft2(placed)

  def step(i, x):
    steep = 2 * weight * 2.0**i
    slope = gradients.gradient(x)
    slope = jnp.where(gradients.dot(slope, slope)[None] < weight / steep, 0, slope)
    spectrum = pull - steep * jnp.fft.rfft2(gradients.divergence(slope))
    return jnp.fft.irfft2(spectrum / (power + steep * laplacian), s=scene.shape)

  return scene.crop(jax.lax.fori_loop(0, _STEEPEST, step, placed))


def _strongest(sketch: jax.Array, size: int, share: jax.Array) -> jax.Array:
  """The strongest gradients of a sketch `[h w]`, all others 0: `[2 h w]`.

  Keeps enough for a PSF of `size` pixels: 2 `size` times the side of the picture, times `share`.
  """
  h, w = sketch.shape
  slope = gradients.gradient(sketch).at[0, -1].set(0).at[1, :, -1].set(0)
  length = gradients.length(slope)
  count = share * min(2 * size * (h * w) ** 0.5, h * w / 2)
  least = jnp.sort(length.ravel())[h * w - 1 - count.astype(int)]
  return jnp.where(length >= least, slope, 0)


def _fit(edges: jax.Array, slopes: jax.Array, size: int, part: jax.Array) -> jax.Array:
  """The PSF `[size size]` that blurs gradients `edges` into `slopes`, both `[2 h w]`.

  Uses only pixels away from the border and in a `part` of the picture, from one fraction of its
  width to another.
  """
  _, h, w = edges.shape
  reach, shape = size // 2, (operators.fast_length(h), operators.fast_length(w))
  place = jnp.arange(w) / w
  seen = jnp.zeros((1, h, w)).at[:, reach : h - reach - 1, reach : w - reach - 1].set(1)
  seen *= ((place >= part[0]) & (place < part[1]))[None, None]
  spectrum = jnp.fft.rfft2(edges, s=shape)

  def blur(psf):
    transfer = operators.Convolution(psf, 'wrap').transfer(*shape)
    return jnp.fft.irfft2(spectrum * transfer[None], s=shape)[:, :h, :w]

  def back(field):
    field = jnp.fft.rfft2(seen * field, s=shape)
    whole = jnp.fft.irfft2((jnp.conj(spectrum) * field).sum(0), s=shape)
    return jnp.roll(whole, (reach, reach), (0, 1))[:size, :size]

  small = _SMALL * (seen * jnp.square(edges)).sum()
  return jax.scipy.sparse.linalg.cg(
    lambda psf: back(blur(psf)) + small * psf, back(slopes), maxiter=_STEPS
  )[0]


def _tidy(psf: jax.Array) -> jax.Array:
  """`psf` without small taps and small islands; no blur if nothing is left."""
  size = psf.shape[0]
  psf = jnp.where(psf < _TAP * psf.max(), 0, psf)
  psf = psf / jnp.maximum(psf.sum(), 1e-6)

  def spread(names):
    wide = jax.lax.reduce_window(names, 0, jax.lax.max, (3, 3), (1, 1), 'SAME')
    return jnp.where(psf > 0, wide, 0)

  # Labels the islands: every tap takes its neighbors' largest label until nothing changes.
  names = 1 + jnp.arange(size**2).reshape(size, size)
  names, _ = jax.lax.while_loop(
    lambda pair: (pair[0] != pair[1]).any(),
    lambda pair: (spread(pair[0]), pair[0]),
    (spread(names), names),
  )
  mass = jnp.zeros(size**2 + 1).at[names.ravel()].add(psf.ravel())
  psf = jnp.where(mass[names] < _ISLAND, 0, psf)
  return jnp.where(psf.max() > 0, _middle(psf), kernels.delta(size))


def _middle(psf: jax.Array) -> jax.Array:
  """`psf` normalized to sum 1, and shifted by whole pixels to center its centroid."""
  size = psf.shape[0]
  psf = psf / jnp.maximum(psf.sum(), 1e-6)
  place = jnp.arange(size) - size // 2
  off = [jnp.round((psf.sum(1 - axis) * place).sum()).astype(int) for axis in (0, 1)]
  moved = jax.lax.dynamic_slice(jnp.pad(psf, size), [size + one for one in off], (size, size))
  return moved / jnp.maximum(moved.sum(), 1e-6)
