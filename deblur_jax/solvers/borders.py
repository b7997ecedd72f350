"""Border handling: what lies beyond the picture is unknown, but blur has mixed it in.

An FFT assumes a periodic picture, which would cause ringing all over the result. Iterative solvers
leave the region beyond the border unknown: `Scene`, the default. One-shot filters cannot, and get
suitable values there instead: `surround`.
"""

import math

from flax import struct
import jax
import jax.numpy as jnp

from deblur_jax.blur import operators
from deblur_jax.blur.operators import Convolution

_TAPERS = 3
_CG_STEPS, _EXACT, _TINY = 6, 1e-8, 1e-20


@struct.dataclass
class Scene:
  """A plane larger than the picture, with everything that the PSF blurs into the picture.

  Reeves, "Fast image restoration without boundary artifacts", IEEE TIP 2005; Almeida and
  Figueiredo, "Deconvolving images with unknown boundaries", IEEE TIP 2013. With boundary 'wrap' it
  has the size of the picture.

  transfer: `[H W // 2 + 1]`, the PSF's factors for `rfft2` of the scene.
  seen: `[H W]`, 1 inside the picture, 0 outside.
  """

  transfer: jax.Array
  seen: jax.Array
  top: int = struct.field(pytree_node=False)
  left: int = struct.field(pytree_node=False)
  picture: tuple[int, int] = struct.field(pytree_node=False)

  @property
  def shape(self) -> tuple[int, int]:
    """Height and width of the scene."""
    return self.seen.shape

  def blur(self, scene: jax.Array) -> jax.Array:
    """The blurred scene, which is valid only inside the picture."""
    return self.filter(scene, self.transfer)

  def correlate(self, scene: jax.Array) -> jax.Array:
    """The adjoint of `blur`."""
    return self.filter(scene, jnp.conj(self.transfer))

  def filter(self, scene: jax.Array, factors: jax.Array) -> jax.Array:
    """The scene with its spectrum multiplied by `factors`."""
    return jnp.fft.irfft2(times(jnp.fft.rfft2(scene), factors), s=self.shape)

  def fit(
    self, placed: jax.Array, penalty: jax.Array | float, pull: jax.Array, start: jax.Array
  ) -> jax.Array:
    """Approximately minimizes `misfit(blur(x), placed) + <x, Q x> / 2 - <pull, x>`.

    Q multiplies spectra by `penalty`, 0 or more. Takes a few steps of conjugate gradients,
    preconditioned by the solution for a picture without a border. jax.scipy's version is
    differentiated as if it had converged, which it has not after a few steps.
    """
    gain = power(self.transfer)

    def normal(x):
      spectrum = jnp.fft.rfft2(x)
      blurred = self.seen * jnp.fft.irfft2(times(spectrum, self.transfer), s=self.shape)
      back = times(jnp.fft.rfft2(blurred), jnp.conj(self.transfer))
      return jnp.fft.irfft2(back + penalty * spectrum, s=self.shape)

    def precondition(residual):
      return self.filter(residual, 1 / (gain + penalty))

    def step(carry, _):
      x, residual, direction, left = carry
      bent = normal(direction)
      length = left / (jnp.vdot(direction, bent) + least)
      x, residual = x + length * direction, residual - length * bent
      downhill = precondition(residual)
      left_now = jnp.vdot(residual, downhill)
      direction = downhill + left_now / (left + least) * direction
      return (x, residual, direction, left_now), None

    residual = self.correlate(self.seen * placed) + pull - normal(start)
    direction = precondition(residual)
    left = jnp.vdot(residual, direction)
    least = _EXACT * left + _TINY  # No steps of rounding errors if the first one converges.
    return jax.lax.scan(step, (start, residual, direction, left), None, _CG_STEPS)[0][0]

  def misfit(self, blurred: jax.Array, placed: jax.Array) -> jax.Array:
    """Half the sum of squared differences between a blurred scene and the picture in `placed`."""
    return 0.5 * jnp.sum(self.seen * jnp.square(blurred - placed))

  def place(self, picture: jax.Array) -> jax.Array:
    """A scene with `picture` `[h w]` in its place, padded with its edge pixels."""
    (height, width), (h, w) = self.shape, self.picture
    rows, columns = (self.top, height - h - self.top), (self.left, width - w - self.left)
    return jnp.pad(picture, (rows, columns), mode='edge')

  def crop(self, scene: jax.Array) -> jax.Array:
    """The picture `[h w]` of a scene."""
    h, w = self.picture
    return scene[self.top : self.top + h, self.left : self.left + w]


def power(spectrum: jax.Array) -> jax.Array:
  """The squared absolute value; faster than with `abs` of complex numbers."""
  return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def times(spectrum: jax.Array, factors: jax.Array) -> jax.Array:
  """The product of a spectrum with real or complex factors."""
  if not jnp.iscomplexobj(factors):
    return jax.lax.complex(spectrum.real * factors, spectrum.imag * factors)
  # By real and imaginary parts, which XLA vectorizes on CPUs, unlike complex numbers.
  real = spectrum.real * factors.real - spectrum.imag * factors.imag
  return jax.lax.complex(real, spectrum.real * factors.imag + spectrum.imag * factors.real)


def scene(psf: jax.Array, picture: tuple[int, int], boundary: str, *, multiple: int = 1) -> Scene:
  """The scene of a picture with these rows and columns, for a PSF `[kh kw]`.

  Its sides are multiples of `multiple`, a power of two, unless `boundary` is 'wrap'.
  """
  if boundary == 'wrap':
    height, width, top, left = *picture, 0, 0
  else:
    (top, bottom), (left, right) = operators.margins(*psf.shape)
    height, width = (
      multiple * operators.fast_length(math.ceil(length / multiple))
      for length in (picture[0] + top + bottom, picture[1] + left + right)
    )
  transfer = Convolution(psf, 'wrap').transfer(height, width)
  seen = jnp.zeros((height, width)).at[top : top + picture[0], left : left + picture[1]].set(1)
  return Scene(transfer, seen, top, left, picture)


def surround(picture: jax.Array, psf: jax.Array, boundary: str) -> tuple[Scene, jax.Array]:
  """A scene with a margin of twice the PSF's reach, and `picture` in it with a smooth margin.

  The edge pixels are repeated and blurred towards the outer edge, so that opposite sides of the
  scene match (MATLAB's edgetaper). With boundary 'wrap' the picture is returned unchanged.
  """
  if boundary == 'wrap':
    return scene(psf, picture.shape, boundary), picture
  kh, kw = psf.shape
  wide = jnp.pad(psf, ((kh // 2 + 1,) * 2, (kw // 2 + 1,) * 2))  # doubles the margin
  around = scene(wide, picture.shape, boundary)
  placed = around.place(picture)
  height, width = around.shape
  weight = _taper(psf.sum(1), height)[:, None] * _taper(psf.sum(0), width)[None]
  for _ in range(_TAPERS):
    placed = weight * placed + (1 - weight) * around.blur(placed)
  return around, placed


def _taper(profile: jax.Array, length: int) -> jax.Array:
  """Weights `[length]` of a picture, from 0 at the ends to 1 beyond the reach of the PSF."""
  correlation = jnp.fft.irfft(power(jnp.fft.rfft(profile, length)), length)
  return 1 - correlation / correlation[0]
