"""Camera shake: random trajectories of the hand and the kernels that they trace on the sensor.

After Boracchi and Foi, "Modeling the performance of image restoration from motion blur", IEEE TIP
21(8), 2012, section III, with the constants of Kupyn et al. (DeblurGAN, CVPR 2018). A particle of
constant speed has inertia; its direction is bent by Gaussian tremor, pulled back towards the start,
and now and then nearly reversed, as when a finger presses the shutter.
"""

import jax
import jax.numpy as jnp

# The constants below are per step of a path with this many steps and this length in pixels. Paths
# with other numbers of steps rescale them, so that `steps` is a resolution and does not change the
# shake.
_STEPS = 2000
_LENGTH = 60.0
# Largest standard deviation of the Gaussian bend, largest pull towards the start per pixel, largest
# probability of a jolt; each path draws its own, and scales all three by its anxiety.
_TREMOR, _PULL, _JOLT = 10.0, 0.7, 0.2


def trajectory(
  key: jax.Array,
  *,
  anxiety: jax.Array | float = 0.005,
  exposure: jax.Array | float = 1.0,
  steps: int = 500,
) -> jax.Array:
  """A random path `[steps 2]` of length `exposure`, from the origin, in steps of equal length.

  `anxiety` scales tremor, pull and jolts: 0 is a straight line, 0.1 an erratic tangle. A short
  `exposure` records only the beginning of a path, which is simpler than the whole.
  """
  path, bend, jolt = jax.random.split(key, 3)
  tremor, pull, rate, angle = jax.random.uniform(path, (4,))
  fine = exposure * _STEPS / steps
  bends = anxiety * tremor * _TREMOR * fine**0.5 * jax.random.normal(bend, (steps - 1, 2))
  pull = anxiety * pull * _PULL * _LENGTH * fine
  chance, turn = jax.random.uniform(jolt, (2, steps - 1))
  # A jolt adds twice the heading, rotated by half a turn and up to half a radian either way.
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
  """`path` `[steps 2]` in pixels from the center of a kernel of `size`.

  The longer side of its bounding box measures `extent` pixels, and its mean is at the center, so
  that the blur does not shift the picture. A path that would leave the canvas is scaled down to
  fit, which cannot happen with `size > 2 * extent`.
  """
  box = jnp.max(path.max(axis=0) - path.min(axis=0))
  path = (path - path.mean(axis=0, keepdims=True)) * (extent / box)
  return path * jnp.minimum(1.0, (size // 2) / jnp.maximum(jnp.abs(path).max(), 1e-6))


def render(path: jax.Array, size: int) -> jax.Array:
  """Kernel `[size size]` of a path `[steps 2]`, (x, y) in pixels from its center; bilinear."""
  pixels = jnp.arange(size, dtype=jnp.float32) - size // 2
  # A matrix product of [steps size] tents: scatter is slow on every accelerator.
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
  """Random camera-shake kernel `[size size]`, `extent` pixels across for any exposure."""
  path = trajectory(key, anxiety=anxiety, exposure=exposure, steps=steps)
  return render(fit(path, extent, size), size)


def _unit(angle: jax.Array) -> jax.Array:
  return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
