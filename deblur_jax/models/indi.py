"""InDI and flow matching: the sharp picture in a few steps, each a little sharper than the last.

M. Delbracio, P. Milanfar, "Inversion by Direct Iteration", TMLR 2023, arXiv:2303.11435; X. Liu,
C. Gong, Q. Liu, "Flow Straight and Fast", ICLR 2023, arXiv:2209.03003.

Time runs from the sharp picture x at t = 0 to a source at t = 1, z_t = (1 - t) x + t source, where
the source is the blurred picture, plus noise if `noise` is above 0. A NAFNet F that also sees t
estimates x. From z_1 = source, steps of length d = 1 / steps lead back:

  z_{t-d} = (d / t) F(z_t, t) + (1 - d / t) z_t

One step is F(source, 1), plain regression: the mean of all sharp pictures that fit, so the highest
PSNR. More steps give sharper pictures, which are less like that mean.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.models import nafnet
from deblur_jax.nn import bridge
from deblur_jax.nn.conv import Conv
from deblur_jax.types import Needs

VARIANTS = {
  # 1,866,739 parameters: those of NAFNet's `mobile`, and 239,232 that see the time
  'default': nafnet.VARIANTS['mobile'],
  # 782,323: trains in minutes on a laptop
  'tiny': nafnet.VARIANTS['tiny'],
  # for tests
  'smoke': nafnet.VARIANTS['smoke'],
}

TIME_FEATURES = 32


class TimeNAFNet(nafnet.NAFNet):
  """A NAFNet whose blocks are scaled and shifted by the time, channel by channel."""

  @nn.compact
  def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
    """The residual `[b h w channels]` of `x` `[b h w c]` at the times `t` `[b]`, from 0 to 1."""
    cycles = 2.0 ** (jnp.arange(TIME_FEATURES // 2) / 2 - 2)  # from 1/4 to 45
    angles = 2 * jnp.pi * t[:, None] * cycles[None]
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[:, None, None]
    time = nn.silu(Conv(2 * TIME_FEATURES, 1, name='time')(waves))

    def modulate(features, name):
      # Zero at first: the network begins as a NAFNet that does not see the time.
      both = Conv(
        2 * features.shape[-1], 1, kernel_init=nn.initializers.zeros, name=f'{name}_time'
      )(time)
      scale, shift = jnp.split(both, 2, axis=-1)
      return features * (1 + scale).astype(features.dtype) + shift.astype(features.dtype)

    return self.residual(x, modulate)


class InDI(nn.Module):
  """Restores in `steps` steps, from the blurred picture plus `noise`."""

  width: int = 16
  enc_blk_nums: tuple[int, ...] = (1, 1, 2)
  middle_blk_num: int = 12
  dec_blk_nums: tuple[int, ...] = (1, 1, 1)
  steps: int = 1
  """Of the sampler; training does not depend on it."""
  noise: float = 0.0
  """Standard deviation of the noise in the source; above 0, each noise gives another picture."""
  velocity: bool = False
  """Whether the network estimates source - x (flow matching) instead of x."""
  dtype: Any = jnp.float32

  @property
  def samples(self) -> bool:
    """Whether the result depends on the rng 'noise'."""
    return self.noise > 0

  @property
  def needs(self) -> Needs:
    return Needs(multiple=2 ** len(self.enc_blk_nums), tiling='approximate', halo=64)

  def setup(self):
    self.net = TimeNAFNet(
      self.width, self.enc_blk_nums, self.middle_blk_num, self.dec_blk_nums, dtype=self.dtype
    )

  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    """Noise is drawn from the rng 'noise', or is the same at every call if there is none."""
    source = blurred + self.noise * bridge.noise(self, blurred) if self.noise else blurred
    return {'restored': bridge.walk(self, source, None, self.steps)}

  def estimate(self, z: jax.Array, t: jax.Array, condition: None = None) -> jax.Array:
    """The sharp picture, from `z` `[b h w 3]` at the times `t` `[b]`."""
    residual = self.net(z, t)
    return z - bridge.spread(t) * residual if self.velocity else z + residual

  def exercise(
    self, blurred: jax.Array, sharp: jax.Array, t: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(the estimate of `sharp` at `t`, what the network should find, what it finds)."""
    source = blurred + self.noise * bridge.noise(self, blurred) if self.noise else blurred
    z = bridge.between(sharp, source, t)
    restored = self.estimate(z, t)
    if self.velocity:
      return restored, source - sharp, (z - restored) / bridge.spread(t)
    return restored, sharp, restored


def Model(variant: str = 'default', **overrides: Any) -> InDI:
  """The `InDI` of a variant in `VARIANTS`, with `overrides`."""
  return InDI(**{**VARIANTS[variant], **overrides})
