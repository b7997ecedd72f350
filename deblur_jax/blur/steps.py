"""The steps of a blur mix: what each draws for an image, and what it does with it.

A step is a frozen dataclass. Each field of type `Value` is a number, or a range `(low, high)` from
which each image draws its own value, uniformly.
"""

import abc
import dataclasses
import math
import typing
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from deblur_jax.blur import (
  jpeg,
  kernels,
  noise,
  projective,
  scenes,
  sensor,
  trajectories,
  turbulence,
)
from deblur_jax.spec import Range

Value = float | tuple[float, float]


class Within(NamedTuple):
  """The values that a field accepts; if `whole`, whole numbers are drawn."""

  least: float = -math.inf
  most: float = math.inf
  whole: bool = False


Angle = Annotated[Value, Within()]
Amount = Annotated[Value, Within(0)]
Share = Annotated[Value, Within(0, 1)]


@dataclasses.dataclass(frozen=True)
class Step:
  """One alternative of one step; this base class changes nothing."""

  random: ClassVar[bool] = False
  """Whether an image also draws a key, for randomness beyond the values."""

  def __post_init__(self):
    for field in dataclasses.fields(self):
      kind, limits = typing.get_args(field.type)
      read = _count if kind is int else _range
      value = read(field.name, getattr(self, field.name), limits)
      object.__setattr__(self, field.name, value)

  def draw(self, key: jax.Array) -> dict[str, jax.Array]:
    """What one image draws: a value from each range, by name, and 'key' if `random`."""
    key, rest = jax.random.split(key) if self.random else (key, None)
    drawn: dict[str, Any] = {'key': rest} if self.random else {}
    fields = [one for one in dataclasses.fields(self) if typing.get_args(one.type)[0] is not int]
    for field, share in zip(fields, jax.random.uniform(key, (len(fields),)), strict=True):
      low, high = getattr(self, field.name)
      if typing.get_args(field.type)[1].whole:
        drawn[field.name] = jnp.minimum(jnp.floor(low + (high + 1 - low) * share), high)
      else:
        drawn[field.name] = low + (high - low) * share
    return drawn


class KernelStep(Step, abc.ABC):
  """A step that blurs by a random PSF, in linear light."""

  @property
  @abc.abstractmethod
  def size(self) -> int:
    """Side of the smallest canvas, odd, that fits every kernel of the step."""

  @abc.abstractmethod
  def psf(self, size: int, **values: jax.Array) -> jax.Array:
    """The kernel `[size size]` for the drawn values."""


class PixelStep(Step, abc.ABC):
  """A step that maps an image to an image, in linear light or encoded."""

  linear: ClassVar[bool] = True

  @abc.abstractmethod
  def __call__(self, image: jax.Array, **values: jax.Array) -> jax.Array:
    """The image `[h w c]` after the step, for the drawn values."""


@dataclasses.dataclass(frozen=True)
class Sharp(Step):
  """Leaves the picture unchanged."""


@dataclasses.dataclass(frozen=True)
class Shake(KernelStep):
  """Camera shake; `extent` is the longer side of the path's bounding box, in pixels.

  `anxiety`, `exposure` and `steps` are passed to `trajectories.trajectory`.
  """

  random = True
  extent: Annotated[Value, Within(1)] = (9, 31)
  anxiety: Amount = (0.003, 0.01)
  exposure: Annotated[Value, Within(0.001, 1)] = (0.1, 1)
  steps: Annotated[int, Within(2)] = 500

  @property
  def size(self) -> int:
    return _odd(_high(self.extent))

  def psf(self, size, *, key, extent, anxiety, exposure):
    return trajectories.shake(
      key, extent, size, anxiety=anxiety, exposure=exposure, steps=self.steps
    )


@dataclasses.dataclass(frozen=True)
class Motion(KernelStep):
  """Uniform straight motion over `length` pixels at `angle` degrees."""

  length: Amount = (5, 25)
  angle: Angle = (0, 180)

  @property
  def size(self) -> int:
    return _odd((_high(self.length) + 1) / 2)

  def psf(self, size, *, length, angle):
    return kernels.motion(length, angle, size)


@dataclasses.dataclass(frozen=True)
class Disk(KernelStep):
  """Defocus by a round aperture; `radius` in pixels."""

  radius: Amount = (1, 5)

  @property
  def size(self) -> int:
    return _odd(_high(self.radius))

  def psf(self, size, *, radius):
    return kernels.disk(radius, size)


@dataclasses.dataclass(frozen=True)
class Bokeh(KernelStep):
  """Defocus by an aperture with `blades` blades; see `kernels.polygon`."""

  radius: Amount = (2, 10)
  angle: Angle = (0, 360)
  roundness: Share = (0, 0.5)
  rim: Amount = (0, 0.5)
  blades: Annotated[int, Within(3)] = 6

  @property
  def size(self) -> int:
    return _odd(_high(self.radius))

  def psf(self, size, *, radius, angle, roundness, rim):
    return kernels.polygon(
      radius, size, blades=self.blades, angle=angle, roundness=roundness, rim=rim
    )


@dataclasses.dataclass(frozen=True)
class Gaussian(KernelStep):
  """Gaussian blur of `sigma` pixels along `angle` and `ratio * sigma` across it."""

  sigma: Amount = (0.5, 3)
  ratio: Share = 1.0
  angle: Angle = (0, 180)

  @property
  def size(self) -> int:
    return _odd(4 * _high(self.sigma))  # 1/16000 of the weight is outside

  def psf(self, size, *, sigma, ratio, angle):
    return kernels.gaussian(sigma, size, ratio=ratio, angle=angle)


@dataclasses.dataclass(frozen=True)
class Camera(PixelStep):
  """Camera shake that varies over the picture: the camera shifts, tilts and rolls.

  The path of the picture's center has a bounding box of `extent` pixels on its longer side; `roll`
  is the range of the rotation in degrees, `focal` the focal length in pixels. See
  `projective.camera_path`.
  """

  random = True
  extent: Annotated[Value, Within(1)] = (5, 25)
  roll: Amount = (0, 2)
  focal: Annotated[Value, Within(1)] = (500, 2000)
  steps: Annotated[int, Within(2)] = 64

  def draw(self, key):
    values = super().draw(key)
    path = {name: values[name] for name in ('extent', 'roll', 'focal')}
    return path | {'poses': projective.camera_path(values['key'], steps=self.steps, **path)}

  def __call__(self, image, *, poses, focal, **_):
    seen = projective.homographies(poses, *image.shape[:2], focal=focal)
    return projective.ProjectiveMotion(seen).apply(image)


@dataclasses.dataclass(frozen=True)
class Objects(PixelStep):
  """A random object moves by `shift` pixels in front of a still background; see `scenes`."""

  random = True
  shift: Amount = (5, 30)

  def __call__(self, image, *, key, shift):
    steps = max(2, math.ceil(_high(self.shift)) + 1)  # instants at most one pixel apart
    return scenes.moving_object(key, image, shift=shift, steps=steps)


@dataclasses.dataclass(frozen=True)
class Turbulence(PixelStep):
  """A short exposure through turbulent air; `strength` is D/r0, see `turbulence`."""

  random = True
  strength: Amount = (1, 3)

  def __call__(self, image, *, key, strength):
    return turbulence.turbulence(key, image, strength=strength)


@dataclasses.dataclass(frozen=True)
class Saturate(PixelStep):
  """Clips white, which is `gain` times as bright up to this step.

  The mix brightens white pixels before its first step, so that blur spreads their light. The sharp
  picture that results are compared with is not changed.
  """

  gain: Annotated[Value, Within(1)] = (1.25, 2.75)

  def __call__(self, image, *, gain):
    return sensor.saturate(image)


@dataclasses.dataclass(frozen=True)
class Noise(PixelStep):
  """White Gaussian noise of standard deviation `sigma` on the encoded [0, 1] scale."""

  random = True
  linear = False
  sigma: Amount = (0, 0.02)

  def __call__(self, image, *, key, sigma):
    return noise.gaussian(key, image, sigma=sigma)


@dataclasses.dataclass(frozen=True)
class Poisson(PixelStep):
  """Photon noise of standard deviation `shot` at white, and `read` noise, in linear light.

  The defaults are the noise of the RSBlur camera (Rim et al. 2022), as strong as its authors draw
  it.
  """

  random = True
  shot: Amount = (0.007, 0.012)
  read: Amount = (0.0005, 0.0014)

  def __call__(self, image, *, key, shot, read):
    return noise.poisson_gaussian(key, image, shot=shot, read=read)


@dataclasses.dataclass(frozen=True)
class Gamma(PixelStep):
  """The encoded picture to the power `gamma`: above 1, and with noise after it, low light."""

  linear = False
  gamma: Annotated[Value, Within(0.1, 10)] = (1.5, 3)

  def __call__(self, image, *, gamma):
    # The slope at black is infinite below 1.
    return jnp.maximum(image, 1e-6) ** gamma


@dataclasses.dataclass(frozen=True)
class Quantize(PixelStep):
  """The encoded picture rounded to `bits` bits."""

  linear = False
  bits: Annotated[Value, Within(1, 16, whole=True)] = 8

  def __call__(self, image, *, bits):
    return sensor.quantize(image, bits=bits)


@dataclasses.dataclass(frozen=True)
class Jpeg(PixelStep):
  """The encoded picture saved as JPEG of `quality` 1 to 100 and read back."""

  linear = False
  quality: Annotated[Value, Within(1, 100, whole=True)] = (60, 95)

  def __call__(self, image, *, quality):
    return jpeg.compress(image, quality=quality)


STEPS: dict[str, type[Step]] = {
  'shake': Shake,
  'motion': Motion,
  'disk': Disk,
  'bokeh': Bokeh,
  'gaussian': Gaussian,
  'camera': Camera,
  'objects': Objects,
  'turbulence': Turbulence,
  'sharp': Sharp,
  'saturate': Saturate,
  'noise': Noise,
  'poisson': Poisson,
  'gamma': Gamma,
  'quantize': Quantize,
  'jpeg': Jpeg,
}


def _high(value: Value) -> float:
  """The upper end of a field, which `Step` has made a `Range`."""
  assert isinstance(value, Range)
  return value.high


def _odd(half: float) -> int:
  return 2 * math.ceil(half) + 1


def _range(name: str, value: Any, limits: Within) -> Range:
  bounds: Any = value if isinstance(value, tuple) and len(value) == 2 else (value, value)
  if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in bounds):
    raise ValueError(f'{name} must be a number or a range low..high, not {value!r}')
  low, high = bounds
  if not (
    math.isfinite(low) and math.isfinite(high) and limits.least <= low <= high <= limits.most
  ):
    raise ValueError(
      f'{name} must be between {limits.least:g} and {limits.most:g}, not {low:g}..{high:g}'
    )
  if limits.whole and (low % 1 or high % 1):
    raise ValueError(f'{name} must be a whole number, not {low:g}..{high:g}')
  return Range(float(low), float(high))


def _count(name: str, value: Any, limits: Within) -> int:
  if type(value) is not int or not limits.least <= value <= limits.most:
    raise ValueError(f'{name} must be a whole number, at least {limits.least:g}, not {value!r}')
  return value
