"""DeepDeblur: one residual network for each of three scales, coarse to fine.

S. Nah, T. H. Kim, K. M. Lee, "Deep Multi-scale Convolutional Neural Network for Dynamic Scene
Deblurring", CVPR 2017, arXiv:1612.02177. GoPro (blur_gamma) 30.40 dB / 0.902 in the authors'
PyTorch code, whose SSIM is scikit-image's.

Computes the same as that code. Works in [-127.5, 127.5] internally, without a global shortcut.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.nn.conv import Conv
from deblur_jax.nn.resample import downsample2_bilinear, pixel_shuffle
from deblur_jax.types import Needs

VARIANTS = {
  'default': {'n_feats': 64, 'n_resblocks': 19},  # 11,721,321 parameters, the paper's
  'tiny': {'n_feats': 16, 'n_resblocks': 4},  # 165,465, for laptops
  'smoke': {'n_feats': 4, 'n_resblocks': 1},  # 6,669, for tests
}


class ResBlock(nn.Module):
  """Two convolutions with a shortcut; no normalization, no activation after the sum."""

  conv: Callable

  @nn.compact
  def __call__(self, x):
    out = nn.relu(self.conv(x.shape[-1], name='body_0')(x))
    return x + self.conv(x.shape[-1], name='body_2')(out)


class ResNet(nn.Module):
  """The network of one scale."""

  conv: Callable
  n_feats: int
  n_resblocks: int
  channels: int

  @nn.compact
  def __call__(self, x):
    x = self.conv(self.n_feats, name='body_0')(x)
    for i in range(1, self.n_resblocks + 1):
      x = ResBlock(self.conv, name=f'body_{i}')(x)
    return self.conv(self.channels, name=f'body_{self.n_resblocks + 1}')(x)


class UpConv(nn.Module):
  """An image at twice the size."""

  conv: Callable

  @nn.compact
  def __call__(self, x):
    return pixel_shuffle(self.conv(4 * x.shape[-1], name='uppath_0')(x), 2)


class DeepDeblur(nn.Module):
  """`n_scales` networks; each takes its level of the pyramid and the coarser level's result.

  `downscale` selects the pyramid: 'gaussian', as the authors train and test, or 'mean' of 2x2.
  """

  n_feats: int = 64
  n_resblocks: int = 19
  kernel_size: int = 5
  n_scales: int = 3
  downscale: str = 'gaussian'
  channels: int = 3
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # Through the coarse scales a pixel depends on 584 pixels on every side, too many for a tile.
    # Those beyond 128 have less than a millionth of its gradient at the start of training.
    coarsest, conv = 2 ** (self.n_scales - 1), self.kernel_size // 2
    net = conv * (2 * self.n_resblocks + 2)
    reach = (2 * coarsest - 1) * net + (2 * coarsest - 2) * conv + 4 * (coarsest - 1)
    return Needs(coarsest, tiling='approximate', halo=128, reach=reach)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    conv = functools.partial(Conv, kernel_size=self.kernel_size, dtype=self.dtype)
    images = self.pyramid(255 * blurred - 127.5)
    scales, coarser = [], ()
    for i in reversed(range(self.n_scales)):
      net = ResNet(conv, self.n_feats, self.n_resblocks, self.channels, name=f'body_models_{i}')
      restored = net(jnp.concatenate([images[i].astype(self.dtype), *coarser], axis=-1))
      scales.insert(0, (restored.astype(jnp.float32) + 127.5) / 255)
      coarser = (UpConv(conv, name=f'conv_end_models_{i}')(restored),) if i else ()
    return {'restored': scales[0], 'scales': tuple(scales)}

  def pyramid(self, image: jax.Array) -> tuple[jax.Array, ...]:
    """`[b h w c]` at all scales, finest first: the networks' inputs and training targets."""
    halves = {'gaussian': halved, 'mean': downsample2_bilinear}
    images = [image]
    for _ in range(1, self.n_scales):
      images.append(halves[self.downscale](images[-1]))
    return tuple(images)


def halved(image: jax.Array) -> jax.Array:
  """`[... 2h 2w c]` as `[... h w c]`: a Gaussian of standard deviation 2/3, then means of 2x2.

  Equals scikit-image's `pyramid_reduce` for even sides.
  """
  rows, columns = (_halving(image.shape[axis]) for axis in (-3, -2))
  image = jnp.einsum('Hh,...hwc->...Hwc', rows, image, precision='highest')
  return jnp.einsum('Ww,...hwc->...hWc', columns, image, precision='highest')


def _halving(length: int) -> np.ndarray:
  """`halved` along one axis, as a matrix `[n/2 n]`."""
  taps = np.exp(-0.5 * (np.arange(-3, 4) / (2 / 3)) ** 2)
  continued = np.pad(np.eye(length), ((3, 3), (0, 0)), 'symmetric')
  blurred = sum(tap * continued[i : i + length] for i, tap in enumerate(taps / taps.sum()))
  return ((blurred[::2] + blurred[1::2]) / 2).astype(np.float32)


def Model(variant: str = 'default', **overrides: Any) -> DeepDeblur:
  """The `DeepDeblur` of a variant in `VARIANTS`, with `overrides`."""
  return DeepDeblur(**{**VARIANTS[variant], **overrides})
