"""Normalization layers; statistics in float32 for any input, output in the input's dtype."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn import local
from deblur_jax.nn.parameters import parameter


class LayerNorm(nn.Module):
  """Normalizes each pixel's channels to mean 0, variance 1; scale and bias (Ba et al. 2016)."""

  eps: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    normal = _normalize(x, axes=(-1,), eps=self.eps)
    return _affine(self, normal).astype(x.dtype)


class InstanceNorm(nn.Module):
  """Normalizes channels of each image `[b h w c]` to mean 0, variance 1 (Ulyanov et al. 2016)."""

  affine: bool = False
  eps: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    normal = _normalize(x, axes=(-3, -2), eps=self.eps)
    return (_affine(self, normal) if self.affine else normal).astype(x.dtype)


class LocalInstanceNorm(nn.Module):
  """`InstanceNorm` with scale and bias, and statistics from a window around each pixel."""

  mean: Callable
  """`local.mean`, with the window already set."""
  eps: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    # Centered on the global mean: E[x^2] - E[x]^2 is the same but loses fewer digits.
    centered = wide - wide.mean((-3, -2), keepdims=True)
    mean = self.mean(centered)
    variance = jnp.maximum(self.mean(jnp.square(centered)) - jnp.square(mean), 0)
    normal = centered - local.spread(mean, x)
    normal = normal * local.spread(jax.lax.rsqrt(variance + self.eps), x)
    return _affine(self, normal).astype(x.dtype)


def _normalize(x, axes, eps):
  x = x.astype(jnp.float32)
  centered = x - x.mean(axes, keepdims=True)
  variance = jnp.square(centered).mean(axes, keepdims=True)
  return centered * jax.lax.rsqrt(variance + eps)


def _affine(module, x):
  channels = x.shape[-1]
  scale = parameter(module, 'scale', nn.initializers.ones, (channels,))
  bias = parameter(module, 'bias', nn.initializers.zeros, (channels,))
  shape = (1,) * (x.ndim - 1) + (channels,)
  return x * scale.reshape(shape) + bias.reshape(shape)
