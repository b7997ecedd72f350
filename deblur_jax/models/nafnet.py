"""NAFNet: a U-Net without activation functions.

L. Chen, X. Chu, X. Zhang, J. Sun, "Simple Baselines for Image Restoration", ECCV 2022,
arXiv:2204.04676. GoPro 32.87 dB / 0.961 at width 32, 33.71 / 0.967 at width 64, both with the
global means replaced by local ones at test time (`tlc=384`, see nn/local.py).

Computes the same as the authors' code, except that padding to a multiple is left to the caller.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn import local
from deblur_jax.nn.conv import Conv, DepthwiseConv
from deblur_jax.nn.norm import LayerNorm
from deblur_jax.nn.parameters import parameter
from deblur_jax.nn.resample import pixel_shuffle
from deblur_jax.types import Needs

VARIANTS = {
  # 17,111,907 parameters, the paper's for GoPro at width 32
  'default': {
    'width': 32,
    'enc_blk_nums': (1, 1, 1, 28),
    'middle_blk_num': 1,
    'dec_blk_nums': (1, 1, 1, 1),
  },
  # 67,888,835, at width 64
  'w64': {
    'width': 64,
    'enc_blk_nums': (1, 1, 1, 28),
    'middle_blk_num': 1,
    'dec_blk_nums': (1, 1, 1, 1),
  },
  # 4,390,155: under 10 MB as float16
  'small': {
    'width': 24,
    'enc_blk_nums': (1, 1, 1, 8),
    'middle_blk_num': 1,
    'dec_blk_nums': (1, 1, 1, 1),
  },
  # 1,627,507: the weights `mobile`, under 2 MB as int8
  'mobile': {
    'width': 16,
    'enc_blk_nums': (1, 1, 2),
    'middle_blk_num': 12,
    'dec_blk_nums': (1, 1, 1),
  },
  # 676,211: trains in minutes on a laptop
  'tiny': {'width': 16, 'enc_blk_nums': (1, 1, 2), 'middle_blk_num': 4, 'dec_blk_nums': (1, 1, 1)},
  # 1,687, for tests
  'smoke': {'width': 4, 'enc_blk_nums': (1,), 'middle_blk_num': 1, 'dec_blk_nums': (1,)},
}


class SimpleGate(nn.Module):
  """Multiplies one half of the channels by the other; takes the place of an activation."""

  def __call__(self, x):  # [b h w 2c]
    left, right = jnp.split(x, 2, axis=-1)
    return left * right  # [b h w c]


class NAFBlock(nn.Module):
  """Gated depthwise convolution with channel attention, then a gated pointwise network."""

  mean: Callable
  dtype: Any

  @nn.compact
  def __call__(self, x):
    c = x.shape[-1]

    def pointwise(features, name):
      return Conv(features, 1, dtype=self.dtype, name=name)

    out = pointwise(2 * c, 'conv1')(LayerNorm(name='norm1')(x))
    out = SimpleGate()(DepthwiseConv(dtype=self.dtype, name='conv2')(out))
    weight = pointwise(c, 'sca')(self.mean(out))  # simplified channel attention
    out = out * local.spread(weight, out)
    x = x + pointwise(c, 'conv3')(out) * self.residual_scale('beta', x)

    out = SimpleGate()(pointwise(2 * c, 'conv4')(LayerNorm(name='norm2')(x)))
    return x + pointwise(c, 'conv5')(out) * self.residual_scale('gamma', x)

  def residual_scale(self, name, x):
    scale = parameter(self, name, nn.initializers.zeros, (x.shape[-1],))
    return scale.astype(x.dtype).reshape(1, 1, 1, -1)


class NAFNet(nn.Module):
  """A U-Net of blocks that predicts the residual."""

  width: int = 32
  enc_blk_nums: tuple[int, ...] = (1, 1, 1, 28)
  middle_blk_num: int = 1
  dec_blk_nums: tuple[int, ...] = (1, 1, 1, 1)
  channels: int = 3
  tlc: int = 0
  """Side of the window for local means, in pixels of the image; 0 for the whole image."""
  remat: bool = False
  """Whether training recomputes the activations inside blocks instead of storing them."""
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # Channel attention pools over the whole image, or over windows that widen with every block, so
    # tiles are approximate. The convolutions of the deep levels also reach further than 64 pixels,
    # but with little weight at that distance.
    halo = max(64, self.tlc // 2)
    return Needs(multiple=2 ** len(self.enc_blk_nums), tiling='approximate', halo=halo)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    return {'restored': blurred + self.residual(blurred)}

  def residual(self, x, modulate=lambda x, name: x, after=lambda x, name: x):
    """The U-Net's output.

    `modulate(features, name)` is applied before every block, `after(features, name)` after every
    stage, which is a row of blocks of one size.
    """
    mean = functools.partial(local.mean, image=x.shape, window=self.tlc)
    block = nn.remat(NAFBlock) if self.remat else NAFBlock

    def blocks(x, count, name):
      for i in range(count):
        x = block(mean, self.dtype, name=f'{name}_{i}')(modulate(x, f'{name}_{i}'))
      return after(x, name)

    def conv(features, size, name, **options):
      return Conv(features, size, dtype=self.dtype, name=name, **options)

    x, skips = conv(self.width, 3, 'intro')(x), []
    for level, count in enumerate(self.enc_blk_nums):
      skips.append(blocks(x, count, f'encoders_{level}'))
      x = conv(2 * x.shape[-1], 2, f'downs_{level}', stride=2, padding=0)(skips[-1])
    x = blocks(x, self.middle_blk_num, 'middle_blks')
    for level, count in enumerate(self.dec_blk_nums):
      x = conv(2 * x.shape[-1], 1, f'ups_{level}', use_bias=False)(x)
      x = blocks(pixel_shuffle(x, 2) + skips.pop(), count, f'decoders_{level}')
    return conv(self.channels, 3, 'ending')(x).astype(jnp.float32)


def Model(variant: str = 'default', **overrides: Any) -> NAFNet:
  """The `NAFNet` of a variant in `VARIANTS`, with `overrides`."""
  return NAFNet(**{**VARIANTS[variant], **overrides})
