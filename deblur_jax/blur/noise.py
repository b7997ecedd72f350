"""Sensor noise."""

import jax


def gaussian(key: jax.Array, image: jax.Array, *, sigma: jax.Array | float) -> jax.Array:
  """`image` plus white Gaussian noise of standard deviation `sigma`, on the image's scale."""
  return image + sigma * jax.random.normal(key, image.shape, image.dtype)
