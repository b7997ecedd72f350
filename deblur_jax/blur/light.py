"""sRGB code values to linear light and back (IEC 61966-2-1), for any shape.

Blur adds up photons, so it belongs in linear light; pictures come encoded. Both functions are
monotonic and continue beyond [0, 1], below 0 as a straight line.
"""

import jax
import jax.numpy as jnp


def to_linear(image: jax.Array) -> jax.Array:
  """Linear light of sRGB-encoded `image`; 0 and 1 stay."""
  curved = jnp.maximum(image, 0.04045)  # keeps the unused branch, and its gradient, finite
  return jnp.where(image <= 0.04045, image / 12.92, ((curved + 0.055) / 1.055) ** 2.4)


def to_srgb(light: jax.Array) -> jax.Array:
  """sRGB encoding of linear `light`; 0 and 1 stay."""
  curved = jnp.maximum(light, 0.0031308)
  return jnp.where(light <= 0.0031308, light * 12.92, 1.055 * curved ** (1 / 2.4) - 0.055)
