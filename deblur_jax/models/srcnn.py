"""SRCNN: three convolutions, the first network to restore images end to end.

C. Dong, C. C. Loy, K. He, X. Tang, "Image Super-Resolution Using Deep Convolutional Networks",
TPAMI 2016, arXiv:1501.00092. A network for super-resolution, here trained to deblur: a very cheap
baseline.

Differs from the paper in zero padding, which keeps the size, and in torch's default initialization
instead of N(0, 0.001). The paper's basic setting is 9-1-5. The luminance networks also take color
images: they restore Y of YCbCr and keep the chroma.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv
from deblur_jax.types import Needs

VARIANTS = {
  'default': {'kernel_sizes': (9, 1, 5), 'channels': 3},  # 20,099 parameters
  '9-5-5': {'kernel_sizes': (9, 5, 5), 'channels': 3},  # 69,251
  '9-5-5-y': {'kernel_sizes': (9, 5, 5), 'channels': 1},  # 57,281
}

# BT.601 luma weights of R, G and B in [0, 1], with the PyTorch code's range, 16 to 234 of 255.
_LUMA = (64.738 / 256, 129.057 / 256, 25.064 / 256)
_LUMA_RANGE = 219 / 255


class SRCNN(nn.Module):
  """Patch extraction, non-linear mapping, reconstruction."""

  kernel_sizes: tuple[int, int, int] = (9, 1, 5)
  features: tuple[int, int] = (64, 32)
  channels: int = 3
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    return Needs(multiple=1, tiling='exact', halo=sum(size // 2 for size in self.kernel_sizes))

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    if self.channels == 1 and blurred.shape[-1] == 3:
      luma = 16 / 255 + jnp.einsum('bhwc,c->bhw', blurred, jnp.asarray(_LUMA))[..., None]
      # In RGB, a change of Y alone is the same change in all three channels, at full range.
      return {'restored': blurred + (self.restore(luma) - luma) / _LUMA_RANGE}
    return {'restored': self.restore(blurred)}

  def restore(self, x):
    for i, features in enumerate((*self.features, self.channels), start=1):
      x = Conv(features, self.kernel_sizes[i - 1], dtype=self.dtype, name=f'conv{i}')(x)
      x = nn.relu(x) if i < 3 else x
    return x.astype(jnp.float32)


def Model(variant: str = 'default', **overrides: Any) -> SRCNN:
  """The `SRCNN` of a variant in `VARIANTS`, with `overrides`."""
  return SRCNN(**{**VARIANTS[variant], **overrides})
