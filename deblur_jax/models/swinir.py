"""SwinIR: self-attention within windows that shift from block to block.

J. Liang, J. Cao, G. Sun, K. Zhang, L. Van Gool, R. Timofte, "SwinIR: Image Restoration Using Swin
Transformer", ICCV Workshops 2021, arXiv:2108.10257. Made for super-resolution, denoising and JPEG
artifacts; nobody has published a score for deblurring.

Computes the same as the authors' code for tasks that keep the size (upscale 1, no upsampler, one
convolution after each group of blocks), except that padding to a multiple is left to the caller.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.nn.conv import Conv
from deblur_jax.nn.norm import LayerNorm
from deblur_jax.types import Needs

VARIANTS = {
  # 11,504,163 parameters, the authors' for color denoising
  'default': {'embed_dim': 180, 'depths': (6,) * 6, 'num_heads': (6,) * 6},
  # 905,283, the width and depth of the authors' lightweight one: under 2 MB as float16
  'small': {'embed_dim': 60, 'depths': (6,) * 4, 'num_heads': (6,) * 4},
  # 59,619, for laptops
  'tiny': {'embed_dim': 24, 'depths': (4, 4), 'num_heads': (2, 2)},
  # 3,039, for tests
  'smoke': {'embed_dim': 8, 'depths': (2,), 'num_heads': (2,), 'window_size': 4},
}

# Of the RGB pixels of DIV2K; not used with other numbers of channels.
_MEAN = (0.4488, 0.4371, 0.4040)


def dense(features: int, dtype: Any, name: str) -> nn.Dense:
  """A linear layer with the authors' initialization."""
  init = nn.initializers.normal(0.02)
  return nn.Dense(features, dtype=dtype, kernel_init=init, name=name)


class WindowAttention(nn.Module):
  """Attention within each window, with a relative position bias (Liu et al. 2021)."""

  heads: int
  size: int
  dtype: Any

  @nn.compact
  def __call__(
    self, x, masked=None
  ):  # [b h w n c], n = size * size; masked broadcasts to [h w n n]
    *windows, n, c = x.shape
    entries = ((2 * self.size - 1) ** 2, self.heads)
    table = self.param('relative_position_bias_table', nn.initializers.normal(0.02), entries)
    bias = jnp.moveaxis(table[relative_positions(self.size)], -1, 0)  # [heads n n]

    qkv = dense(3 * c, self.dtype, 'qkv')(x).reshape(*windows, n, 3, self.heads, c // self.heads)
    q, k, v = jnp.moveaxis(qkv, -3, 0)  # [b h w n heads c/heads]
    scale = (c // self.heads) ** -0.5
    scores = jnp.einsum('...nhc,...mhc->...hnm', q * scale, k, preferred_element_type=jnp.float32)
    scores = scores + bias.reshape(1, 1, 1, *bias.shape)
    if masked is not None:
      scores = scores - 100 * masked[None, :, :, None].astype(jnp.float32)
    weights = nn.softmax(scores).astype(v.dtype)
    out = jnp.einsum('...hnm,...mhc->...nhc', weights, v).reshape(*windows, n, c)
    return dense(c, self.dtype, 'proj')(out)


def relative_positions(size: int) -> np.ndarray:
  """The index of the bias from pixel m to pixel n of a window, `[n m]`."""
  rows, columns = np.divmod(np.arange(size * size), size)
  down, right = (at[:, None] - at[None, :] + size - 1 for at in (rows, columns))
  return down * (2 * size - 1) + right


def partition(x: jax.Array, size: int) -> jax.Array:
  """`[b h w c]` as windows `[b h/size w/size size*size c]`."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // size, w // size, size * size, c)


def merge(x: jax.Array, size: int) -> jax.Array:
  """The inverse of `partition`."""
  b, h, w, _, c = x.shape
  x = x.reshape(b, h, w, size, size, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h * size, w * size, c)


def masked_pairs(height: int, width: int, size: int, shift: int) -> jax.Array:
  """Which pixels of a window must not attend to each other, `[h/size w/size n n]`.

  After a roll by `shift`, the last windows hold pixels from both ends of the image.
  """
  rows, columns = np.divmod(np.arange(size * size), size)
  across_rows, across_columns = (
    (at[:, None] < size - shift) != (at[None, :] < size - shift) for at in (rows, columns)
  )
  last_row = (np.arange(height // size) == height // size - 1)[:, None, None, None]
  last_column = (np.arange(width // size) == width // size - 1)[None, :, None, None]
  # Combined by XLA: as a constant it would be 64 times as large as the image.
  return (jnp.asarray(last_row) & across_rows[None, None]) | (
    jnp.asarray(last_column) & across_columns[None, None]
  )


class MLP(nn.Module):
  """Two linear layers."""

  features: int
  gelu_tanh: bool
  dtype: Any

  @nn.compact
  def __call__(self, x):
    hidden = nn.gelu(dense(self.features, self.dtype, 'fc1')(x), approximate=self.gelu_tanh)
    return dense(x.shape[-1], self.dtype, 'fc2')(hidden)


class SwinBlock(nn.Module):
  """Attention in windows shifted by `shift` pixels, then an MLP, each after a layer norm.

  In training, each is dropped for whole images with probability `drop` (stochastic depth).
  """

  heads: int
  size: int
  shift: int
  mlp_ratio: float
  gelu_tanh: bool
  drop: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    _, height, width, c = x.shape
    size, shift = self.size, self.shift
    skip = nn.Dropout(self.drop, broadcast_dims=(1, 2, 3), deterministic=not train)

    out = LayerNorm(1e-5, name='norm1')(x)
    out = jnp.roll(out, (-shift, -shift), (1, 2)) if shift else out
    masked = masked_pairs(height, width, size, shift) if shift else None
    attention = WindowAttention(self.heads, size, self.dtype, name='attn')
    out = merge(attention(partition(out, size), masked), size)
    out = jnp.roll(out, (shift, shift), (1, 2)) if shift else out
    x = x + skip(out)

    mlp = MLP(int(c * self.mlp_ratio), self.gelu_tanh, self.dtype, name='mlp')
    return x + skip(mlp(LayerNorm(1e-5, name='norm2')(x)))


class SwinIR(nn.Module):
  """Groups of blocks, each with a convolution and a shortcut; predicts the residual."""

  embed_dim: int = 180
  depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
  num_heads: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
  window_size: int = 8
  mlp_ratio: float = 2.0
  gelu_tanh: bool = False
  """Whether to use the tanh approximation of GELU, for weights trained with it; the authors' use
  erf."""
  img_range: float = 1.0
  drop_path_rate: float = 0.1
  channels: int = 3
  remat: bool = False
  """Whether training recomputes the activations inside blocks instead of storing them."""
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # The receptive field grows by half a window with every block, to a radius of 151 pixels in the
    # default; exact tiles would be mostly overlap. The authors' tiles overlap by 32 pixels.
    blocks = sum(depth + depth % 2 for depth in self.depths)
    reach = (blocks + 1) * self.window_size // 2 + 3
    return Needs(self.window_size, 'approximate', halo=4 * self.window_size, reach=reach)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    def conv(features, name):
      return Conv(features, dtype=self.dtype, name=name)

    mean = jnp.asarray(_MEAN if self.channels == 3 else 0.0).reshape(1, 1, 1, -1)
    x = shallow = conv(self.embed_dim, 'conv_first')((blurred - mean) * self.img_range)
    x = LayerNorm(1e-5, name='patch_embed')(x)
    drops = iter(np.linspace(0, self.drop_path_rate, sum(self.depths)))
    block = nn.remat(SwinBlock, static_argnums=2) if self.remat else SwinBlock
    for i, (depth, heads) in enumerate(zip(self.depths, self.num_heads, strict=True)):
      out = x
      for j in range(depth):
        shift = self.window_size // 2 if j % 2 else 0
        out = block(
          heads,
          self.window_size,
          shift,
          self.mlp_ratio,
          self.gelu_tanh,
          float(next(drops)),
          self.dtype,
          name=f'layers_{i}_blocks_{j}',
        )(out, train)
      x = x + conv(self.embed_dim, f'layers_{i}_conv')(out)
    x = LayerNorm(1e-5, name='norm')(x)
    x = conv(self.embed_dim, 'conv_after_body')(x) + shallow
    residual = conv(self.channels, 'conv_last')(x)
    return {'restored': blurred + residual.astype(jnp.float32) / self.img_range}


def Model(variant: str = 'default', **overrides: Any) -> SwinIR:
  """The `SwinIR` of a variant in `VARIANTS`, with `overrides`."""
  return SwinIR(**{**VARIANTS[variant], **overrides})
