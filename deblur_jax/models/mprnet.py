"""MPRNet: three stages, on quarters, on halves and on the whole image, each feeding the next.

S. W. Zamir, A. Arora, S. Khan, M. Hayat, F. S. Khan, M.-H. Yang, L. Shao, "Multi-Stage Progressive
Image Restoration", CVPR 2021, arXiv:2102.02808. GoPro 32.66 dB / 0.959; 33.31 dB with local means
at test time (`tlc=384`, see nn/local.py).

Computes the same as the authors' code, except for two equivalent changes: the parts of an image
pass through a stage as one batch, and 1x1 convolutions come before bilinear upsampling.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn import local
from deblur_jax.nn.attention import ChannelAttention
from deblur_jax.nn.conv import Conv
from deblur_jax.nn.parts import join, split
from deblur_jax.nn.resample import downsample2_bilinear, upsample2_bilinear
from deblur_jax.types import Needs

VARIANTS = {
  # 20,127,073 parameters, the paper's
  'default': {'n_feat': 96, 'scale_unetfeats': 48, 'scale_orsnetfeats': 32, 'num_cab': 8},
  # 6,376,449, the authors' small one, GoPro 31.87 dB
  'lite': {'n_feat': 40, 'scale_unetfeats': 40, 'scale_orsnetfeats': 32, 'num_cab': 8},
  # 179,769, trains in minutes on a laptop
  'tiny': {'n_feat': 8, 'scale_unetfeats': 8, 'scale_orsnetfeats': 8, 'num_cab': 1},
  # 25,015, for tests
  'smoke': {'n_feat': 4, 'scale_unetfeats': 2, 'scale_orsnetfeats': 2, 'num_cab': 1},
}


class CAB(nn.Module):
  """Channel attention block: two convolutions and channel attention, with a shortcut around."""

  act: Callable
  conv: Callable
  mean: Callable
  reduction: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    out = self.act(self.conv(x.shape[-1], name='body_0')(x))
    out = self.conv(x.shape[-1], name='body_2')(out)
    attend = ChannelAttention(self.reduction, self.mean, dtype=self.dtype, name='CA')
    return attend(out) + x


class Encoder(nn.Module):
  """Features at three scales, plus those of the stage before, `encoded` and `decoded`."""

  cab: Callable
  conv: Callable

  @nn.compact
  def __call__(self, x, widths, encoded=None, decoded=None):
    features = []
    for level, width in enumerate(widths, start=1):
      if level > 1:
        x = self.conv(width, 1, name=f'down{level - 1}{level}')(downsample2_bilinear(x))
      for i in range(2):
        x = self.cab(name=f'encoder_level{level}_{i}')(x)
      if encoded is not None:  # cross-stage feature fusion
        x = x + self.conv(width, 1, name=f'csff_enc{level}')(encoded[level - 1])
        x = x + self.conv(width, 1, name=f'csff_dec{level}')(decoded[level - 1])
      features.append(x)
    return features


class Decoder(nn.Module):
  """Features at three scales, finest first, from those of an encoder."""

  cab: Callable
  conv: Callable

  @nn.compact
  def __call__(self, encoded):
    features, x = [], encoded[2]
    for level in (3, 2, 1):
      if level < 3:
        skip = encoded[level - 1]
        x = upsample(self.conv(skip.shape[-1], 1, name=f'up{level + 1}{level}'), x)
        x = x + self.cab(name=f'skip_attn{level}')(skip)
      for i in range(2):
        x = self.cab(name=f'decoder_level{level}_{i}')(x)
      features.insert(0, x)
    return features


class ORB(nn.Module):
  """Original resolution block: CABs and a convolution, with a shortcut around them."""

  cab: Callable
  conv: Callable
  num_cab: int

  @nn.compact
  def __call__(self, x):
    out = x
    for i in range(self.num_cab):
      out = self.cab(name=f'body_{i}')(out)
    return self.conv(x.shape[-1], name=f'body_{self.num_cab}')(out) + x


class ORSNet(nn.Module):
  """Original resolution subnetwork: never downsamples; takes in the features of stage 2."""

  cab: Callable
  conv: Callable
  num_cab: int

  @nn.compact
  def __call__(self, x, encoded, decoded):
    encoded, decoded = self.upsampled(encoded, 'up_enc'), self.upsampled(decoded, 'up_dec')
    for i in range(3):
      x = ORB(self.cab, self.conv, self.num_cab, name=f'orb{i + 1}')(x)
      x = x + self.conv(x.shape[-1], 1, name=f'conv_enc{i + 1}')(encoded[i])
      x = x + self.conv(x.shape[-1], 1, name=f'conv_dec{i + 1}')(decoded[i])
    return x

  def upsampled(self, features, name):
    """The features of all three scales, upsampled to the finest and to its number of channels."""
    fine, middle, coarse = features
    narrow, wide = fine.shape[-1], middle.shape[-1]
    coarse = upsample(self.conv(wide, 1, name=f'{name}2_0'), coarse)
    coarse = upsample(self.conv(narrow, 1, name=f'{name}2_1'), coarse)
    return fine, upsample(self.conv(narrow, 1, name=f'{name}1'), middle), coarse


class SAM(nn.Module):
  """Supervised attention module: features weighted by a restored image, and that image."""

  conv: Callable

  @nn.compact
  def __call__(self, x, image):
    image = image + self.conv(image.shape[-1], 1, name='conv2')(x)  # float32, like the image
    weight = nn.sigmoid(self.conv(x.shape[-1], 1, name='conv3')(image))
    return self.conv(x.shape[-1], 1, name='conv1')(x) * weight + x, image


def upsample(pointwise: Callable, x: jax.Array) -> jax.Array:
  """`x` at twice the size through a 1x1 convolution.

  The authors convolve after upsampling; both are linear, so this is the same at a quarter of the
  cost.
  """
  return upsample2_bilinear(pointwise(x))


class MPRNet(nn.Module):
  """Two encoder-decoders and a network at full resolution."""

  n_feat: int = 96
  scale_unetfeats: int = 48
  scale_orsnetfeats: int = 32
  num_cab: int = 8
  reduction: int = 4
  channels: int = 3
  tlc: int = 0
  """Side of the window for local means, in pixels of the image; 0 for the whole image."""
  remat: bool = False
  """Whether training recomputes the activations inside blocks instead of storing them."""
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # Channel attention pools over whole parts of the image, or over windows that widen with every
    # block, so tiles are approximate. The convolutions also reach further than 64 pixels, but with
    # little weight at that distance.
    return Needs(multiple=8, tiling='approximate', halo=max(64, self.tlc // 2))

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    conv = functools.partial(Conv, use_bias=False, dtype=self.dtype)
    # One module with one slope, shared by the whole network.
    act = nn.PReLU(negative_slope_init=0.25, name='act')
    mean = functools.partial(local.mean, image=blurred.shape, window=self.tlc)
    block = nn.remat(CAB) if self.remat else CAB
    cab = functools.partial(block, act, conv, mean, self.reduction, self.dtype)
    widths = [self.n_feat + i * self.scale_unetfeats for i in range(3)]

    def shallow(image, number):
      x = conv(self.n_feat, name=f'shallow_feat{number}_0')(image)
      return cab(name=f'shallow_feat{number}_1')(x)

    # Stage 1: encodes quarters, decodes halves.
    x = shallow(split(blurred, 2, 2), 1)
    encoded = Encoder(cab, conv, name='stage1_encoder')(x, widths)
    encoded = [join(features, 1, 2) for features in encoded]
    decoded = Decoder(cab, conv, name='stage1_decoder')(encoded)
    attended, stage1 = SAM(conv, name='sam12')(decoded[0], split(blurred, 2, 1))

    # Stage 2: encodes halves, decodes the whole.
    x = jnp.concatenate([shallow(split(blurred, 2, 1), 2), attended], axis=-1)
    x = conv(self.n_feat, name='concat12')(x)
    encoded = Encoder(cab, conv, name='stage2_encoder')(x, widths, encoded, decoded)
    encoded = [join(features, 2, 1) for features in encoded]
    decoded = Decoder(cab, conv, name='stage2_decoder')(encoded)
    attended, stage2 = SAM(conv, name='sam23')(decoded[0], blurred)

    # Stage 3: the whole, at full resolution.
    x = jnp.concatenate([shallow(blurred, 3), attended], axis=-1)
    x = conv(self.n_feat + self.scale_orsnetfeats, name='concat23')(x)
    x = ORSNet(cab, conv, self.num_cab, name='stage3_orsnet')(x, encoded, decoded)
    restored = conv(self.channels, name='tail')(x).astype(jnp.float32) + blurred
    return {'restored': restored, 'stages': (join(stage1, 2, 1), stage2, restored)}


def Model(variant: str = 'default', **overrides: Any) -> MPRNet:
  """The `MPRNet` of a variant in `VARIANTS`, with `overrides`."""
  return MPRNet(**{**VARIANTS[variant], **overrides})
