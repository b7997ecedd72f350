"""Autoencoder: an encoder, a bottleneck and a decoder.

No paper: the convolutional autoencoder of Keras's examples, which deblurring tutorials train on
128x128 pictures; `default` is theirs, layer by layer. All detail must pass through 256 numbers, so
expect no more than a baseline. `convolutional` has no dense layers and takes any size.

Strided layers pad like Keras's 'same', 0 at the top and 1 at the bottom, and all layers use Keras's
initialization (Glorot and Bengio, AISTATS 2010).
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv, ConvTranspose
from deblur_jax.types import Needs

VARIANTS = {
  # 34,951,683 parameters: 17,148,288 of the encoder, 17,803,395 of the decoder
  'default': {'features': (64, 128, 256), 'latent': 256},
  'convolutional': {'features': (64, 128, 256), 'latent': 0},  # 1,331,459
  'tiny': {'features': (16, 32, 64), 'latent': 0},  # 84,035, convolutional, for laptops
  'smoke': {'features': (4, 8), 'latent': 6, 'side': 64},  # 28,025, for tests
}

GLOROT = {'kernel_init': nn.initializers.glorot_uniform()}


class Encoder(nn.Module):
  """Halves the size at every layer, then, if `latent` is not 0, a dense layer of that width."""

  features: tuple[int, ...]
  latent: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    conv = functools.partial(Conv, stride=2, padding=0, dtype=self.dtype, **GLOROT)
    for i, features in enumerate(self.features, start=1):
      x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
      x = nn.relu(conv(features, name=f'conv{i}')(x))
    if not self.latent:
      return x
    x = x.reshape(x.shape[0], -1)  # height, width, channels
    return nn.Dense(self.latent, dtype=self.dtype, name='latent', **GLOROT)(x)


class Decoder(nn.Module):
  """The reverse of the encoder; `shape` [h w c] is that of the encoder's last features."""

  features: tuple[int, ...]
  shape: tuple[int, int, int]
  channels: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    if x.ndim == 2:
      x = nn.Dense(math.prod(self.shape), dtype=self.dtype, name='dense', **GLOROT)(x)
      x = x.reshape(x.shape[0], *self.shape)
    # The encoder pads by one at the bottom and right, so a row and a column are cut off there.
    up = functools.partial(
      ConvTranspose, kernel_size=3, stride=2, output_padding=-1, dtype=self.dtype, **GLOROT
    )
    for i, features in enumerate(reversed(self.features), start=1):
      x = nn.relu(up(features, name=f'conv{i}')(x))
    return ConvTranspose(self.channels, 3, 1, padding=1, dtype=self.dtype, name='last', **GLOROT)(x)


class Autoencoder(nn.Module):
  """Encoder and decoder; with a `latent` layer, only for images of `side` x `side`."""

  features: tuple[int, ...] = (64, 128, 256)
  latent: int = 256
  side: int = 128
  channels: int = 3
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    scale = 2 ** len(self.features)
    if not self.latent:
      return Needs(multiple=scale, tiling='exact', halo=2 * scale - 1)
    # A halo keeps the zero padding of each tile out of the blended region.
    return Needs(tiling='approximate', halo=2 * scale - 1, side=self.side)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    height, width = blurred.shape[1:3]
    if self.latent and (height, width) != (self.side, self.side):
      raise ValueError(
        f'this autoencoder requires {self.side}x{self.side} pixels, got {width}x{height}:'
        f' end the ops with crop({self.side}), or set latent to 0 to accept any size'
      )
    scale = 2 ** len(self.features)
    x = Encoder(self.features, self.latent, self.dtype, name='encoder')(blurred)
    shape = height // scale, width // scale, self.features[-1]
    x = Decoder(self.features, shape, self.channels, self.dtype, name='decoder')(x)
    return {'restored': nn.sigmoid(x.astype(jnp.float32))}


def Model(variant: str = 'default', **overrides: Any) -> Autoencoder:
  """The `Autoencoder` of a variant in `VARIANTS`, with `overrides`."""
  return Autoencoder(**{**VARIANTS[variant], **overrides})
