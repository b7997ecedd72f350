"""How near a restored picture is to the sharp one.

All are `f(restored, sharp)` for images `[... h w c]` in [0, 1] of equal shape and any float type,
compute in float32, neither clip nor round, and return one value per image `[...]`; unequal shapes
raise.
"""

import chex
import dm_pix
import jax
import jax.numpy as jnp


def psnr(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  """Peak signal-to-noise ratio in dB; infinite at equality."""
  return dm_pix.psnr(*_floats(restored, sharp))


def ssim(restored: jax.Array, sharp: jax.Array) -> jax.Array:
  """Structural similarity (Wang et al. 2004): Gaussian 11x11 window of sigma 1.5, valid part only.

  The mean over channels, as scikit-image has it with `gaussian_weights=True`; 1 at equality. Raises
  ValueError for images smaller than the window.
  """
  if min(restored.shape[-3:-1]) < 11:
    raise ValueError(f'ssim looks through a window of 11x11, the image is {restored.shape}')
  return dm_pix.ssim(*_floats(restored, sharp))


def _floats(restored: jax.Array, sharp: jax.Array) -> tuple[jax.Array, jax.Array]:
  chex.assert_equal_shape([restored, sharp])
  return restored.astype(jnp.float32), sharp.astype(jnp.float32)
