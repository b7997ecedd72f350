"""Attention over channels."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn import local
from deblur_jax.nn.conv import Conv


class ChannelAttention(nn.Module):
  """`[b h w c]` with channels weighted according to all channel means (Zhang et al. 2018, RCAN)."""

  reduction: int
  mean: Callable = local.mean
  use_bias: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = x.shape[-1]

    def pointwise(features, name):
      return Conv(features, 1, use_bias=self.use_bias, dtype=self.dtype, name=name)

    weight = nn.relu(pointwise(channels // self.reduction, 'conv_du_0')(self.mean(x)))
    weight = nn.sigmoid(pointwise(channels, 'conv_du_2')(weight))  # [b 1 1 c], or one per window
    return x * local.spread(weight, x)
