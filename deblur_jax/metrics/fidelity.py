"""How close a restored picture is to the sharp one.

All are `f(restored, sharp)` for images `[h w c]` or `[b h w c]` in [0, 1] of equal shape and any
float type, compute in float32, do not clip or round unless their name says so, and return one value
per image; unequal shapes raise.
"""

import chex
import dm_pix
import jax
import jax.numpy as jnp
import numpy as np

WINDOW = 11
SIGMA = 1.5


def psnr(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  """Peak signal-to-noise ratio in dB; infinite at equality."""
  return dm_pix.psnr(*_floats(restored, sharp))


def psnr_uint8(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  """PSNR in dB of the 8-bit files that the images would be saved as: clipped and rounded."""
  levels = (jnp.round(255 * jnp.clip(image, 0, 1)) for image in _floats(restored, sharp))
  # Equal whole levels differ by exactly 0; after a division, XLA's rounding would show.
  return dm_pix.psnr(*levels) + 20 * np.log10(255)


def ssim(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  """Structural similarity (Wang et al. 2004): Gaussian 11x11 window of sigma 1.5, valid part only.

  The mean over channels, each computed separately, as in scikit-image with `gaussian_weights=True`,
  and in MATLAB's `ssim` for grey pictures away from the border; 1 at equality. DeepDeblur and
  RealBlur report it. Raises ValueError for images smaller than the window.
  """
  if min(restored.shape[-3:-1]) < WINDOW:
    raise ValueError(f'ssim requires images of at least 11x11, not {restored.shape}')
  return dm_pix.ssim(*_floats(restored, sharp), filter_fn=_smooth)


def ssim_matlab_3d(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  """Structural similarity as in MATLAB's `ssim` for `[h w 3]`, which it treats as a volume.

  A Gaussian 11x11x11 window of sigma 1.5 that also runs over the channels, borders replicated on
  all six sides, averaged over every pixel. MPRNet, HINet, NAFNet and Restormer report this one,
  which is several hundredths higher than `ssim`; 1 at equality.
  """
  return dm_pix.ssim(*_floats(restored, sharp), filter_fn=_smooth_volume)


def accuracy(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  """Share of the pixels whose largest channel is the same, from 0 to 1.

  What Keras, and so guides to deblurring, report as "accuracy" for pictures. It depends on hue, and
  hardly on blur.
  """
  restored, sharp = (jnp.argmax(image, axis=-1) for image in _floats(restored, sharp))
  return jnp.mean(restored == sharp, axis=(-2, -1), dtype=jnp.float32)


def _taps() -> np.ndarray:
  at = np.arange(WINDOW) - WINDOW // 2
  weights = np.exp(-0.5 * (at / SIGMA) ** 2)
  return (weights / weights.sum()).astype(np.float32)


def _smooth(x: jax.Array) -> jax.Array:
  """The Gaussian window over height and width, where it is entirely inside."""
  *lead, height, width, channels = x.shape
  height, width = height - WINDOW + 1, width - WINDOW + 1
  taps = _taps()
  # Shifted sums over rows of pixels use long contiguous memory; XLA's single-channel convolutions
  # are ten times slower on the CPU.
  x = x.reshape(*lead, x.shape[-3], -1)
  x = sum(taps[i] * x[..., i : i + height, :] for i in range(WINDOW))
  x = sum(taps[i] * x[..., i * channels : (i + width) * channels] for i in range(WINDOW))
  return x.reshape(*lead, height, width, channels)


def _smooth_volume(x: jax.Array) -> jax.Array:
  margin = WINDOW // 2
  widths = ((0, 0),) * (x.ndim - 3) + ((margin, margin),) * 2 + ((0, 0),)
  return _smooth(jnp.pad(x, widths, 'edge')) @ _over_channels(x.shape[-1])


def _over_channels(channels: int) -> np.ndarray:
  """The window over the channel axis with the outer ones replicated, as a matrix `[c c]`."""
  matrix = np.zeros((channels, channels), np.float32)
  for channel in range(channels):
    for tap, weight in enumerate(_taps()):
      source = np.clip(channel + tap - WINDOW // 2, 0, channels - 1)
      matrix[source, channel] += weight
  return matrix


def _floats(restored: jax.Array, sharp: jax.Array) -> tuple[jax.Array, jax.Array]:
  chex.assert_equal_shape([restored, sharp])
  return restored.astype(jnp.float32), sharp.astype(jnp.float32)
