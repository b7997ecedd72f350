"""HINet: consecutive U-Nets whose deep blocks instance-normalize half of their channels.

L. Chen, X. Lu, J. Zhang, X. Chu, C. Chen, "HINet: Half Instance Normalization Network for Image
Restoration", CVPR Workshops 2021, arXiv:2105.06086. GoPro 32.71 dB / 0.959; 33.08 dB with local
statistics at test time (`tlc=384`, see nn/local.py).

Computes the same as the authors' code. The default has half instance normalization at levels 3 and
4, like their deblurring configurations; their class defaults to all levels. The paper has two
stages; a third, as in MPRNet, takes the second's features as the second takes the first's.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn import local
from deblur_jax.nn.conv import Conv, ConvTranspose
from deblur_jax.nn.norm import InstanceNorm, LocalInstanceNorm
from deblur_jax.types import Needs

VARIANTS = {
  # 88,668,806 parameters, the paper's
  'default': {'wf': 64, 'depth': 5, 'hin_position_left': 3, 'hin_position_right': 4},
  # 22,176,070: half the width
  'half': {'wf': 32, 'depth': 5, 'hin_position_left': 3, 'hin_position_right': 4},
  # 19,160,577: three stages, as some descriptions of HINet have it
  'three_stage': {
    'wf': 24,
    'depth': 5,
    'hin_position_left': 3,
    'hin_position_right': 4,
    'stages': 3,
  },
  # 1,383,462, trains in minutes on a laptop
  'tiny': {'wf': 16, 'depth': 4, 'hin_position_left': 2, 'hin_position_right': 3},
  # 22,030, for tests
  'smoke': {'wf': 4, 'depth': 3, 'hin_position_left': 1, 'hin_position_right': 2},
}


class UNetConvBlock(nn.Module):
  """Two convolutions and a 1x1 shortcut; `norm`, if given, applies to half the channels in between.

  Returns the features, and with `downsample` also features at half the size.
  """

  features: int
  relu_slope: float
  dtype: Any
  norm: Callable | None = None
  downsample: bool = False

  @nn.compact
  def __call__(self, x, encoded=None, decoded=None):
    conv = functools.partial(Conv, self.features, dtype=self.dtype)
    out = conv(name='conv_1')(x)
    if self.norm is not None:
      normal, rest = jnp.split(out, 2, axis=-1)
      out = jnp.concatenate([self.norm(name='norm')(normal), rest], axis=-1)
    out = nn.leaky_relu(out, self.relu_slope)
    out = nn.leaky_relu(conv(name='conv_2')(out), self.relu_slope)
    out = out + conv(1, name='identity')(x)
    if encoded is not None:  # cross-stage feature fusion
      out = out + conv(name='csff_enc')(encoded) + conv(name='csff_dec')(decoded)
    if not self.downsample:
      return out
    return out, conv(4, stride=2, padding=1, use_bias=False, name='downsample')(out)


class UNetUpBlock(nn.Module):
  """Upsamples features by 2 and combines them with the encoder's at that size."""

  features: int
  relu_slope: float
  dtype: Any

  @nn.compact
  def __call__(self, x, skip):
    x = ConvTranspose(self.features, 2, 2, dtype=self.dtype, name='up')(x)
    x = jnp.concatenate([x, skip], axis=-1)
    return UNetConvBlock(self.features, self.relu_slope, self.dtype, name='conv_block')(x)


class SAM(nn.Module):
  """Supervised attention module: features weighted by a restored image, and that image."""

  dtype: Any

  @nn.compact
  def __call__(self, x, image):
    conv = functools.partial(Conv, dtype=self.dtype)
    image = image + conv(image.shape[-1], name='conv2')(x)  # float32, like the image
    weight = nn.sigmoid(conv(x.shape[-1], name='conv3')(image))
    return conv(x.shape[-1], name='conv1')(x) * weight + x, image


class HINet(nn.Module):
  """U-Nets, each of which takes the features of the one before."""

  wf: int = 64
  depth: int = 5
  relu_slope: float = 0.2
  hin_position_left: int = 3
  hin_position_right: int = 4
  stages: int = 2
  channels: int = 3
  tlc: int = 0
  """Side of the normalization window, in pixels of the image; 0 for the whole image."""
  remat: bool = False
  """Whether training recomputes the activations inside blocks instead of storing them."""
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # Instance normalization takes its statistics from the whole image, or from windows that widen
    # with every block, so tiles are approximate; the authors themselves evaluate in tiles of 256,
    # the size trained on.
    return Needs(2 ** (self.depth - 1), tiling='approximate', halo=max(64, self.tlc // 2))

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    conv = functools.partial(Conv, dtype=self.dtype)
    encoded = decoded = None
    images = []
    for stage in range(1, self.stages + 1):
      x = conv(self.wf, name=f'conv_0{stage}')(blurred)
      if stage > 1:
        between = f'{stage - 1}{stage}'
        attended, image = SAM(self.dtype, name=f'sam{between}')(decoded[0], blurred)
        x = conv(self.wf, 1, name=f'cat{between}')(jnp.concatenate([x, attended], axis=-1))
        images.append(image)
      x, encoded = self.encode(x, encoded, decoded, stage=stage)
      decoded = self.decode(x, encoded, stage=stage)
    restored = conv(self.channels, name='last')(decoded[0]).astype(jnp.float32) + blurred
    return {'restored': restored, 'stages': (*images, restored)}

  def encode(self, x, encoded=None, decoded=None, *, stage):
    """The deepest features, and those of all other levels, finest first."""
    norm = functools.partial(InstanceNorm, affine=True)
    if self.tlc:
      mean = functools.partial(local.mean, image=x.shape, window=self.tlc)
      norm = functools.partial(LocalInstanceNorm, mean)
    features = []
    for level in range(self.depth):
      block = (nn.remat(UNetConvBlock) if self.remat else UNetConvBlock)(
        self.wf * 2**level,
        self.relu_slope,
        self.dtype,
        norm=norm if self.hin_position_left <= level <= self.hin_position_right else None,
        downsample=level < self.depth - 1,
        name=f'down_path_{stage}_{level}',
      )
      if level == self.depth - 1:
        return block(x), features
      before = (encoded[level], decoded[level]) if encoded is not None else ()
      out, x = block(x, *before)
      features.append(out)

  def decode(self, x, encoded, *, stage):
    """The features of all levels but the deepest, finest first."""
    features = []
    for i, skip in enumerate(reversed(encoded)):
      width = skip.shape[-1]
      skip = Conv(width, dtype=self.dtype, name=f'skip_conv_{stage}_{i}')(skip)
      x = UNetUpBlock(width, self.relu_slope, self.dtype, name=f'up_path_{stage}_{i}')(x, skip)
      features.insert(0, x)
    return features


def Model(variant: str = 'default', **overrides: Any) -> HINet:
  """The `HINet` of a variant in `VARIANTS`, with `overrides`."""
  return HINet(**{**VARIANTS[variant], **overrides})
