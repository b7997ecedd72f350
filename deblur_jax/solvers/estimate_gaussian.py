"""Estimates the blur of a picture as a Gaussian, from its steepest edges (Polyblur).

M. Delbracio, I. Garcia-Dorado, S. Choi, D. Kelly, P. Milanfar, "Polyblur: Removing Mild Blur by
Polynomial Reblurring", IEEE TCI 2021, section IV. Once the range of values is stretched to [0, 1],
the steepest edge of a sharp picture is a step from 0 to 1 in every direction. A Gaussian turns such
a step into a slope of known steepness, so the steepest slope along a direction determines the width
of the blur along it.

If no edge spans the range of values (fog, fur, a night sky) the estimate is too wide, with noise
too narrow. A straight motion of length n has the spread of a Gaussian of sigma n / sqrt(12), a disk
of radius r that of sigma r / 2.

Images are `[... h w c]` of any range; everything is computed on the mean of the channels.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

ANGLES = 36
"""Number of directions over a half turn."""

SLOPE, PIXEL = 0.362, 0.464
"""Steepness of a step is SLOPE / sqrt(sigma**2 + PIXEL**2) (eq. 24 of the paper, fitted there to
photographs); PIXEL is the blur of a sharp picture due to its pixels."""

LEAST = 0.3
"""Smallest sigma that is returned, in pixels: practically sharp."""

CUT = 1e-4
"""Fraction of the pixels at either end that the range of values excludes."""

LEAST_RANGE = 1e-3
"""Smallest range that is stretched, so that a flat picture is not."""


class Gaussian(NamedTuple):
  """The arguments of `blur.kernels.gaussian`; one value per image each."""

  sigma: jax.Array
  """In pixels, along `angle`, the direction of most blur."""
  ratio: jax.Array
  """sigma across the angle over that along it, at most 1."""
  angle: jax.Array
  """Degrees from 0 to 180, counter-clockwise as the picture is seen, 0 along a row."""


def gaussian(image: jax.Array) -> Gaussian:
  """The estimated Gaussian blur of each image `[... h w c]`."""
  return from_slopes(slopes(stretched(image)))


def stretched(image: jax.Array) -> jax.Array:
  """The mean of the channels with its range of values stretched to [0, 1]: `[... h w]`.

  Clips the fraction `CUT` of the values at either end.
  """
  plane = image.mean(-1)
  values = plane.reshape(*plane.shape[:-2], -1)
  low = -quantile(-values, 1 - CUT)[..., None, None]
  high = quantile(values, 1 - CUT)[..., None, None]
  return jnp.clip((plane - low) / jnp.maximum(high - low, LEAST_RANGE), 0, 1)


def quantile(values: jax.Array, share: float) -> jax.Array:
  """The quantile of `[... n]` at `share`, interpolated like numpy's; fast if it is near 1."""
  count = values.shape[-1]
  place = (1 - share) * (count - 1)
  largest, _ = jax.lax.top_k(values, min(int(place) + 2, count))
  part = place - int(place)
  return (1 - part) * largest[..., int(place)] + part * largest[..., -1]


def slopes(plane: jax.Array, *, smooth: jax.Array | float = 0.0) -> jax.Array:
  """The steepest slope of each plane `[... h w]` along each direction: `[... ANGLES]`, per pixel.

  `smooth` is the sigma of a Gaussian that smooths the plane first, against noise.
  """
  height, width = plane.shape[-2:]
  spectrum, vertical, horizontal = _spectrum(plane)
  spectrum *= _transfer(smooth, smooth, 0.0, vertical, horizontal)

  def derivative(frequency):
    # The highest frequency of an even length has no sign, and so no derivative.
    frequency = jnp.where(jnp.abs(frequency) == 0.5, 0.0, frequency)
    return _plane(spectrum * 2j * math.pi * frequency, height, width)

  right, up = derivative(horizontal), -derivative(vertical)

  def steepest(angle):
    return jnp.abs(jnp.cos(angle) * right + jnp.sin(angle) * up).max((-2, -1))

  angles = jnp.arange(ANGLES) * (math.pi / ANGLES)
  return jnp.moveaxis(jax.lax.map(steepest, angles), 0, -1)


def from_slopes(slopes: jax.Array, *, smooth: jax.Array | float = 0.0) -> Gaussian:
  """The Gaussian that explains `slopes` `[... ANGLES]`, minus the smoothing `smooth`."""
  steep = jnp.maximum(slopes, 1e-6)
  variance = (SLOPE / steep) ** 2 - PIXEL**2 - jnp.square(smooth)
  sigmas = jnp.sqrt(jnp.maximum(variance, LEAST**2))
  along = jnp.argmax(sigmas, axis=-1, keepdims=True)
  across = (along + ANGLES // 2) % ANGLES
  sigma, other = (jnp.take_along_axis(sigmas, at, -1)[..., 0] for at in (along, across))
  return Gaussian(sigma, other / sigma, along[..., 0] * (180 / ANGLES))


def blurred(image: jax.Array, by: Gaussian) -> jax.Array:
  """`image` `[... h w c]` blurred by one Gaussian, mirrored at its borders."""
  planes = jnp.moveaxis(image, -1, 0)
  spectrum, vertical, horizontal = _spectrum(planes)
  spectrum *= _transfer(by.sigma, by.ratio * by.sigma, by.angle, vertical, horizontal)
  return jnp.moveaxis(_plane(spectrum, *planes.shape[-2:]), 0, -1)


def _spectrum(plane: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Spectrum of `[... h w]` continued by its mirror image; frequencies `[2h 1]` and `[1 w + 1]`."""
  plane = jnp.concatenate([plane, plane[..., ::-1, :]], -2)
  plane = jnp.concatenate([plane, plane[..., ::-1]], -1)
  tall, wide = plane.shape[-2:]
  spectrum = jnp.fft.rfft2(plane.reshape(-1, tall, wide))
  spectrum = spectrum.reshape(*plane.shape[:-1], wide // 2 + 1)
  rest = (1,) * (spectrum.ndim - 2)
  vertical, horizontal = jnp.fft.fftfreq(tall), jnp.fft.rfftfreq(wide)
  return spectrum, vertical.reshape(*rest, -1, 1), horizontal.reshape(*rest, 1, -1)


def _plane(spectrum: jax.Array, height: int, width: int) -> jax.Array:
  flat = spectrum.reshape(-1, *spectrum.shape[-2:])
  plane = jnp.fft.irfft2(flat, s=(2 * height, 2 * width))[:, :height, :width]
  return plane.reshape(*spectrum.shape[:-2], height, width)


def _transfer(along, across, angle, vertical, horizontal) -> jax.Array:
  """Fourier transform of a Gaussian of these sigmas."""
  cos, sin = jnp.cos(jnp.deg2rad(angle)), jnp.sin(jnp.deg2rad(angle))
  # Rows are counted downward, angles upward.
  on = along * (cos * horizontal - sin * vertical)
  off = across * (sin * horizontal + cos * vertical)
  return jnp.exp(-2 * math.pi**2 * (on**2 + off**2))
