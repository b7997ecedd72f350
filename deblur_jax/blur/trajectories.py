"""Camera shake: random trajectories of the hand and the kernels that they draw on the sensor.

After Boracchi and Foi, "Modeling the performance of image restoration from motion blur", IEEE TIP
21(8), 2012, section III, with the constants that Kupyn et al. (DeblurGAN, CVPR 2018) train with. A
particle of constant speed has inertia; its direction is bent by Gaussian tremor, pulled back
towards where it began, and now and then nearly reversed, as by a finger on the shutter.
"""

import jax
import jax.numpy as jnp

# The constants below are per step of a path of this many steps and this many pixels. Paths of other
# numbers of steps rescale them, so that `steps` is a resolution and not a kind of shake.
_STEPS = 2000
_LENGTH = 60.0
# Largest standard deviation of the Gaussian bend, largest pull towards the start per pixel, largest
# probability of a jolt: drawn for each path, and all three times its anxiety.
_TREMOR, _PULL, _JOLT = 10.0, 0.7, 0.2


def trajectory(
  key: jax.Array,
  *,
  anxiety: jax.Array | float = 0.005,
  exposure: jax.Array | float = 1.0,
  steps: int = 500,
) -> jax.Array:
  """A random path of length `exposure` `[steps 2]`, from the origin, in steps of equal length.

  `anxiety` scales tremor, pull and jolts: 0 is a straight line, 0.1 an erratic tangle. A short
  `exposure` sees only the beginning of a path, which is simpler than the whole.
  """
  path, bend, jolt = jax.random.split(key, 3)
  tremor, pull, rate, angle = jax.random.uniform(path, (4,))
  fine = exposure * _STEPS / steps
  bends = anxiety * tremor * _TREMOR * fine**0.5 * jax.random.normal(bend, (steps - 1, 2))
  pull = anxiety * pull * _PULL * _LENGTH * fine
  chance, turn = jax.random.uniform(jolt, (2, steps - 1))
  # A jolt adds twice the heading, turned by half a revolution and up to half a radian either way.
  jolts = jnp.where(chance < anxiety * rate * _JOLT * fine, 2.0, 0.0)
  turns = jolts[:, None] * _unit(jnp.pi + turn - 0.5)  # [steps-1 2]

  def step(carry, drawn):
    place, heading = carry
    bend, turn = drawn
    turned = jnp.stack(
      [heading[0] * turn[0] - heading[1] * turn[1], heading[0] * turn[1] + heading[1] * turn[0]]
    )
    heading = heading + bend - pull * place + turned
    heading = heading / jnp.maximum(jnp.linalg.norm(heading), 1e-6)
    place = place + heading * exposure / (steps - 1)
    return (place, heading), place

  start = jnp.zeros(2), _unit(2 * jnp.pi * angle)
  _, path = jax.lax.scan(step, start, (bends, turns))
  return jnp.concatenate([jnp.zeros((1, 2)), path])


def fit(path: jax.Array, extent: jax.Array | float, size: int) -> jax.Array:
  """`path` in pixels from the middle of a kernel of `size`, `[steps 2]`.

  The longer side of its bounding box measures `extent` pixels, and its mean lies in the middle,
  lest the blur shift the picture. A path that would leave the canvas is scaled down until it fits;
  with `size > 2 * extent` that cannot happen.
  """
  box = jnp.max(path.max(axis=0) - path.min(axis=0))
  path = (path - path.mean(axis=0, keepdims=True)) * (extent / box)
  return path * jnp.minimum(1.0, (size // 2) / jnp.maximum(jnp.abs(path).max(), 1e-6))


def render(path: jax.Array, size: int) -> jax.Array:
  """Kernel `[size size]` of a path `[steps 2]`, (x, y) in pixels from its middle; bilinear."""
  pixels = jnp.arange(size, dtype=jnp.float32) - size // 2
  # A matrix product of [steps size] tents: scatter would be slow on every accelerator.
  tents = jnp.maximum(1 - jnp.abs(path[:, :, None] - pixels[None, None, :]), 0)
  return jnp.einsum('ti,tj->ij', tents[:, 1], tents[:, 0], precision='highest') / path.shape[0]


def shake(
  key: jax.Array,
  extent: jax.Array | float,
  size: int,
  *,
  anxiety: jax.Array | float = 0.005,
  exposure: jax.Array | float = 1.0,
  steps: int = 500,
) -> jax.Array:
  """Random camera-shake kernel `[size size]`, `extent` pixels across whatever the exposure."""
  path = trajectory(key, anxiety=anxiety, exposure=exposure, steps=steps)
  return render(fit(path, extent, size), size)


def _unit(angle: jax.Array) -> jax.Array:
  return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
