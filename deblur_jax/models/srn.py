"""SRN: one encoder-decoder applied at three scales, from coarse to fine.

X. Tao, H. Gao, X. Shen, J. Wang, J. Jia, "Scale-recurrent Network for Deep Image Deblurring",
CVPR 2018, arXiv:1802.01770. GoPro 30.26 dB / 0.934 for the network with a hidden state, `lstm`.

Computes the same as the authors' TensorFlow 1 code: strided convolutions pad more at the bottom and
right, and resizing aligns pixel corners. As in their code, the default is the color network without
a hidden state. The one-channel networks take color images too and restore each channel as an image
of its own.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv, ConvTranspose
from deblur_jax.types import Needs

VARIANTS = {
  'default': {'channels': 3, 'lstm': False},  # 6,881,251 parameters, the authors' `color`
  'gray': {'channels': 1, 'lstm': False},  # 6,876,449
  'lstm': {'channels': 1, 'lstm': True},  # 8,056,609, the paper's
  # 236,603, for laptops
  'tiny': {'channels': 3, 'lstm': True, 'width': 8, 'blocks': 1},
  # 15,209, for tests
  'smoke': {'channels': 3, 'lstm': True, 'width': 2, 'blocks': 1},
}


class ResnetBlock(nn.Module):
  """Two convolutions with a shortcut around them."""

  conv: Callable

  @nn.compact
  def __call__(self, x):
    out = nn.relu(self.conv(x.shape[-1], name='conv1')(x))
    return self.conv(x.shape[-1], name='conv2')(out) + x


class ConvLSTM(nn.Module):
  """The decoder's input, and the state (cell, hidden) for the next scale."""

  dtype: Any

  @nn.compact
  def __call__(self, x, state):
    cell, hidden = state or (jnp.zeros_like(x), jnp.zeros_like(x))
    init = nn.initializers.truncated_normal(1e-3)
    gates = Conv(4 * x.shape[-1], kernel_init=init, dtype=self.dtype, name='LSTM_conv')
    i, j, f, o = jnp.split(gates(jnp.concatenate([x, hidden], axis=-1)), 4, axis=-1)
    cell = cell * nn.sigmoid(f + 1) + nn.sigmoid(i) * jnp.tanh(j)
    hidden = jnp.tanh(cell) * nn.sigmoid(o)
    return hidden, (cell, hidden)


class GNet(nn.Module):
  """The encoder-decoder of one scale: the restored image, and the state for the next scale."""

  channels: int
  lstm: bool
  width: int
  blocks: int
  dtype: Any

  @nn.compact
  def __call__(self, x, state=None):
    options = {'kernel_init': nn.initializers.xavier_uniform(), 'dtype': self.dtype}
    conv = functools.partial(Conv, kernel_size=5, **options)
    encoded = []
    for level in (1, 2, 3):
      if level == 1:
        enter = conv(self.width, name='enc1_1')
      else:  # TensorFlow's 'SAME' for an even size
        x = jnp.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
        enter = conv(2 * x.shape[-1], stride=2, padding=0, name=f'enc{level}_1')
      x = nn.relu(enter(x))
      for i in range(self.blocks):
        x = ResnetBlock(conv, name=f'enc{level}_{i + 2}')(x)
      encoded.append(x)

    if self.lstm:
      x, state = ConvLSTM(self.dtype, name='convLSTM')(x, state)

    for level in (3, 2, 1):
      if level < 3:
        skip, name = encoded[level - 1], f'dec{level}_{self.blocks + 1}'
        double = ConvTranspose(skip.shape[-1], 4, 2, padding=1, name=name, **options)
        x = nn.relu(double(x)) + skip
      for i in reversed(range(self.blocks)):
        x = ResnetBlock(conv, name=f'dec{level}_{i + 1}')(x)
    return conv(self.channels, name='dec1_0')(x).astype(jnp.float32), state


def upsample2(x: jax.Array) -> jax.Array:
  """`[b h w c]` as `[b 2h 2w c]`: keeps the pixels and inserts the mean of each two neighbors.

  This is TensorFlow 1's bilinear resizing; the last row and column are repeated.
  """
  for axis in (1, 2):
    last = jax.lax.slice_in_dim(x, -1, None, axis=axis)
    following = jnp.concatenate([jax.lax.slice_in_dim(x, 1, None, axis=axis), last], axis)
    shape = [size * (1 + (i == axis)) for i, size in enumerate(x.shape)]
    x = jnp.stack([x, (x + following) / 2], axis=axis + 1).reshape(shape)
  return x


class SRN(nn.Module):
  """`g_net` at a quarter, half and full size; each scale takes the result of the coarser one."""

  channels: int = 3
  lstm: bool = False
  width: int = 32
  blocks: int = 3
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # Through the coarse scales a pixel depends on more than a thousand pixels on every side, too
    # many for a tile; those beyond 128 have little weight.
    g_net = 56 * self.blocks + 16 + (8 if self.lstm else 0)
    return Needs(multiple=16, tiling='approximate', halo=128, reach=7 * g_net + 6)

  def pyramid(self, image: jax.Array) -> tuple[jax.Array, ...]:
    """The image, every second pixel and every fourth pixel of it, `[... h w c]`, finest first."""
    return tuple(image[..., ::step, ::step, :] for step in (1, 2, 4))

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, Any]:
    b, h, w, c = blurred.shape
    one_by_one = self.channels == 1 < c
    if one_by_one:
      blurred = jnp.moveaxis(blurred, -1, 1).reshape(b * c, h, w, 1)
    scales = self.restore(blurred)
    if one_by_one:
      scales = [jnp.moveaxis(x.reshape(b, c, *x.shape[1:3]), 1, -1) for x in scales]
    return {'restored': scales[0], 'scales': tuple(scales)}

  def restore(self, blurred):
    """The restored images of all scales, finest first."""
    g_net = GNet(self.channels, self.lstm, self.width, self.blocks, self.dtype, name='g_net')
    images, scales, state = self.pyramid(blurred), [], None
    before = images[-1]
    for image in reversed(images):
      restored, state = g_net(jnp.concatenate([image, before], axis=-1), state)
      scales.insert(0, restored)
      if len(scales) < len(images):
        before = upsample2(jax.lax.stop_gradient(restored))
        state = jax.tree.map(upsample2, state)
    return scales


def Model(variant: str = 'default', **overrides: Any) -> SRN:
  """The `SRN` of a variant in `VARIANTS`, with `overrides`."""
  return SRN(**{**VARIANTS[variant], **overrides})
