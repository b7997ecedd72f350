"""Point spread functions: `[size size]`, non-negative, sum 1, centered on the middle pixel.

`size` is odd and static; all other arguments may be traced, so that kernels can be drawn per image
under `vmap`. Lengths are in pixels. Angles are in degrees, counter-clockwise as displayed, 0 along
a row. Anything outside the canvas is cut off, and the rest is scaled to sum to 1.
"""

import functools
import math

import jax
import jax.numpy as jnp

_SAMPLES = 8  # points per pixel at which a line is sampled
_SUBPIXELS = 5  # per pixel and axis; odd, so that one is at the center
_RIM = 4  # power of the distance with which brightness rises towards the rim


def motion(length: jax.Array | float, angle: jax.Array | float, size: int) -> jax.Array:
  """Kernel of a uniform straight motion: an anti-aliased line of constant weight.

  Along the axis nearest to the line, a pixel is weighted by the length of the line inside it;
  across that axis, by linear interpolation. At 0 degrees an odd whole length is therefore exactly a
  box.
  """
  x, y = _grid(size)
  cos, sin = jnp.cos(jnp.deg2rad(angle)), jnp.sin(jnp.deg2rad(angle))
  flat = jnp.abs(cos) >= jnp.abs(sin)
  along, across = jnp.where(flat, x, y), jnp.where(flat, y, x)
  speed, drift = jnp.where(flat, cos, sin), jnp.where(flat, sin, cos)
  drift, speed = drift * jnp.sign(speed), jnp.abs(speed)
  half = jnp.maximum(length, 1e-3) / 2
  start = jnp.clip((along - 0.5) / speed, -half, half)  # where the line enters the pixel's column
  stop = jnp.clip((along + 0.5) / speed, -half, half)
  share = (jnp.arange(_SAMPLES)[None, None] + 0.5) / _SAMPLES
  points = start[..., None] + (stop - start)[..., None] * share  # [size size samples]
  cover = _tent(points * drift - across[..., None]).mean(axis=-1)
  return _normalize((stop - start) * cover)


def gaussian(
  sigma: jax.Array | float,
  size: int,
  *,
  ratio: jax.Array | float = 1.0,
  angle: jax.Array | float = 0.0,
) -> jax.Array:
  """Gaussian kernel of standard deviation `sigma` along `angle` and `ratio * sigma` across it.

  Sampled at pixel centers, as in scipy.ndimage.
  """
  x, y = _grid(size)
  cos, sin = jnp.cos(jnp.deg2rad(angle)), jnp.sin(jnp.deg2rad(angle))
  long = jnp.maximum(sigma, 1e-3)
  wide = jnp.maximum(sigma * ratio, 1e-3)
  square = ((cos * x + sin * y) / long) ** 2 + ((cos * y - sin * x) / wide) ** 2
  return _normalize(jnp.exp(-square / 2))


def disk(radius: jax.Array | float, size: int) -> jax.Array:
  """Defocus kernel: a disk, each pixel weighted by the share of it that the disk covers."""
  x, y = _grid(size)
  sub = (jnp.arange(_SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5
  distance = jnp.hypot(
    x[..., None, None] + sub[None, None, :, None], y[..., None, None] + sub[None, None, None, :]
  )  # [size size sub sub]
  cover = jnp.clip((radius - distance) * _SUBPIXELS + 0.5, 0.0, 1.0)
  return _normalize(cover.mean(axis=(-2, -1)))


def polygon(
  radius: jax.Array | float,
  size: int,
  *,
  blades: int = 6,
  angle: jax.Array | float = 0.0,
  roundness: jax.Array | float = 0.0,
  rim: jax.Array | float = 0.0,
) -> jax.Array:
  """Defocus kernel of an aperture with `blades` blades and corners `radius` from the center.

  `angle` is the direction of one corner. `roundness` bends the blades, from 0 (straight) to 1 (a
  disk). A point on the edge weighs `1 + rim` times as much as one at the center, as with lenses
  with over-corrected spherical aberration. `blades` is static; raises ValueError if it is below 3.
  """
  if blades < 3:
    raise ValueError(f'an aperture needs at least 3 blades, not {blades}')
  x, y = _grid(size)
  sub = (jnp.arange(_SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5
  x = x[..., None, None] + sub[None, None, :, None]  # [size size sub sub]
  y = y[..., None, None] + sub[None, None, None, :]
  normals = jnp.deg2rad(angle) + jnp.pi * (2 * jnp.arange(blades) + 1) / blades
  edges = [jnp.cos(normal) * x + jnp.sin(normal) * y for normal in normals]
  straight = functools.reduce(jnp.maximum, edges)
  # Level sets of the blended distance go from polygon to circle and keep the corners.
  distance = (1 - roundness) * straight + roundness * jnp.hypot(x, y)
  reach = radius * ((1 - roundness) * math.cos(math.pi / blades) + roundness)
  cover = jnp.clip((reach - distance) * _SUBPIXELS + 0.5, 0.0, 1.0)
  weight = 1 + rim * jnp.clip(distance / jnp.maximum(reach, 1e-3), 0.0, 1.0) ** _RIM
  return _normalize((cover * weight).mean(axis=(-2, -1)))


def delta(size: int) -> jax.Array:
  """The identity kernel."""
  return jnp.zeros((size, size)).at[size // 2, size // 2].set(1.0)


def _grid(size: int) -> tuple[jax.Array, jax.Array]:
  """Coordinates x (to the right) and y (up) of the pixels, each `[size size]`, 0 at the center."""
  if size % 2 == 0:
    raise ValueError(f'the size of a kernel must be odd, not {size}')
  step = jnp.arange(size, dtype=jnp.float32) - size // 2
  x, down = jnp.meshgrid(step, step)
  return x, -down


def _tent(distance: jax.Array) -> jax.Array:
  return jnp.maximum(1 - jnp.abs(distance), 0)


def _normalize(kernel: jax.Array) -> jax.Array:
  return kernel / kernel.sum()
