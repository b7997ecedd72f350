"""SRCNN: three convolutions, the first network to restore images end to end.

C. Dong, C. C. Loy, K. He, X. Tang, "Image Super-Resolution Using Deep Convolutional Networks",
TPAMI 2016, arXiv:1501.00092. A network for super-resolution, here trained to deblur: the baseline
that costs next to nothing.

Differs from the paper in padding with zeros, so that the size stays, and in torch's default
initialization instead of N(0, 0.001). The paper's basic setting is 9-1-5. Its networks for
luminance take color images too: they restore Y of YCbCr and keep the chroma.
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

# Luma of R, G and B in [0, 1], within [16, 234] of 255, as the PyTorch code has BT.601's.
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
      # Back in RGB, a change of Y alone is the same change of all three, at full range.
      return {'restored': blurred + (self.restore(luma) - luma) / _LUMA_RANGE}
    return {'restored': self.restore(blurred)}

  def restore(self, x):
    for i, features in enumerate((*self.features, self.channels), start=1):
      x = Conv(features, self.kernel_sizes[i - 1], dtype=self.dtype, name=f'conv{i}')(x)
      x = nn.relu(x) if i < 3 else x
    return x.astype(jnp.float32)


def Model(variant: str = 'default', **overrides: Any) -> SRCNN:
  """An `SRCNN` as `VARIANTS` has it, with `overrides`."""
  return SRCNN(**{**VARIANTS[variant], **overrides})
