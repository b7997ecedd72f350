"""Losses that compare pixels, or gradients.

All are `f(restored, sharp, *, option)` for images `[... h w c]` of equal shape and any float type,
compute in float32, and return one value per image `[...]`; unequal shapes raise. Mean, mask and
weight are up to the caller.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np


def l1(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  """Mean absolute error."""
  return _mean(jnp.abs(_difference(restored, sharp)))


def mse(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  """Mean squared error."""
  return _mean(_difference(restored, sharp) ** 2)


def charbonnier(restored: jax.Array, sharp: jax.Array, *, eps: float = 1e-3) -> jax.Array:
  """Smooth L1 (Lai et al. 2017, eq. 6); `eps` at equality."""
  return _mean(jnp.sqrt(_difference(restored, sharp) ** 2 + eps**2))


def edge(restored: jax.Array, sharp: jax.Array, *, eps: float = 1e-3) -> jax.Array:
  """Charbonnier loss of the Laplacians (Zamir et al. 2021, MPRNet, eq. 3); `eps` at equality.

  The Laplacian is a level of Burt and Adelson's pyramid (1983): the image minus a copy that was
  blurred, halved and doubled again.
  """
  difference = _difference(restored, sharp)
  # The Laplacian is linear, so that of the difference is enough.
  return _mean(jnp.sqrt(_laplacian(difference) ** 2 + eps**2))


def fft(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  """Mean absolute difference of the Fourier transforms, over real and imaginary parts.

  Unnormalized, as in Cho et al. 2021 (MIMO-UNet), eq. 5: the transform sums over all pixels.
  """
  difference = jnp.moveaxis(_difference(restored, sharp), -1, -3)  # [... c h w]
  planes = difference.reshape(-1, *difference.shape[-2:])
  spectrum = jnp.fft.fft2(planes).reshape(*difference.shape)
  return (jnp.abs(spectrum.real) + jnp.abs(spectrum.imag)).mean(axis=(-3, -2, -1)) / 2


def psnr(restored: jax.Array, sharp: jax.Array, *, eps: float = 1e-8) -> jax.Array:
  """Negative PSNR in dB for range 1 (Chen et al. 2021, HINet, section 3.2); -80 at equality."""
  return 10 / jnp.log(10.0) * jnp.log(mse(restored, sharp) + eps)


def _difference(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  chex.assert_equal_shape([restored, sharp])
  return restored.astype(jnp.float32) - sharp.astype(jnp.float32)


def _mean(values: jax.Array) -> jax.Array:
  return values.mean(axis=(-3, -2, -1))


def _laplacian(image: jax.Array) -> jax.Array:
  rows, columns = (_pyramid(image.shape[axis]) for axis in (-3, -2))
  # Products with small matrices: shifted sums, which XLA fuses into each other, take a CPU longer
  # than a whole small network.
  low = jnp.einsum('Hh,...hwc->...Hwc', rows, image, precision='highest')
  return image - jnp.einsum('Ww,...hwc->...hWc', columns, low, precision='highest')


def _pyramid(length: int) -> np.ndarray:
  """Blurring, dropping every other sample, inserting zeros and blurring, as a matrix `[n n]`."""
  shift = np.arange(-2, 3)
  source = np.clip(np.arange(length)[:, None] + shift, 0, length - 1)  # edges repeated
  blur = np.zeros((length, length), np.float32)
  np.add.at(blur, (np.arange(length)[:, None], source), [0.05, 0.25, 0.4, 0.25, 0.05])
  kept = 2.0 * (np.arange(length) % 2 == 0)
  return (blur @ (kept[:, None] * blur)).astype(np.float32)
