"""Sensor noise, added on the image's own scale and not clipped."""

import jax
import jax.numpy as jnp

_FEW = 8.0  # photons, up to which counts are drawn exactly
_MOST = 28  # exact counts stay below this; larger ones occur once in a hundred million


def gaussian(key: jax.Array, image: jax.Array, *, sigma: jax.Array | float) -> jax.Array:
  """`image` plus white Gaussian noise of standard deviation `sigma`, on the image's scale."""
  return image + sigma * jax.random.normal(key, image.shape, image.dtype)


def poisson_gaussian(
  key: jax.Array, light: jax.Array, *, shot: jax.Array | float, read: jax.Array | float
) -> jax.Array:
  """Linear `light` as measured by a sensor, with noise of variance `shot**2 * light + read**2`.

  `shot` is the standard deviation of photon noise at white, so that white is `1 / shot**2` photons;
  `read` is that of the electronics. y = Poisson(x / b) b + N(0, read^2) with b = shot^2 (Foi et
  al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE
  TIP 17(10), 2008).
  """
  photons, electronics = jax.random.split(key)
  photon = jnp.maximum(jnp.square(shot), 1e-12)  # far below float32 resolution at white
  measured = photon * poisson(photons, jnp.maximum(light, 0) / photon)
  return gaussian(electronics, measured, sigma=read)


def poisson(key: jax.Array, rate: jax.Array) -> jax.Array:
  """Poisson counts of mean `rate`, at least 0, in an array of the same shape.

  Rates below 8 are drawn exactly, larger ones by the Cornish-Fisher expansion of the normal
  distribution, within 0.004 of the exact distribution in total variation. Unlike in
  `jax.random.poisson`, no loop waits for the slowest pixel.
  """
  normal = jax.random.normal(key, rate.shape)
  share = jax.scipy.special.ndtr(normal)
  few = jnp.minimum(rate, _FEW)
  probability = below = jnp.exp(-few)
  count = jnp.zeros_like(rate)
  for number in range(1, _MOST):
    count += share > below
    probability *= few / number
    below += probability
  root = jnp.sqrt(jnp.maximum(rate, _FEW) - 1 / 12)  # rounding adds a variance of a twelfth
  skew = (normal**2 - 1) / 6 + (normal - normal**3) / (72 * root)
  many = jnp.maximum(jnp.round(rate + root * normal + skew), 0)
  return jnp.where(rate < _FEW, count, many)
