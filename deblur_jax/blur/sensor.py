"""What a sensor does to light besides adding noise: saturation and quantization."""

import jax
import jax.numpy as jnp

_WHITE = 0.99
"""Linear light of code value 254 of 255; from here up in every channel, a pixel may be clipped."""


def brighten(light: jax.Array, *, gain: jax.Array | float) -> jax.Array:
  """Linear `light` `[... h w c]` with its white pixels `gain` times as bright.

  How bright they were is lost, so `gain` is a guess; but when blurred, such a highlight leaves a
  streak that is still white, as lamps and the sun do. Pixels with an unclipped channel keep their
  color. After Rim et al., "Realistic blur synthesis for learning image deblurring", ECCV 2022,
  section 4.1, who add 0.25 to 1.75.
  """
  white = light.min(axis=-1, keepdims=True) >= _WHITE
  return jnp.where(white, light * gain, light)


def saturate(light: jax.Array) -> jax.Array:
  """`light` clipped at 1, where a pixel is full."""
  return jnp.minimum(light, 1.0)


def quantize(image: jax.Array, *, bits: jax.Array | float) -> jax.Array:
  """`image` rounded to the nearest of `2**bits` levels from 0 to 1; its gradient is zero."""
  most = 2.0**bits - 1
  return jnp.round(image * most) / most
