"""Adversarial losses: numbers for the critic and the generator to train on.

All take the critic's logits for real and for made images, `[b ...]` each, and return one value per
image `[b]`; the relativistic ones compare with the mean of the whole batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Critic = Callable[[jax.Array], jax.Array]


class GANLoss(NamedTuple):
  """A loss for each side, `f(real, made) -> [b]`."""

  critic: Callable[[jax.Array, jax.Array], jax.Array]
  generator: Callable[[jax.Array, jax.Array], jax.Array]


def _mean(values: jax.Array) -> jax.Array:
  return values.astype(jnp.float32).reshape(values.shape[0], -1).mean(axis=1)


def _relative(real: jax.Array, made: jax.Array) -> tuple[jax.Array, jax.Array]:
  """How much more real each side's logits are than the mean of the other side's."""
  return real - made.mean(), made - real.mean()


def _relativistic(loss: Callable[[jax.Array, float], jax.Array]) -> GANLoss:
  """The relativistic average of `loss(logits, target)`; target is 1 for real, -1 for made."""

  def critic(real, made):
    real, made = _relative(real, made)
    return (_mean(loss(real, 1.0)) + _mean(loss(made, -1.0))) / 2

  def generator(real, made):
    real, made = _relative(real, made)
    return (_mean(loss(real, -1.0)) + _mean(loss(made, 1.0))) / 2

  return GANLoss(critic, generator)


GAN_LOSSES = {
  # Arjovsky et al. 2017, arXiv:1701.07875; requires `gradient_penalty`
  'wasserstein': GANLoss(
    lambda real, made: _mean(made) - _mean(real), lambda real, made: -_mean(made)
  ),
  # Mao et al. 2017, arXiv:1611.04076, eq. 9
  'least_squares': GANLoss(
    lambda real, made: (_mean((real - 1) ** 2) + _mean(made**2)) / 2,
    lambda real, made: _mean((made - 1) ** 2) / 2,
  ),
  # Lim and Ye 2017, arXiv:1705.02894
  'hinge': GANLoss(
    lambda real, made: _mean(jax.nn.relu(1 - real)) + _mean(jax.nn.relu(1 + made)),
    lambda real, made: -_mean(made),
  ),
  # Jolicoeur-Martineau 2018, arXiv:1807.00734: RaSGAN, as in ESRGAN, and RaLSGAN
  'relativistic': _relativistic(lambda logits, target: jax.nn.softplus(-target * logits)),
  'relativistic_least_squares': _relativistic(lambda logits, target: (logits - target) ** 2),
}


def gradient_penalty(
  key: jax.Array, critic: Critic, real: jax.Array, made: jax.Array, *, per_pixel: bool = False
) -> tuple[jax.Array, jax.Array]:
  """(penalty, norm) `[b]` of the critic's gradient between real and made images `[b h w c]`.

  The penalty is `(norm - 1)^2` at a random point between the two (Gulrajani et al. 2017,
  arXiv:1704.00028, eq. 3). `per_pixel` is the variant of DeblurGAN's authors: one point for the
  whole batch, and the mean of the norms over each pixel's channels.
  """
  shape = (1, 1, 1, 1) if per_pixel else (real.shape[0], 1, 1, 1)
  share = jax.random.uniform(key, shape)
  between = share * real + (1 - share) * made
  gradient = jax.grad(lambda images: critic(images).sum())(between)
  axes = (-1,) if per_pixel else (1, 2, 3)
  # The derivative of the root at 0 would be NaN.
  norm = jnp.sqrt(jnp.square(gradient).sum(axes) + 1e-12)
  return _mean((norm - 1) ** 2), _mean(norm)
