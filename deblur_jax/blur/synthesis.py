"""Blurred pictures made of sharp ones, on the accelerator, from a recipe that reads as a sentence.

  degrade = parse('shake(9..31) or motion(5..25) or disk(1..5) or sharp | noise(0..0.02)')
  blurred = degrade(key, sharp)

Every image draws its own alternative, all equally likely, and its own values, uniformly from the
ranges. Blur acts in linear light with mirrored borders; noise is added to the sRGB-encoded picture,
where cameras' denoising and tone curve leave it about even. The result is cut to [0, 1], as every
sensor and every file does.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from deblur_jax import pipes
from deblur_jax.blur import kernels, light, noise, trajectories
from deblur_jax.blur.operators import Convolution
from deblur_jax.pipes import Range

Value = float | tuple[float, float]


class Step:
  """One alternative of one step. As it is, it changes nothing."""


class KernelStep(Step):
  """A step that blurs by a random PSF, in linear light."""

  @property
  def size(self) -> int:
    """Side of the smallest canvas, odd, that holds every kernel of the step."""
    raise NotImplementedError

  def psf(self, key: jax.Array, size: int) -> jax.Array:
    """A random kernel `[size size]`."""
    raise NotImplementedError


class PixelStep(Step):
  """A step that turns an image into another, in linear light or encoded."""

  linear: ClassVar[bool] = False

  def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
    """The image `[h w c]` after the step."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Sharp(Step):
  """Leaves the picture as it is."""


@dataclasses.dataclass(frozen=True)
class Shake(KernelStep):
  """Camera shake; `extent` is the longer side of the path's bounding box, in pixels.

  `anxiety`, `exposure` and `steps` are those of `trajectories.trajectory`.
  """

  extent: Value = (9, 31)
  anxiety: Value = (0.003, 0.01)
  exposure: Value = (0.1, 1)
  steps: int = 500

  def __post_init__(self):
    _settle(self, extent=(1, math.inf), anxiety=(0, math.inf), exposure=(0.001, 1))
    if not isinstance(self.steps, int) or self.steps < 2:
      raise ValueError(f'steps is a whole number from 2 up, not {self.steps!r}')

  @property
  def size(self) -> int:
    return _odd(self.extent.high)

  def psf(self, key, size):
    key, path = jax.random.split(key)
    extent, anxiety, exposure = _draw(key, self.extent, self.anxiety, self.exposure)
    return trajectories.shake(
      path, extent, size, anxiety=anxiety, exposure=exposure, steps=self.steps
    )


@dataclasses.dataclass(frozen=True)
class Motion(KernelStep):
  """Uniform straight motion over `length` pixels at `angle` degrees."""

  length: Value = (5, 25)
  angle: Value = (0, 180)

  def __post_init__(self):
    _settle(self, length=(0, math.inf), angle=(-math.inf, math.inf))

  @property
  def size(self) -> int:
    return _odd((self.length.high + 1) / 2)

  def psf(self, key, size):
    return kernels.motion(*_draw(key, self.length, self.angle), size)


@dataclasses.dataclass(frozen=True)
class Disk(KernelStep):
  """Defocus; `radius` in pixels."""

  radius: Value = (1, 5)

  def __post_init__(self):
    _settle(self, radius=(0, math.inf))

  @property
  def size(self) -> int:
    return _odd(self.radius.high)

  def psf(self, key, size):
    return kernels.disk(*_draw(key, self.radius), size)


@dataclasses.dataclass(frozen=True)
class Gaussian(KernelStep):
  """Gaussian blur of `sigma` pixels along `angle` and `ratio * sigma` across."""

  sigma: Value = (0.5, 3)
  ratio: Value = 1.0
  angle: Value = (0, 180)

  def __post_init__(self):
    _settle(self, sigma=(0, math.inf), ratio=(0, 1), angle=(-math.inf, math.inf))

  @property
  def size(self) -> int:
    return _odd(4 * self.sigma.high)  # beyond lies a 16000th

  def psf(self, key, size):
    sigma, ratio, angle = _draw(key, self.sigma, self.ratio, self.angle)
    return kernels.gaussian(sigma, size, ratio=ratio, angle=angle)


@dataclasses.dataclass(frozen=True)
class Noise(PixelStep):
  """White Gaussian noise of standard deviation `sigma` on the encoded [0, 1] scale."""

  sigma: Value = (0, 0.02)

  def __post_init__(self):
    _settle(self, sigma=(0, math.inf))

  def __call__(self, key, image):
    strength, field = jax.random.split(key)
    (sigma,) = _draw(strength, self.sigma)
    return noise.gaussian(field, image, sigma=sigma)


STEPS = {
  'shake': Shake,
  'motion': Motion,
  'disk': Disk,
  'gaussian': Gaussian,
  'sharp': Sharp,
  'noise': Noise,
}


@dataclasses.dataclass(frozen=True)
class Degrade:
  """A recipe: steps one after another, each a tuple of equally likely alternatives."""

  chain: tuple[tuple[Step, ...], ...]

  def __call__(self, key: jax.Array, sharp: jax.Array) -> jax.Array:
    """Degraded images `[b h w c]` of `sharp` ones in [0, 1], pure in both arguments.

    What image i draws hangs on `key` and i alone, not on the size of the batch or the number of
    devices. Under `jax.set_mesh` with an axis 'data', every device works on its own images; a
    batch sharded without it gives the same, but XLA gathers it on every device for the FFT.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(sharp.shape[0]))
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if types.get('data') == AxisType.Auto and sharp.shape[0] % mesh.shape['data'] == 0:
      data = PartitionSpec('data')
      apart = jax.shard_map(
        self._run, in_specs=(data, data), out_specs=data, axis_names={'data'}, check_vma=False
      )
      return apart(keys, sharp)
    return self._run(keys, sharp)

  def _run(self, keys: jax.Array, image: jax.Array) -> jax.Array:
    linear = False
    for number, choices in enumerate(self.chain):
      own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
      image, linear = _step(own, image, choices, linear)
    return jnp.clip(_light(image, linear, False), 0.0, 1.0)


def parse(text: str) -> Degrade:
  """The recipe in `text`; raises ValueError naming the step that is wrong. '' changes nothing."""
  return Degrade(pipes.build(text, STEPS))


def _step(
  keys: jax.Array, image: jax.Array, choices: tuple[Step, ...], linear: bool
) -> tuple[jax.Array, bool]:
  """Images after one of `choices` each, and whether they are in linear light now."""
  draws = jax.vmap(lambda key: jax.random.split(key, len(choices) + 1))(keys)
  chosen = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(choices)))(draws[:, 0])
  sizes = [step.size for step in choices if isinstance(step, KernelStep)]
  if sizes:
    # All alternatives' kernels are drawn, which is cheap, and one convolution serves them all.
    psfs = jax.vmap(lambda keys, index: _psf(keys, index, choices, max(sizes)))(draws, chosen)
    image, linear = Convolution(psfs).apply(_light(image, linear, True)), True
  for number, step in enumerate(choices):
    if isinstance(step, PixelStep):
      image, linear = _light(image, linear, step.linear), step.linear
      changed = jax.vmap(step)(draws[:, number + 1], image)
      image = jnp.where((chosen == number)[:, None, None, None], changed, image)
  return image, linear


def _psf(keys: jax.Array, index: jax.Array, choices: tuple[Step, ...], size: int) -> jax.Array:
  return jnp.stack(
    [
      step.psf(key, size) if isinstance(step, KernelStep) else kernels.delta(size)
      for step, key in zip(choices, keys[1:], strict=True)
    ]
  )[index]


def _light(image: jax.Array, linear: bool, wanted: bool) -> jax.Array:
  if linear == wanted:
    return image
  return light.to_linear(image) if wanted else light.to_srgb(image)


def _odd(half: float) -> int:
  return 2 * math.ceil(half) + 1


def _draw(key: jax.Array, *bounds: Range) -> tuple[jax.Array, ...]:
  shares = jax.random.uniform(key, (len(bounds),))
  return tuple(
    low + (high - low) * share for (low, high), share in zip(bounds, shares, strict=True)
  )


def _settle(step: Step, **limits: tuple[float, float]) -> None:
  """Turns the named values of a frozen step into ranges, within their limits or ValueError."""
  for name, (least, most) in limits.items():
    value = getattr(step, name)
    bounds = value if isinstance(value, tuple) and len(value) == 2 else (value, value)
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in bounds):
      raise ValueError(f'{name} is a number or a range low..high, not {value!r}')
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and least <= low <= high <= most):
      raise ValueError(f'{name} lies between {least:g} and {most:g}, not {low:g}..{high:g}')
    object.__setattr__(step, name, Range(float(low), float(high)))
