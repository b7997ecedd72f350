"""Two networks, one for motion and one for everything else, blended by how much each has to say.

MAXIM's first stage, trained on GoPro, removes motion blur but hardly Gaussian blur, defocus or
noise; a small NAFNet trained on mixed blur does the opposite. Each changes little where it can do
little. So the picture that comes out is

  share * motion + (1 - share) * other,   share = M / (M + bias * O),

M and O the mean squared changes that the two make to the picture. One number a picture decides,
and no part of it is trained. It keeps about nine tenths of what the better network gains on
defocus, straight motion and real pairs, and six tenths on noise (docs/weights.md).
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax import models
from deblur_jax.types import Needs

VARIANTS = {
  # 7,767,068 parameters: MAXIM's first stage and a NAFNet of width 16
  'default': {
    'motion': {'variant': 's1'},
    'other': {'variant': 'mobile'},
  },
  # for tests
  'smoke': {
    'motion': {'variant': 'smoke', 'stages': 1, 'scales': 1},
    'other': {'variant': 'smoke'},
  },
}


class Blend(nn.Module):
  """A MAXIM and a NAFNet, blended by the changes that they make."""

  motion: tuple[tuple[str, Any], ...]
  """Arguments of the MAXIM, `variant` among them: (name, value)."""
  other: tuple[tuple[str, Any], ...]
  """Arguments of the NAFNet."""
  bias: float = 1.5
  """Above 1 the NAFNet counts for more, which keeps noise and sharp pictures from harm."""
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    parts = [
      models.make('maxim', **dict(self.motion)).needs,
      models.make('nafnet', **dict(self.other)).needs,
    ]
    return Needs(
      multiple=math.lcm(*(part.multiple for part in parts)),
      tiling='approximate',
      halo=max(part.halo for part in parts),
    )

  def setup(self):
    self.maxim = models.make('maxim', **dict(self.motion), dtype=self.dtype)
    self.nafnet = models.make('nafnet', **dict(self.other), dtype=self.dtype)

  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    motion, other = (
      network(blurred, train=train)['restored'] for network in (self.maxim, self.nafnet)
    )
    changes = [
      jnp.square(restored - blurred).mean((1, 2, 3), keepdims=True) + 1e-9
      for restored in (motion, other)
    ]
    share = changes[0] / (changes[0] + self.bias * changes[1])  # [b 1 1 1]
    return {'restored': share * motion + (1 - share) * other}


def Model(variant: str = 'default', **overrides: Any) -> Blend:
  """A `Blend` as `VARIANTS` has it, with `overrides`.

  `motion` and `other` are dicts of arguments, or pairs as a `Blend` keeps them, hashable.
  """
  arguments = {**VARIANTS[variant], **overrides}
  for part in ('motion', 'other'):
    arguments[part] = models.hashable(dict(arguments[part]))
  return Blend(**arguments)
