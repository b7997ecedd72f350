"""BGAN's generator: a sharp image blurred as cameras blur, in a way that a noise map chooses.

K. Zhang et al., "Deblurring by Realistic Blurring", CVPR 2020, arXiv:2004.01860: learns from sharp
and blurred photographs that are no pairs, and makes the pairs that DBGAN learns from. The authors
published neither code nor weights of it; this is a residual network with as many channels as their
DBGAN, and its sizes are our choice.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv


def noise_map(key: jax.Array, sharp: jax.Array, *, channels: int = 4) -> jax.Array:
  """`[b h w channels]` for images `[b h w c]`: normal numbers, the same at all pixels of an image.

  They stand for what is the same over a picture, as the camera's path is; what differs from place
  to place, the generator must see in the picture itself.
  """
  b, h, w, _ = sharp.shape
  return jnp.broadcast_to(jax.random.normal(key, (b, 1, 1, channels)), (b, h, w, channels))


class BlurGenerator(nn.Module):
  """Residual blocks at full resolution, which add the blur to the image."""

  width: int = 64
  blocks: int = 9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, sharp: jax.Array, noise: jax.Array) -> jax.Array:
    """Blurred images `[b h w c]`, float32, for sharp ones and a noise map `[b h w n]`."""

    def conv(features, name):
      return Conv(features, dtype=self.dtype, name=name)

    x = nn.relu(conv(self.width, 'first')(jnp.concatenate([sharp, noise], axis=-1)))
    for i in range(self.blocks):
      out = nn.relu(conv(self.width, f'block{i}_conv1')(x))
      x = x + conv(self.width, f'block{i}_conv2')(out)
    return sharp + conv(sharp.shape[-1], 'last')(x).astype(jnp.float32)
