"""Linear blurs: `apply`, its exact `adjoint`, and a transfer function if there is one.

They act on images `[... h w c]` and do not clip. Solvers and synthesis take the operator rather
than a kernel, so they work with any of them.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp

BOUNDARIES = ('reflect', 'wrap', 'edge', 'zero')
# Kernels up to this many taps use multiply-adds, larger ones the FFT (the crossover on a CPU).
_DIRECT_TAPS = 49


@struct.dataclass
class Convolution:
  """Blur by one PSF, the same everywhere in an image.

  psf: `[kh kw]` for all images or `[... kh kw]`, one per image; centered at `[kh // 2, kw // 2]`.
  boundary: what is assumed beyond the image: 'reflect' (mirrored about the centers of the
    outermost pixels), 'wrap' (periodic), 'edge' (the outermost pixel repeated) or 'zero'.
  """

  psf: jax.Array
  boundary: str = struct.field(pytree_node=False, default='reflect')

  def apply(self, image: jax.Array) -> jax.Array:
    """Blurred `image`, of the same shape `[... h w c]`."""
    self._check(image)
    return convolve(image, self.psf, *self._margins(), self.boundary)

  def adjoint(self, image: jax.Array) -> jax.Array:
    """The adjoint, so that <apply(x), y> = <x, adjoint(y)> for all x and y, borders included."""
    self._check(image)
    kh, kw = self.psf.shape[-2:]
    flipped = self.psf[..., ::-1, ::-1]
    spread = convolve(image, flipped, (kh - 1, kh - 1), (kw - 1, kw - 1), 'zero')
    # The margins are folded back into the pixels that they were copied from.
    fold = jax.linear_transpose(lambda x: extend(x, *self._margins(), self.boundary), image)
    return fold(spread)[0]

  def transfer(self, height: int, width: int) -> jax.Array:
    """Factors `[... h w // 2 + 1]` to multiply the `rfft2` of an image by; for 'wrap' only.

    Raises ValueError for any other boundary, or if the image is smaller than the PSF.
    """
    kh, kw = self.psf.shape[-2:]
    if self.boundary != 'wrap':
      raise ValueError(f"only boundary 'wrap' has a transfer function, not {self.boundary!r}")
    if kh > height or kw > width:
      raise ValueError(f'a PSF of {kh}x{kw} does not fit an image of {height}x{width}')
    rest = [(0, 0)] * (self.psf.ndim - 2)
    psf = jnp.pad(self.psf, [*rest, (0, height - kh), (0, width - kw)])
    psf = jnp.roll(psf, (-(kh // 2), -(kw // 2)), axis=(-2, -1))
    return _rfft2(psf, (height, width))

  def _margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns around an image that the PSF reaches."""
    return margins(*self.psf.shape[-2:])

  def _check(self, image: jax.Array) -> None:
    check_boundary(self.boundary)
    if self.psf.ndim > 2 and self.psf.shape[:-2] != image.shape[:-3]:
      raise ValueError(
        f'PSFs {self.psf.shape} do not match images {image.shape}: give one, or one for each image'
      )


def check_boundary(boundary: str) -> None:
  """Raises ValueError unless `boundary` is one of `BOUNDARIES`."""
  if boundary not in BOUNDARIES:
    raise ValueError(f'no boundary {boundary!r} (known: {", ".join(BOUNDARIES)})')


def margins(kh: int, kw: int) -> tuple[tuple[int, int], tuple[int, int]]:
  """Rows above and below and columns left and right of an image that a PSF `[kh kw]` reaches."""
  return ((kh - 1) // 2, kh // 2), ((kw - 1) // 2, kw // 2)


def extend(
  image: jax.Array, rows: tuple[int, int], columns: tuple[int, int], boundary: str
) -> jax.Array:
  """`image` with this many rows added above and below, and columns on the left and right."""
  rest = [(0, 0)] * (image.ndim - 3)
  mode = 'constant' if boundary == 'zero' else boundary
  return jnp.pad(image, [*rest, rows, columns, (0, 0)], mode=mode)


def convolve(
  image: jax.Array,
  psf: jax.Array,
  rows: tuple[int, int],
  columns: tuple[int, int],
  boundary: str,
) -> jax.Array:
  """Convolution of the extended `image` where `psf` fits inside it: `[... h-kh+1 w-kw+1 c]`."""
  if psf.shape[-2] * psf.shape[-1] > _DIRECT_TAPS:
    return _by_fft(image, psf, rows, columns, boundary)
  # If XLA fused the extension into the sums, it would be recomputed for each of their terms.
  return _direct(jax.lax.optimization_barrier(extend(image, rows, columns, boundary)), psf)


def _direct(image: jax.Array, psf: jax.Array) -> jax.Array:
  kh, kw = psf.shape[-2:]
  height, width = image.shape[-3] - kh + 1, image.shape[-2] - kw + 1
  lead = psf.shape[:-2] or (1,) * (image.ndim - 3)
  total = jnp.zeros((), image.dtype)
  for i in range(kh):
    for j in range(kw):
      window = image[..., kh - 1 - i : kh - 1 - i + height, kw - 1 - j : kw - 1 - j + width, :]
      total = psf[..., i, j].reshape(*lead, 1, 1, 1) * window + total
  return total


def _by_fft(
  image: jax.Array,
  psf: jax.Array,
  rows: tuple[int, int],
  columns: tuple[int, int],
  boundary: str,
) -> jax.Array:
  (kh, kw), (height, width, _) = psf.shape[-2:], image.shape[-3:]
  height, width = height + sum(rows), width + sum(columns)
  size = fast_length(height), fast_length(width)
  # Padding up to the FFT length only affects pixels that the circular wrap spoils anyway.
  rows, columns = (rows[0], rows[1] + size[0] - height), (columns[0], columns[1] + size[1] - width)

  def blur(image, factors):
    # Extending planes is faster than extending pixels.
    planes = extend(jnp.moveaxis(image, -1, 0)[..., None], rows, columns, boundary)[..., 0]
    # Real FFTs: on a CPU XLA's complex ones are even faster, but with several threads their last
    # bits differ from call to call, and runs would not be reproducible.
    planes = _irfft2(_rfft2(planes, size) * factors[None], size)
    return jnp.moveaxis(planes[:, kh - 1 : height, kw - 1 : width], 0, -1)

  images = image.reshape(-1, *image.shape[-3:])
  if psf.ndim == 2:
    factors = _rfft2(psf, size)
    blurred = each(lambda image: blur(image, factors), images)
  else:
    pairs = images, psf.reshape(-1, kh, kw)
    blurred = each(lambda pair: blur(pair[0], _rfft2(pair[1], size)), pairs)
  return blurred.reshape(*image.shape[:-3], *blurred.shape[1:])


def each(function: Callable[[Any], jax.Array], items: Any) -> jax.Array:
  """`function` of every item: vectorized, or one item after another on a CPU.

  On a CPU one item fits the cache, and only the chosen branch of a `lax.switch` is computed; a
  vectorized switch computes all branches, six to nine times as much work on two cores.
  """
  if jax.default_backend() == 'cpu':
    return jax.lax.map(function, items)
  return jax.vmap(function)(items)


def _rfft2(image: jax.Array, size: Sequence[int]) -> jax.Array:
  """`rfft2` over the last two axes, computed on a flat stack of planes.

  XLA's FFT on CPU rejects operands whose layout is not row-major, which moving an axis can leave
  behind on several devices; a reshape fixes the layout.
  """
  spectrum = jnp.fft.rfft2(image.reshape(-1, *image.shape[-2:]), s=size)
  return spectrum.reshape(*image.shape[:-2], *spectrum.shape[-2:])


def _irfft2(spectrum: jax.Array, size: Sequence[int]) -> jax.Array:
  image = jnp.fft.irfft2(spectrum.reshape(-1, *spectrum.shape[-2:]), s=size)
  return image.reshape(*spectrum.shape[:-2], *size)


@functools.cache
def fast_length(length: int) -> int:
  """The smallest FFT length, at least `length`, that has no prime factor above 7."""
  rest = length
  for prime in (2, 3, 5, 7):
    while rest % prime == 0:
      rest //= prime
  return length if rest == 1 else fast_length(length + 1)
