"""From a source to a picture in a few steps: what InDI, flow matching and refinement share.

On the way, z_t = (1 - t) x + t source, from the picture x at t = 0 to the source at t = 1.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


def spread(t: jax.Array) -> jax.Array:
  """Times `[b]` as `[b 1 1 1]`."""
  return t[:, None, None, None]


def between(picture: jax.Array, source: jax.Array, t: jax.Array) -> jax.Array:
  """z_t `[b h w c]` at the times `t` `[b]`."""
  return (1 - spread(t)) * picture + spread(t) * source


def walk(module: nn.Module, source: jax.Array, condition: jax.Array | None, steps: int):
  """The picture `[b h w c]` at t = 0, in equal steps from `source` at t = 1.

  `module.estimate(z, t, condition)` is what the picture looks like from z_t. Each step of length d
  goes to the line between the two: z_{t-d} = (d / t) estimate + (1 - d / t) z_t. A single step is
  the estimate at t = 1.
  """

  def step(module, z, condition, t):
    found = module.estimate(z, jnp.full(z.shape[:1], t), condition)
    share = 1 / (steps * t)
    return share * found + (1 - share) * z, None

  if steps == 1:
    return step(module, source, condition, 1.0)[0]
  scanned = nn.scan(
    step,
    variable_broadcast='params',
    split_rngs={'params': False},
    in_axes=(nn.broadcast, 0),  # pyright: ignore[reportArgumentType]  # its type is too narrow
  )
  times = 1 - jnp.arange(steps, dtype=jnp.float32) / steps
  return scanned(module, source, condition, times)[0]


def noise(module: nn.Module, image: jax.Array) -> jax.Array:
  """Standard normal noise like `image`, from the rng 'noise'; without one, always the same."""
  key = module.make_rng('noise') if module.has_rng('noise') else jax.random.key(0)
  return jax.random.normal(key, image.shape)
