"""DeblurGAN: the ResNet generator of a conditional GAN.

O. Kupyn, V. Budzan, M. Mykhailych, D. Mishkin, J. Matas, "DeblurGAN: Blind Motion Deblurring Using
Conditional Adversarial Networks", CVPR 2018, arXiv:1711.07064. GoPro 28.7 dB in the paper; others
measured 25.2 to 28.3 dB with the authors' weights.

Computes the same as the authors' code of 2018; a later refactoring of it lost half of the
convolutions by mistake. Unlike theirs, dropout is off at test time, so that results are
reproducible. Works in [-1, 1] internally. The discriminator is in `nn.patchgan`.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv, ConvTranspose
from deblur_jax.nn.norm import InstanceNorm
from deblur_jax.types import Needs

VARIANTS = {
  'default': {'ngf': 64, 'n_blocks': 9},  # 11,378,179 parameters, the paper's
  'tiny': {'ngf': 16, 'n_blocks': 4},  # 346,371, for laptops
  'smoke': {'ngf': 4, 'n_blocks': 1},  # 8,739, for tests
}


def reflected(x: jax.Array, margin: int) -> jax.Array:
  """`[b h w c]` padded by reflection on all four sides."""
  return jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), 'reflect')


class ResnetBlock(nn.Module):
  """Two convolutions with dropout between them and a shortcut around them."""

  conv: Callable
  dropout: float

  @nn.compact
  def __call__(self, x, train):
    out = self.conv(x.shape[-1], name='conv_block_1')(reflected(x, 1))
    out = nn.relu(InstanceNorm()(out))
    out = nn.Dropout(self.dropout, deterministic=not train)(out)
    out = self.conv(x.shape[-1], name='conv_block_6')(reflected(out, 1))
    return x + InstanceNorm()(out)


class DeblurGAN(nn.Module):
  """Downsamples twice, blocks, upsamples twice; `learn_residual` adds the result to the image."""

  ngf: int = 64
  n_blocks: int = 9
  dropout: float = 0.5
  learn_residual: bool = True
  channels: int = 3
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # Instance normalization takes its statistics from the whole image, so tiles can only
    # approximate.
    return Needs(multiple=4, tiling='approximate', halo=64)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    start = {'kernel_init': nn.initializers.normal(0.02), 'dtype': self.dtype}
    conv = functools.partial(Conv, padding=0, **start)
    down = functools.partial(Conv, stride=2, **start)
    up = functools.partial(
      ConvTranspose, kernel_size=3, stride=2, padding=1, output_padding=1, **start
    )

    def normal(x):
      return nn.relu(InstanceNorm()(x))

    image = 2 * blurred - 1
    x = normal(conv(self.ngf, 7, name='model_1')(reflected(image, 3)))
    x = normal(down(2 * self.ngf, name='model_4')(x))
    x = normal(down(4 * self.ngf, name='model_7')(x))
    last = 10 + self.n_blocks
    for i in range(10, last):
      x = ResnetBlock(conv, self.dropout, name=f'model_{i}')(x, train)
    x = normal(up(2 * self.ngf, name=f'model_{last}')(x))
    x = normal(up(self.ngf, name=f'model_{last + 3}')(x))
    x = conv(self.channels, 7, name=f'model_{last + 7}')(reflected(x, 3))
    restored = nn.tanh(x.astype(jnp.float32))
    if self.learn_residual:
      restored = jnp.clip(image + restored, -1, 1)
    return {'restored': (restored + 1) / 2}


def Model(variant: str = 'default', **overrides: Any) -> DeblurGAN:
  """The `DeblurGAN` of a variant in `VARIANTS`, with `overrides`."""
  return DeblurGAN(**{**VARIANTS[variant], **overrides})
