"""DBCNN: an SRCNN whose estimate is reblurred and corrected by the difference from the input.

After M. Haris, G. Shakhnarovich, N. Ukita, "Deep Back-Projection Networks for Super-Resolution",
CVPR 2018, arXiv:1803.02735: a down-projection predicts from the estimate what the camera would have
recorded, and the up-projection of the input's difference from that is added to the estimate.

Differs from theirs in that estimates are images, not features, and that no projection changes the
size. The last layer predicts the residual from the input and the estimate. There are no published
weights or scores.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.models.srcnn import SRCNN
from deblur_jax.nn.conv import Conv
from deblur_jax.types import Needs

VARIANTS = {
  'default': {'units': 3, 'shared': False},  # 49,562 parameters
  'shared': {'units': 3, 'shared': True},  # 30,222, all units share their weights
  'smoke': {'units': 2, 'features': (8, 4), 'width': 4},  # 5,172, for tests
}


class Projection(nn.Module):
  """Maps an image to an image through `width` channels."""

  width: int
  dtype: Any

  @nn.compact
  def __call__(self, image):
    x = nn.leaky_relu(Conv(self.width, 5, dtype=self.dtype, name='conv1')(image), 0.2)
    return Conv(image.shape[-1], 5, dtype=self.dtype, name='conv2')(x)


class BackProjection(nn.Module):
  """Corrects the estimate by the difference between the input and the reblurred estimate."""

  width: int
  dtype: Any

  @nn.compact
  def __call__(self, estimate, blurred):
    reblurred = Projection(self.width, self.dtype, name='down')(estimate)
    return estimate + Projection(self.width, self.dtype, name='up')(blurred - reblurred)


class DBCNN(nn.Module):
  """An SRCNN, back-projection units, and a layer that combines their estimate with the input."""

  units: int = 3
  shared: bool = False
  width: int = 32
  kernel_sizes: tuple[int, int, int] = (9, 1, 5)
  features: tuple[int, int] = (64, 32)
  channels: int = 3
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    front = sum(size // 2 for size in self.kernel_sizes)
    return Needs(multiple=1, tiling='exact', halo=front + 8 * self.units + 2)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    front = SRCNN(self.kernel_sizes, self.features, self.channels, self.dtype, name='front')
    estimate = front(blurred)['restored']
    different = 1 if self.shared else self.units
    units = [BackProjection(self.width, self.dtype, name=f'unit_{i}') for i in range(different)]
    for i in range(self.units):
      estimate = units[i % different](estimate, blurred)
    both = jnp.concatenate([blurred, estimate], axis=-1)
    residual = Conv(self.channels, 5, dtype=self.dtype, name='join')(both)
    return {'restored': blurred + residual.astype(jnp.float32)}


def Model(variant: str = 'default', **overrides: Any) -> DBCNN:
  """The `DBCNN` of a variant in `VARIANTS`, with `overrides`."""
  return DBCNN(**{**VARIANTS[variant], **overrides})
