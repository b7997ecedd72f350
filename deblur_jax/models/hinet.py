"""HINet: two U-Nets whose deep blocks normalize half of their channels over the image.

L. Chen, X. Lu, J. Zhang, X. Chu, C. Chen, "HINet: Half Instance Normalization Network for Image
Restoration", CVPR Workshops 2021, arXiv:2105.06086. GoPro 32.71 dB / 0.959.

Computes what the authors' code computes. The default has half instance normalization where their
deblurring configurations have it, at levels 3 and 4; their class has it everywhere by default.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv, ConvTranspose
from deblur_jax.nn.norm import InstanceNorm
from deblur_jax.types import Needs

VARIANTS = {
  # 88,668,806 parameters, the paper's
  'default': {'wf': 64, 'depth': 5, 'hin_position_left': 3, 'hin_position_right': 4},
  # 22,176,070, half the width
  'half': {'wf': 32, 'depth': 5, 'hin_position_left': 3, 'hin_position_right': 4},
  # 1,383,462, trains in minutes on a laptop
  'tiny': {'wf': 16, 'depth': 4, 'hin_position_left': 2, 'hin_position_right': 3},
  # 22,030, for tests
  'smoke': {'wf': 4, 'depth': 3, 'hin_position_left': 1, 'hin_position_right': 2},
}


class UNetConvBlock(nn.Module):
  """Two convolutions and a 1x1 shortcut; `half_norm` normalizes half the channels between them.

  Returns the features, and with `downsample` also a second set at half the size.
  """

  features: int
  relu_slope: float
  dtype: Any
  half_norm: bool = False
  downsample: bool = False

  @nn.compact
  def __call__(self, x, encoded=None, decoded=None):
    conv = functools.partial(Conv, self.features, dtype=self.dtype)
    out = conv(name='conv_1')(x)
    if self.half_norm:
      normal, rest = jnp.split(out, 2, axis=-1)
      out = jnp.concatenate([InstanceNorm(affine=True, name='norm')(normal), rest], axis=-1)
    out = nn.leaky_relu(out, self.relu_slope)
    out = nn.leaky_relu(conv(name='conv_2')(out), self.relu_slope)
    out = out + conv(1, name='identity')(x)
    if encoded is not None:  # cross-stage feature fusion
      out = out + conv(name='csff_enc')(encoded) + conv(name='csff_dec')(decoded)
    if not self.downsample:
      return out
    return out, conv(4, stride=2, padding=1, use_bias=False, name='downsample')(out)


class UNetUpBlock(nn.Module):
  """Features at twice the size, together with those that skipped the way down."""

  features: int
  relu_slope: float
  dtype: Any

  @nn.compact
  def __call__(self, x, skip):
    x = ConvTranspose(self.features, 2, 2, dtype=self.dtype, name='up')(x)
    x = jnp.concatenate([x, skip], axis=-1)
    return UNetConvBlock(self.features, self.relu_slope, self.dtype, name='conv_block')(x)


class SAM(nn.Module):
  """Supervised attention module: a restored image, and features weighed by it."""

  dtype: Any

  @nn.compact
  def __call__(self, x, image):
    conv = functools.partial(Conv, dtype=self.dtype)
    image = image + conv(image.shape[-1], name='conv2')(x)  # float32, as the image is
    weight = nn.sigmoid(conv(x.shape[-1], name='conv3')(image))
    return conv(x.shape[-1], name='conv1')(x) * weight + x, image


class HINet(nn.Module):
  """Two U-Nets, the second fed by the features of the first."""

  wf: int = 64
  depth: int = 5
  relu_slope: float = 0.2
  hin_position_left: int = 3
  hin_position_right: int = 4
  channels: int = 3
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # Instance normalization takes its statistics from the whole image, so tiles can only
    # approximate; the authors themselves evaluate in tiles of 256, the size trained on.
    return Needs(multiple=2 ** (self.depth - 1), tiling='approximate', halo=64)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    conv = functools.partial(Conv, dtype=self.dtype)
    x, encoded = self.encode(conv(self.wf, name='conv_01')(blurred), stage=1)
    decoded = self.decode(x, encoded, stage=1)
    attended, stage1 = SAM(self.dtype, name='sam12')(decoded[0], blurred)

    x = jnp.concatenate([conv(self.wf, name='conv_02')(blurred), attended], axis=-1)
    x = conv(self.wf, 1, name='cat12')(x)
    x, encoded = self.encode(x, encoded, decoded, stage=2)
    decoded = self.decode(x, encoded, stage=2)
    restored = conv(self.channels, name='last')(decoded[0]).astype(jnp.float32) + blurred
    return {'restored': restored, 'stages': (stage1, restored)}

  def encode(self, x, encoded=None, decoded=None, *, stage):
    """The deepest features, and those of all levels above it, finest first."""
    features = []
    for level in range(self.depth):
      block = UNetConvBlock(
        self.wf * 2**level,
        self.relu_slope,
        self.dtype,
        half_norm=self.hin_position_left <= level <= self.hin_position_right,
        downsample=level < self.depth - 1,
        name=f'down_path_{stage}_{level}',
      )
      if level == self.depth - 1:
        return block(x), features
      before = (encoded[level], decoded[level]) if encoded is not None else ()
      out, x = block(x, *before)
      features.append(out)

  def decode(self, x, encoded, *, stage):
    """Features of all levels but the deepest, finest first."""
    features = []
    for i, skip in enumerate(reversed(encoded)):
      width = skip.shape[-1]
      skip = Conv(width, dtype=self.dtype, name=f'skip_conv_{stage}_{i}')(skip)
      x = UNetUpBlock(width, self.relu_slope, self.dtype, name=f'up_path_{stage}_{i}')(x, skip)
      features.insert(0, x)
    return features


def Model(variant: str = 'default', **overrides: Any) -> HINet:
  """An `HINet` as `VARIANTS` has it, with `overrides`."""
  return HINet(**{**VARIANTS[variant], **overrides})
