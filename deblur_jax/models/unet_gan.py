"""U-Net GAN: a U-Net of residual blocks, the generator in adversarial training.

No paper and no code: deblurring tutorials describe it as a U-Net (O. Ronneberger, P. Fischer, T.
Brox, MICCAI 2015, arXiv:1505.04597) with residual blocks (K. He, X. Zhang, S. Ren, J. Sun, CVPR
2016, arXiv:1512.03385) and skip connections, trained against a PatchGAN (`nn.patchgan`).

Our choices for what they leave open: no normalization, which would reduce contrast in restoration,
so a pixel depends only on its neighborhood and tiles are exact; 4x4 strided convolutions to
downsample, as in pix2pix; bilinear upsampling, which avoids checkerboard artifacts; skip
connections combined by a 1x1 convolution; the network predicts the residual.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv
from deblur_jax.nn.resample import upsample2_bilinear
from deblur_jax.types import Needs

VARIANTS = {
  'default': {'width': 64, 'depth': 4, 'blocks': 2},  # 18,737,859 parameters
  'tiny': {'width': 16, 'depth': 3, 'blocks': 1},  # 167,283, for laptops
  'smoke': {'width': 4, 'depth': 3, 'blocks': 1},  # 10,719, for tests
}


class ResBlock(nn.Module):
  """Two convolutions with a shortcut around them."""

  conv: Callable

  @nn.compact
  def __call__(self, x):
    out = nn.relu(self.conv(x.shape[-1], name='conv1')(x))
    return x + self.conv(x.shape[-1], name='conv2')(out)


class UNetGAN(nn.Module):
  """`depth` levels of twice the width of the level above, each with `blocks` blocks down and up."""

  width: int = 64
  depth: int = 4
  blocks: int = 2
  channels: int = 3
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # From the deepest level up: each 3x3 convolution reaches 1 pixel, two in every block down and
    # up, one at either end; down- and upsampling together reach 3 pixels of the finer level.
    radius = 2 * self.blocks
    for _ in range(1, self.depth):
      radius = 2 * radius + 3 + 4 * self.blocks
    return Needs(multiple=2 ** (self.depth - 1), tiling='exact', halo=radius + 2)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    conv = functools.partial(Conv, dtype=self.dtype)

    def blocks(x, name):
      for i in range(self.blocks):
        x = ResBlock(conv, name=f'{name}_{i}')(x)
      return x

    x, skipped = conv(self.width, name='first')(blurred), []
    for level in range(self.depth - 1):
      skipped.append(blocks(x, f'encoder{level}'))
      width = self.width * 2 ** (level + 1)
      x = conv(width, 4, stride=2, padding=1, name=f'down{level}')(skipped[-1])
    x = blocks(x, 'bottom')
    for level in reversed(range(self.depth - 1)):
      skip = skipped[level]
      # Convolved before upsampling: both are linear, so this is the same at a quarter of the cost.
      x = upsample2_bilinear(conv(skip.shape[-1], 1, name=f'up{level}')(x))
      x = conv(skip.shape[-1], 1, name=f'join{level}')(jnp.concatenate([x, skip], axis=-1))
      x = blocks(x, f'decoder{level}')
    return {'restored': blurred + conv(self.channels, name='last')(x).astype(jnp.float32)}


def Model(variant: str = 'default', **overrides: Any) -> UNetGAN:
  """The `UNetGAN` of a variant in `VARIANTS`, with `overrides`."""
  return UNetGAN(**{**VARIANTS[variant], **overrides})
