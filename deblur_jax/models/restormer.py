"""Restormer: a U-Net of transformer blocks that attend across channels instead of pixels.

S. W. Zamir, A. Arora, S. Khan, M. Hayat, F. S. Khan, M.-H. Yang, "Restormer: Efficient Transformer
for High-Resolution Image Restoration", CVPR 2022, arXiv:2111.09881. GoPro 32.92 dB / 0.961; 33.57
dB with attention in windows at test time (`tlc=384`, TLC, arXiv:2112.04491).

Computes the same as the authors' code for deblurring: layer norms with bias, one image in, one out.
Queries and keys are normalized after their product, which is equivalent.
"""

from collections.abc import Callable
import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn import local
from deblur_jax.nn.conv import Conv, DepthwiseConv
from deblur_jax.nn.norm import LayerNorm
from deblur_jax.nn.resample import pixel_shuffle, pixel_unshuffle
from deblur_jax.types import Needs

VARIANTS = {
  # 26,126,644 parameters, the paper's
  'default': {
    'dim': 48,
    'num_blocks': (4, 6, 6, 8),
    'num_refinement_blocks': 4,
    'heads': (1, 2, 4, 8),
  },
  # 4,725,942: under 10 MB as float16
  'small': {
    'dim': 24,
    'num_blocks': (2, 3, 3, 6),
    'num_refinement_blocks': 2,
    'heads': (1, 2, 4, 8),
  },
  # 272,819, for laptops
  'tiny': {'dim': 16, 'num_blocks': (1, 1, 2), 'num_refinement_blocks': 1, 'heads': (1, 2, 4)},
  # 16,905, for tests
  'smoke': {'dim': 4, 'num_blocks': (1, 1, 1), 'num_refinement_blocks': 1, 'heads': (1, 2, 2)},
}


class Attention(nn.Module):
  """Multi-Dconv head transposed attention (MDTA, eq. 1); cost linear in the number of pixels."""

  heads: int
  window: Callable
  dtype: Any

  @nn.compact
  def __call__(self, x):
    c = x.shape[-1]
    pointwise = functools.partial(Conv, kernel_size=1, use_bias=False, dtype=self.dtype)
    depthwise = DepthwiseConv(use_bias=False, dtype=self.dtype, name='qkv_dwconv')
    qkv = depthwise(pointwise(3 * c, name='qkv')(x))
    temperature = self.param('temperature', nn.initializers.ones, (self.heads, 1, 1))
    out = tiled(lambda part: attend(part, temperature), qkv, *self.window(x))
    return pointwise(c, name='project_out')(out)


def attend(qkv: jax.Array, temperature: jax.Array) -> jax.Array:
  """`[b h w c]` from queries, keys and values `[b h w 3c]`; channels attend within their head."""
  b, h, w, c = qkv.shape
  q, k, v = (x.reshape(b, h * w, len(temperature), -1) for x in jnp.split(qkv, 3, axis=-1))
  scores = jnp.einsum('bnhi,bnhj->bhij', q, k, preferred_element_type=jnp.float32)
  scores = scores / length(q)[..., :, None] / length(k)[..., None, :]
  weights = nn.softmax(scores * temperature[None]).astype(v.dtype)
  return jnp.einsum('bhij,bnhj->bnhi', weights, v).reshape(b, h, w, c // 3)


def length(x: jax.Array) -> jax.Array:
  """Euclidean norm `[b heads c]` over the pixels of `[b n heads c]`."""
  return jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x.astype(jnp.float32)), axis=1), 1e-24))


def tiled(function: Callable, x: jax.Array, rows: int, columns: int) -> jax.Array:
  """`function` of `x` `[b h w c]` in tiles of `rows` x `columns`, averaged where they overlap."""
  height, width = x.shape[1:3]
  if (rows, columns) == (height, width):
    return function(x)
  places = list(itertools.product(starts(height, rows), starts(width, columns)))
  tiles = [x[:, top : top + rows, left : left + columns] for top, left in places]
  tiles = jnp.split(function(jnp.concatenate(tiles)), len(places))
  total = count = 0.0
  for (top, left), tile in zip(places, tiles, strict=True):
    around = ((0, 0), (top, height - rows - top), (left, width - columns - left), (0, 0))
    total += jnp.pad(tile, around)
    count += jnp.pad(jnp.ones((1, rows, columns, 1), tile.dtype), around)
  return total / count


def starts(length: int, size: int) -> list[int]:
  """Where tiles begin: as few as cover the length, evenly spaced except the last, at the end."""
  count = -(-length // size)
  step = -(-(length - size) // max(count - 1, 1))
  return [min(i * step, length - size) for i in range(count)]


class FeedForward(nn.Module):
  """Gated-Dconv feed-forward network (GDFN, eq. 2)."""

  expansion: float
  gelu_tanh: bool
  dtype: Any

  @nn.compact
  def __call__(self, x):
    c = x.shape[-1]
    pointwise = functools.partial(Conv, kernel_size=1, use_bias=False, dtype=self.dtype)
    x = pointwise(2 * int(c * self.expansion), name='project_in')(x)
    x = DepthwiseConv(use_bias=False, dtype=self.dtype, name='dwconv')(x)
    gate, x = jnp.split(x, 2, axis=-1)
    return pointwise(c, name='project_out')(nn.gelu(gate, approximate=self.gelu_tanh) * x)


class TransformerBlock(nn.Module):
  """Attention, then a feed-forward network, each with layer norm before and a shortcut around."""

  heads: int
  expansion: float
  gelu_tanh: bool
  window: Callable
  dtype: Any

  @nn.compact
  def __call__(self, x):
    attention = Attention(self.heads, self.window, self.dtype, name='attn')
    x = x + attention(LayerNorm(1e-5, name='norm1')(x))
    feed_forward = FeedForward(self.expansion, self.gelu_tanh, self.dtype, name='ffn')
    return x + feed_forward(LayerNorm(1e-5, name='norm2')(x))


class Restormer(nn.Module):
  """A U-Net of transformer blocks that predicts the residual."""

  dim: int = 48
  num_blocks: tuple[int, ...] = (4, 6, 6, 8)
  num_refinement_blocks: int = 4
  heads: tuple[int, ...] = (1, 2, 4, 8)
  ffn_expansion_factor: float = 2.66
  channels: int = 3
  gelu_tanh: bool = False
  """Whether to use the tanh approximation of GELU, for weights trained with it; the authors' use
  erf."""
  tlc: int = 0
  """Side of the attention windows, in pixels of the image; 0 for the whole image."""
  remat: bool = False
  """Whether training recomputes the activations inside blocks instead of storing them."""
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # Attention weights depend on all pixels, or on those of windows laid out over the whole image,
    # so tiles are approximate.
    halo = max(64, self.tlc // 2)
    return Needs(multiple=2 ** (len(self.num_blocks) - 1), tiling='approximate', halo=halo)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    conv = functools.partial(Conv, use_bias=False, dtype=self.dtype)
    window = functools.partial(local.sides, image=blurred.shape, window=self.tlc)
    block = functools.partial(
      nn.remat(TransformerBlock) if self.remat else TransformerBlock,
      expansion=self.ffn_expansion_factor,
      gelu_tanh=self.gelu_tanh,
      window=window,
      dtype=self.dtype,
    )

    def blocks(x, count, heads, name):
      for i in range(count):
        x = block(heads, name=f'{name}_{i}')(x)
      return x

    deepest, skips = len(self.num_blocks), []
    x = conv(self.dim, name='patch_embed')(blurred)
    for level, (count, heads) in enumerate(zip(self.num_blocks, self.heads, strict=True), start=1):
      if level > 1:
        x = pixel_unshuffle(conv(x.shape[-1] // 2, name=f'down{level - 1}_{level}')(x), 2)
      x = blocks(x, count, heads, f'encoder_level{level}' if level < deepest else 'latent')
      skips.append(x)
    skips.pop()
    for level in range(deepest - 1, 0, -1):
      x = pixel_shuffle(conv(2 * x.shape[-1], name=f'up{level + 1}_{level}')(x), 2)
      x = jnp.concatenate([x, skips.pop()], axis=-1)
      if level > 1:
        x = conv(x.shape[-1] // 2, 1, name=f'reduce_chan_level{level}')(x)
      x = blocks(x, self.num_blocks[level - 1], self.heads[level - 1], f'decoder_level{level}')
    x = blocks(x, self.num_refinement_blocks, self.heads[0], 'refinement')
    residual = conv(self.channels, name='output')(x)
    return {'restored': blurred + residual.astype(jnp.float32)}


def Model(variant: str = 'default', **overrides: Any) -> Restormer:
  """The `Restormer` of a variant in `VARIANTS`, with `overrides`."""
  return Restormer(**{**VARIANTS[variant], **overrides})
