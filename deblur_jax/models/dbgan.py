"""DBGAN: residual-in-residual dense blocks at full resolution.

K. Zhang, W. Luo, Y. Zhong, L. Ma, B. Stenger, W. Liu, H. Li, "Deblurring by Realistic Blurring",
CVPR 2020, arXiv:2004.01860. GoPro 31.10 dB / 0.942.

Computes the same as the authors' code for the generator; they published no training code. Like
theirs, the result is clipped to [0, 1], except in training, where clipped pixels would have no
gradient.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv
from deblur_jax.types import Needs

VARIANTS = {
  'default': {'nf': 64, 'nb': 16, 'gc': 32},  # 11,588,163 parameters, the paper's
  'tiny': {'nf': 24, 'nb': 2, 'gc': 12},  # 214,347, for laptops
  'smoke': {'nf': 4, 'nb': 1, 'gc': 2},  # 3,363, for tests
}


class RDB(nn.Module):
  """Residual dense block: five convolutions, each of all features before it."""

  gc: int
  relu_slope: float
  dtype: Any

  @nn.compact
  def __call__(self, x):
    features = x
    for i in range(1, 5):
      out = Conv(self.gc, dtype=self.dtype, name=f'conv{i}')(features)
      out = nn.leaky_relu(out, self.relu_slope)
      features = jnp.concatenate([features, out], axis=-1)
    return x + 0.2 * Conv(x.shape[-1], dtype=self.dtype, name='conv5')(features)


class RRDB(nn.Module):
  """Residual-in-residual dense block: three dense blocks with a shortcut around them."""

  gc: int
  relu_slope: float
  dtype: Any

  @nn.compact
  def __call__(self, x):
    out = x
    for i in range(1, 4):
      out = RDB(self.gc, self.relu_slope, self.dtype, name=f'RDB{i}')(out)
    return x + 0.2 * out


class DBGAN(nn.Module):
  """A sequence of RRDBs that predicts the residual."""

  nf: int = 64
  nb: int = 16
  gc: int = 32
  relu_slope: float = 0.2
  channels: int = 3
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    return Needs(multiple=1, tiling='exact', halo=15 * self.nb + 4)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    def conv(features, name):
      return Conv(features, dtype=self.dtype, name=name)

    features = x = conv(self.nf, 'model_0')(blurred)
    for i in range(self.nb):
      x = RRDB(self.gc, self.relu_slope, self.dtype, name=f'sub1_{i}')(x)
    x = features + conv(self.nf, 'sub2')(x)
    x = nn.leaky_relu(conv(self.nf, 'model_2')(x), self.relu_slope)
    restored = blurred + conv(self.channels, 'model_4')(x).astype(jnp.float32)
    return {'restored': restored if train else restored.clip(0, 1)}


def Model(variant: str = 'default', **overrides: Any) -> DBGAN:
  """The `DBGAN` of a variant in `VARIANTS`, with `overrides`."""
  return DBGAN(**{**VARIANTS[variant], **overrides})
