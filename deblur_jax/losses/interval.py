"""Losses of predictions that say how far they may be off; like `losses.pixel`, one value per image.

Images and predictions are `[... h w c]` of equal shape.
"""

import chex
import jax
import jax.numpy as jnp

LEAST, MOST = -10.0, 4.0
"""Limits of a log variance."""


def pinball(predicted: jax.Array, sharp: jax.Array, *, quantile: float) -> jax.Array:
  """Mean pinball loss, least if a share `quantile` of the sharp values is below the predicted."""
  chex.assert_equal_shape([predicted, sharp])
  above = sharp.astype(jnp.float32) - predicted.astype(jnp.float32)
  return _mean(jnp.maximum(quantile * above, (quantile - 1) * above))


def beta_nll(
  log_variance: jax.Array, restored: jax.Array, sharp: jax.Array, *, beta: float = 0.5
) -> jax.Array:
  """Mean negative log likelihood of Gaussian errors, each weighted by its variance to `beta`.

  With 0 it is the plain one (without its constant), which neglects what is predicted badly
  (Seitzer et al., "On the Pitfalls of Heteroscedastic Uncertainty Estimation", ICLR 2022).
  """
  chex.assert_equal_shape([log_variance, restored, sharp])
  log_variance = jnp.clip(log_variance.astype(jnp.float32), LEAST, MOST)
  squared = jnp.square(sharp.astype(jnp.float32) - restored.astype(jnp.float32))
  likelihood = 0.5 * (log_variance + squared * jnp.exp(-log_variance))
  return _mean(jax.lax.stop_gradient(jnp.exp(beta * log_variance)) * likelihood)


def _mean(values: jax.Array) -> jax.Array:
  return values.mean(axis=(-3, -2, -1))
