"""Predict and refine: a restorer's result, and a small network that samples what it leaves out.

J. Whang et al., "Deblurring via Stochastic Refinement", CVPR 2022, arXiv:2112.02475, with the
straight paths of flow matching in place of their diffusion (arXiv:2209.03003).

A restorer g, trained before and frozen, gives the mean of what fits the blurred picture y. The
residual r = (x - g(y)) / scale is sampled: from noise at t = 1 to r at t = 0 along
z_t = (1 - t) r + t noise, by a NAFNet that sees z_t, t, y and g(y). One sample has texture that g
smoothes; the mean of many is as close to the truth as g or closer, and their spread says where the
picture is uncertain.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax import models
from deblur_jax.models import nafnet
from deblur_jax.models.indi import TimeNAFNet
from deblur_jax.nn import bridge
from deblur_jax.types import Needs

VARIANTS = {
  # the restorer is `general`
  'default': {
    **nafnet.VARIANTS['tiny'],
    'restorer': {'name': 'maxim', 'variant': 's1', 'coarse_outputs': False},
  },
  # the restorer is `mobile`
  'tiny': {**nafnet.VARIANTS['tiny'], 'restorer': {'name': 'nafnet', 'variant': 'mobile'}},
  # for tests
  'smoke': {
    **nafnet.VARIANTS['smoke'],
    'restorer': {'name': 'nafnet', 'variant': 'smoke'},
  },
}


class Refine(nn.Module):
  """A frozen restorer, and a NAFNet that samples the residual in `steps` steps."""

  restorer: tuple[tuple[str, Any], ...]
  """(argument, value) of `models.make`, the name of the network among them."""
  width: int = 16
  enc_blk_nums: tuple[int, ...] = (1, 1, 2)
  middle_blk_num: int = 4
  dec_blk_nums: tuple[int, ...] = (1, 1, 1)
  steps: int = 4
  """Of the sampler; training does not depend on it."""
  scale: float = 0.05
  """Standard deviation of the residual, about."""
  dtype: Any = jnp.float32

  frozen = 'first'
  """The parameters that training leaves alone."""
  samples = True
  """The result depends on the rng 'noise'."""

  @property
  def needs(self) -> Needs:
    own, first = 2 ** len(self.enc_blk_nums), models.make(**dict(self.restorer)).needs
    return Needs(multiple=max(own, first.multiple), tiling='approximate', halo=max(64, first.halo))

  def setup(self):
    self.first = models.make(**dict(self.restorer), dtype=self.dtype)
    self.net = TimeNAFNet(
      self.width, self.enc_blk_nums, self.middle_blk_num, self.dec_blk_nums, dtype=self.dtype
    )

  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    """Noise is drawn from the rng 'noise', or is the same at every call if there is none."""
    first = self.first(blurred)['restored']
    seen = jnp.concatenate([blurred, first], axis=-1)
    residual = bridge.walk(self, bridge.noise(self, blurred), seen, self.steps)
    return {'restored': first + self.scale * residual}

  def estimate(self, z: jax.Array, t: jax.Array, condition: jax.Array) -> jax.Array:
    """The residual, from `z` `[b h w 3]` at the times `t` `[b]`; `condition` is y and g(y)."""
    found = self.net(jnp.concatenate([z, condition], axis=-1), t)
    return (1 - bridge.spread(t)) * z + found

  def exercise(
    self, blurred: jax.Array, sharp: jax.Array, t: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(the estimate of `sharp` at `t`, what the network should find, what it finds)."""
    first = self.first(blurred)['restored']
    residual = (sharp - first) / self.scale
    z = bridge.between(residual, bridge.noise(self, blurred), t)
    found = self.estimate(z, t, jnp.concatenate([blurred, first], axis=-1))
    return first + self.scale * found, residual, found


def Model(variant: str = 'default', **overrides: Any) -> Refine:
  """A `Refine` as `VARIANTS` has it, with `overrides`; `restorer` is a dict or pairs."""
  arguments = {**VARIANTS[variant], **overrides}
  arguments['restorer'] = models.hashable(dict(arguments['restorer']))
  return Refine(**arguments)
