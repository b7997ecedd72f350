"""DMPHN: the image whole and in halves, quarters and eighths, from the smallest patches up.

H. Zhang, Y. Dai, H. Li, P. Koniusz, "Deep Stacked Hierarchical Multi-Patch Network for Image
Deblurring", CVPR 2019, arXiv:1904.03468.

Computes the same as the authors' code, with the patches of a level as one batch. This is the single
network, not the paper's stack of several.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv, ConvTranspose
from deblur_jax.nn.parts import join, split
from deblur_jax.types import Needs

VARIANTS = {
  'default': {'levels': 4},  # 7,232,524 parameters, the paper's 1-2-4-8
  '1-2-4': {'levels': 3},  # 5,424,393
  'tiny': {'levels': 3, 'width': 8},  # 341,193, for laptops
  'smoke': {'levels': 3, 'width': 2},  # 21,873, for tests
}

# The authors' N(0, 0.25 * 2 / (k k out)).
_INIT = nn.initializers.variance_scaling(0.5, 'fan_out', 'normal')


def residual(x: jax.Array, name: str, dtype: Any) -> jax.Array:
  """Two convolutions of the calling module, with a shortcut around them."""
  c = x.shape[-1]
  out = nn.relu(Conv(c, kernel_init=_INIT, dtype=dtype, name=f'{name}_0')(x))
  return Conv(c, kernel_init=_INIT, dtype=dtype, name=f'{name}_2')(out) + x


class Encoder(nn.Module):
  """Features `[b h/4 w/4 4*width]` of a patch."""

  width: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    for layer, scale in ((1, 1), (5, 2), (9, 4)):
      enter = {'stride': min(scale, 2), 'kernel_init': _INIT, 'dtype': self.dtype}
      x = Conv(self.width * scale, **enter, name=f'layer{layer}')(x)
      for i in (1, 2):
        x = residual(x, f'layer{layer + i}', self.dtype)
    return x


class Decoder(nn.Module):
  """A patch `[b h w c]` from its features."""

  width: int
  channels: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    options = {'kernel_init': _INIT, 'dtype': self.dtype}
    for layer, scale in ((13, 4), (17, 2), (21, 1)):
      for i in (0, 1):
        x = residual(x, f'layer{layer + i}', self.dtype)
      if scale > 1:
        wide = self.width * scale // 2
        x = ConvTranspose(wide, 4, 2, padding=1, **options, name=f'layer{layer + 3}')(x)
    return Conv(self.channels, **options, name='layer24')(x)


class DMPHN(nn.Module):
  """An encoder and a decoder for each level, starting with the smallest patches."""

  levels: int = 4
  width: int = 32
  channels: int = 3
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # Patches do not see beyond their borders, which are elsewhere in a tile than in the image.
    multiple = 4 * 2 ** (self.levels // 2)
    return Needs(multiple, tiling='approximate', halo=64, reach=67 * self.levels)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    # Into top and bottom halves, those into left and right halves, and so on.
    cuts = [(1, 2) if level % 2 else (2, 1) for level in range(self.levels - 1)]
    patches = [blurred - 0.5]
    for cut in cuts:
      patches.append(split(patches[-1], *cut))

    features = restored = 0.0
    for level in reversed(range(self.levels)):
      encoder = Encoder(self.width, self.dtype, name=f'encoder_lv{level + 1}')
      features = encoder(patches[level] + restored) + features
      if level:
        features = join(features, *cuts[level - 1])
      decoder = Decoder(self.width, self.channels, self.dtype, name=f'decoder_lv{level + 1}')
      restored = decoder(features)
    return {'restored': restored.astype(jnp.float32) + 0.5}


def Model(variant: str = 'default', **overrides: Any) -> DMPHN:
  """The `DMPHN` of a variant in `VARIANTS`, with `overrides`."""
  return DMPHN(**{**VARIANTS[variant], **overrides})
