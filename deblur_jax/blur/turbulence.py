"""Pictures seen through turbulent air: correlated tilts that warp, aberrations that blur.

After Chimitt and Chan, "Simulating anisoplanatic turbulence by sampling intermodal and spatially
correlated Zernike coefficients", Optical Engineering 59(8), 2020. `strength` is D/r0, the aperture
over Fried's coherence length: 1 is barely visible, 5 is strong. The turbulence is Kolmogorov's,
described by Noll's polynomials ("Zernike polynomials and atmospheric turbulence", JOSA 66(3),
1976). A pixel is half of lambda / D, as in a camera that samples everything its lens resolves.
`footprint` is the distance, in pixels, of two points whose light passes the turbulence one aperture
apart: their tilts are similar within it, and differ beyond several times that distance.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from deblur_jax.blur import projective
from deblur_jax.blur.varying import SpatiallyVarying

_PIXEL = 0.5  # in lambda / D
_MODES = 36  # Noll's polynomials; the higher ones carry 1 % of the variance
_SPECTRUM = 0.0228956  # power of the phase at D = r0 and one cycle per D, falling as f^(-11/3)


def turbulence(
  key: jax.Array,
  image: jax.Array,
  *,
  strength: jax.Array | float,
  footprint: float = 16.0,
  patch: int = 64,
  size: int = 33,
) -> jax.Array:
  """A short exposure of `image` `[h w c]`, in linear light, mirrored at the borders.

  Tilts shift every pixel; the higher aberrations are drawn independently for patches of about
  `patch` pixels, and give PSFs `[size size]` that blend into each other.
  """
  return _expose(image, _air(key, image, footprint, patch), strength, size)


def film(
  key: jax.Array,
  image: jax.Array,
  *,
  strength: jax.Array | float,
  frames: int,
  correlation: jax.Array | float,
  footprint: float = 16.0,
  patch: int = 64,
  size: int = 33,
) -> jax.Array:
  """Short exposures `[frames h w c]` of `image`, each as in `turbulence`.

  Tilts and aberrations are AR(1) processes: those of consecutive frames have the `correlation`, in
  [0, 1].
  """

  def step(air, key):
    frame = _expose(image, air, strength, size)
    fresh = _air(key, image, footprint, patch)
    old, new = correlation, (1 - jnp.square(correlation)) ** 0.5
    return jax.tree.map(lambda air, fresh: old * air + new * fresh, air, fresh), frame

  start, rest = jax.random.split(key)
  return jax.lax.scan(step, _air(start, image, footprint, patch), jax.random.split(rest, frames))[1]


def long_exposure(strength: jax.Array | float, size: int) -> jax.Array:
  """Kernel `[size size]` of an exposure much longer than the time scale of the turbulence.

  Fried, "Optical resolution through a randomly inhomogeneous medium", JOSA 56(10), 1966: the
  transfer function of the lens times exp(-3.44 (f D / r0)^(5/3)), f in cycles per lambda / D.
  """
  grid = 4 * size
  f = np.hypot(np.fft.fftfreq(grid)[:, None], np.fft.rfftfreq(grid)[None]) / _PIXEL
  seen = np.minimum(f, 1)
  lens = 2 / np.pi * (np.arccos(seen) - seen * np.sqrt(1 - seen**2))
  air = jnp.exp(-3.44 * (strength * f.astype(np.float32)) ** (5 / 3))
  psf = jnp.roll(jnp.fft.irfft2(lens * air), (size // 2, size // 2), axis=(0, 1))[:size, :size]
  psf = jnp.maximum(psf, 0)
  return psf / psf.sum()


def tilts(
  key: jax.Array, height: int, width: int, *, strength: jax.Array | float, footprint: float = 16.0
) -> jax.Array:
  """Random shift `[h w 2]` of each pixel, (x, y), with the variance and correlation of theory.

  White noise is given the spectrum of the phase as seen through Noll's polynomials 2 and 3.
  """
  white, drift = jax.random.split(key)
  # Twice the size, so that opposite borders are not neighbors.
  shape = 2 * height, 2 * width
  response, rest = _tilt_response(*shape, footprint)
  white = jnp.fft.rfft2(jax.random.normal(white, shape))
  field = jnp.fft.irfft2(response * white[None], s=shape)[:, :height, :width]
  field = jnp.moveaxis(field, 0, -1) + rest * jax.random.normal(drift, (1, 1, 2))
  # A radian of polynomial 2 is 4 radians across the aperture, or 4 / (2 pi) lambda / D.
  return 2 / (math.pi * _PIXEL) * jnp.power(strength, 5 / 6) * field


def aberrations(
  key: jax.Array, shape: tuple[int, ...], *, strength: jax.Array | float
) -> jax.Array:
  """Random coefficients `[*shape 33]` of Noll's polynomials 4 to 36, in radians."""
  mixing = np.linalg.cholesky(noll(_MODES)[2:, 2:]).astype(np.float32)
  white = jax.random.normal(key, (*shape, len(mixing)))
  mixed = jnp.einsum('...k,mk->...m', white, mixing, precision='highest')
  return jnp.power(strength, 5 / 6) * mixed


def psf(aberrations: jax.Array, size: int) -> jax.Array:
  """Kernels `[... size size]` for coefficients `[... m]` of Noll's polynomials from 4 up, radians.

  The power of the Fourier transform of a round pupil with that phase.
  """
  modes = zernike(aberrations.shape[-1] + 3, size)
  inside, modes = modes[0].astype(bool), modes[3:]
  phase = jnp.einsum('...m,mkl->...kl', aberrations, modes, precision='highest')
  pupil = jnp.where(jnp.broadcast_to(inside, phase.shape), jnp.exp(1j * phase), 0)
  # A Fourier transform by matrix products, for just the pixels needed.
  spot, place = np.arange(size) - size // 2, (np.arange(size) - size // 2) / size
  waves = np.exp(-2j * np.pi * _PIXEL * np.outer(spot, place)).astype(np.complex64)
  field = jnp.einsum('ik,...kl,jl->...ij', waves, pupil, waves, precision='highest')
  light = jnp.real(field) ** 2 + jnp.imag(field) ** 2
  return light / light.sum(axis=(-2, -1), keepdims=True)


@functools.cache
def noll(modes: int) -> np.ndarray:
  """Covariances `[modes-1 modes-1]` of Noll's coefficients 2 to `modes`, in rad^2, at D = r0.

  Noll 1976, eq. 25. They grow as (D/r0)^(5/3).
  """
  orders = [_order(j) for j in range(2, modes + 1)]
  covariance = np.zeros((modes - 1, modes - 1))
  for i, (n, m) in enumerate(orders):
    for k, (other, also_m) in enumerate(orders):
      if m == also_m:
        sign = (-1) ** ((n + other) // 2 - abs(m))
        gammas = ((n - other + 17 / 3) / 2, (other - n + 17 / 3) / 2, (n + other + 23 / 3) / 2)
        share = math.gamma((n + other - 5 / 3) / 2) / math.prod(map(math.gamma, gammas))
        covariance[i, k] = sign * math.sqrt((n + 1) * (other + 1)) * share
  return _SPECTRUM * 2 ** (-5 / 3) * math.pi ** (8 / 3) * math.gamma(14 / 3) * covariance


@functools.cache
def zernike(modes: int, size: int) -> np.ndarray:
  """Noll's polynomials 1 to `modes` over a pupil `[modes size size]`, 0 outside (Noll, eq. 1)."""
  line = (np.arange(size) - size // 2) * 2 / size
  x, y = np.meshgrid(line, line)
  radius, angle = np.hypot(x, y), np.arctan2(y, x)
  polynomials = []
  for n, m in map(_order, range(1, modes + 1)):
    radial = 0.0
    for k in range((n - abs(m)) // 2 + 1):
      below = math.prod(map(math.factorial, (k, (n + m) // 2 - k, (n - m) // 2 - k)))
      radial += (-1) ** k * math.factorial(n - k) / below * radius ** (n - 2 * k)
    wave = math.sqrt(2) * (np.cos(m * angle) if m > 0 else np.sin(-m * angle)) if m else 1.0
    polynomials.append((radius <= 1) * math.sqrt(n + 1) * radial * wave)
  return np.stack(polynomials).astype(np.float32)


def _order(j: int) -> tuple[int, int]:
  """Radial and azimuthal order (n, m) of Noll's polynomial `j`; m < 0 is a sine."""
  n = (math.isqrt(8 * j - 7) - 1) // 2
  rest = j - n * (n + 1) // 2 - 1
  m = (rest + 1) // 2 * 2 if n % 2 == 0 else rest // 2 * 2 + 1
  return n, m if j % 2 == 0 else -m


@functools.cache
def _tilt_response(height: int, width: int, footprint: float) -> tuple[np.ndarray, float]:
  """Filter `[2 h w // 2 + 1]` from white noise to coefficients 2 and 3 at D = r0, by frequency.

  Also returns the standard deviation of the part that varies too slowly for `[h w]` pixels.
  """
  fx, fy = np.meshgrid(np.fft.rfftfreq(width) * footprint, np.fft.fftfreq(height) * footprint)
  f = np.hypot(fx, fy)  # cycles per D
  f[0, 0] = 1.0
  window = 4 * scipy.special.jv(2, np.pi * f) / (np.pi * f)  # Noll, eq. 8
  response = footprint * math.sqrt(_SPECTRUM) * f ** (-11 / 6) * window / f * np.stack([fx, fy])
  twice = np.ones(width // 2 + 1)
  twice[1 : (width + 1) // 2] = 2  # frequencies that also stand for their negatives
  variance = (twice * response**2).sum() / (2 * height * width)
  rest = math.sqrt(max(noll(2)[0, 0] - variance, 0.0))
  return (1j * response).astype(np.complex64), rest


def _air(
  key: jax.Array, image: jax.Array, footprint: float, patch: int
) -> tuple[jax.Array, jax.Array]:
  """Tilts and aberrations over an image, at strength 1."""
  tilt, rest = jax.random.split(key)
  height, width, _ = image.shape
  grid = math.ceil(height / patch), math.ceil(width / patch)
  return (
    tilts(tilt, height, width, strength=1.0, footprint=footprint),
    aberrations(rest, grid, strength=1.0),
  )


def _expose(
  image: jax.Array, air: tuple[jax.Array, jax.Array], strength: jax.Array | float, size: int
) -> jax.Array:
  shift, coefficients = (jnp.power(strength, 5 / 6) * part for part in air)
  height, width, _ = image.shape
  x, y = jnp.meshgrid(jnp.arange(width), jnp.arange(height))
  warped = projective.sample(image, x + shift[..., 0], y + shift[..., 1])
  return SpatiallyVarying(psf(coefficients, size)).apply(warped)
