"""Code values to linear light and back, according to a file's color information.

Blur adds up light, so it is undone in linear light; files hold code values. `transfer` gives the
curve of a picture from its ICC profile, CICP codes (ITU-T H.273) or gamma. Works on NumPy and JAX
arrays of any shape, also inside `jit`. Curves keep 0 and 1 (unless a profile says otherwise),
increase, and continue beyond [0, 1] so that a round trip never clips.
"""

import dataclasses
import functools
import math
import struct
from typing import Any, Protocol

import numpy as np

Array = Any
"""NumPy or JAX array."""


class Function(Protocol):
  """One channel's curve."""

  def to_linear(self, value: Array) -> Array: ...

  def from_linear(self, light: Array) -> Array: ...


@dataclasses.dataclass(frozen=True)
class Parametric:
  """(a x + b)^g + e from x = d up, c x + f below (ICC.1:2022, section 10.18, type 4)."""

  g: float
  a: float = 1.0
  b: float = 0.0
  c: float = 0.0
  d: float = 0.0
  e: float = 0.0
  f: float = 0.0

  def to_linear(self, value: Array) -> Array:
    if self._power:
      return _odd_power(value, self.g)
    numbers = _numbers(value)
    curved = (self.a * numbers.maximum(value, self.d) + self.b) ** self.g + self.e
    return numbers.where(value >= self.d, curved, self.c * value + self.f)

  def from_linear(self, light: Array) -> Array:
    if self._power:
      return _odd_power(light, 1 / self.g)
    numbers = _numbers(light)
    start = (self.a * self.d + self.b) ** self.g + self.e
    curved = ((numbers.maximum(light, start) - self.e) ** (1 / self.g) - self.b) / self.a
    below = (light - self.f) / self.c if self.c else self.d + 0 * light
    return numbers.where(light >= start, curved, below)

  @property
  def _power(self) -> bool:
    return (self.a, self.b, self.c, self.d, self.e, self.f) == (1, 0, 0, 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Table:
  """Linear interpolation between equally spaced samples, extrapolated at both ends."""

  samples: tuple[float, ...]

  def to_linear(self, value: Array) -> Array:
    return _interpolated(value, *self._points())

  def from_linear(self, light: Array) -> Array:
    return _interpolated(light, *reversed(self._points()))

  def _points(self) -> tuple[np.ndarray, np.ndarray]:
    """Code values and their light; an imperceptible slope makes flat parts invertible."""
    values = np.linspace(0, 1, len(self.samples))
    return values, (np.array(self.samples) + 1e-6 * values) / (1 + 1e-6)


@dataclasses.dataclass(frozen=True)
class HybridLogGamma:
  """Scene light of ITU-R BT.2100 HLG, 1 at code value 1."""

  A, B, C = 0.17883277, 0.28466892, 0.55991073

  def to_linear(self, value: Array) -> Array:
    numbers = _numbers(value)
    high = (numbers.exp((numbers.maximum(value, 0.5) - self.C) / self.A) + self.B) / 12
    return numbers.where(value <= 0.5, _odd_power(value, 2) / 3, high)

  def from_linear(self, light: Array) -> Array:
    numbers = _numbers(light)
    high = self.A * numbers.log(12 * numbers.maximum(light, 1 / 12) - self.B) + self.C
    return numbers.where(light <= 1 / 12, _odd_power(3 * light, 0.5), high)


@dataclasses.dataclass(frozen=True)
class PerceptualQuantizer:
  """SMPTE ST 2084, 1 at 10,000 candela per square meter."""

  M1, M2 = 2610 / 16384, 2523 / 32
  C1, C2, C3 = 3424 / 4096, 2413 / 128, 2392 / 128

  def to_linear(self, value: Array) -> Array:
    numbers = _numbers(value)
    power = numbers.clip(value, 0, 1) ** (1 / self.M2)
    return (numbers.maximum(power - self.C1, 0) / (self.C2 - self.C3 * power)) ** (1 / self.M1)

  def from_linear(self, light: Array) -> Array:
    power = _numbers(light).clip(light, 0, 1) ** self.M1
    return ((self.C1 + self.C2 * power) / (1 + self.C3 * power)) ** self.M2


@dataclasses.dataclass(frozen=True)
class Transfer:
  """How a picture's code values map to linear light."""

  name: str
  """For display: 'sRGB', 'gamma 2.2', 'ICC curve', ..."""
  channels: tuple[Function, ...]
  """One function for all channels, or one each for red, green and blue."""

  def to_linear(self, image: Array) -> Array:
    """Linear light of code values in [0, 1] `[... c]`; any shape for one common function."""
    return self._each('to_linear', image)

  def from_linear(self, light: Array) -> Array:
    """Code values of linear `light`; the inverse of `to_linear`."""
    return self._each('from_linear', light)

  def _each(self, direction: str, image: Array) -> Array:
    functions = [getattr(function, direction) for function in self.channels]
    if len(functions) == 1:
      return functions[0](image)
    if image.shape[-1] != len(functions):
      functions = [functions[1]] * image.shape[-1]  # green serves for grey
    parts = [function(image[..., index]) for index, function in enumerate(functions)]
    return _numbers(image).stack(parts, -1)


def power(gamma: float) -> Transfer:
  """A pure power law: light = value^gamma. Raises ValueError unless gamma is positive."""
  if not 0 < gamma < math.inf:
    raise ValueError(f'gamma must be positive, not {gamma}')
  name = 'linear' if gamma == 1 else f'gamma {gamma:.4g}'
  return Transfer(name, (Parametric(gamma),))


SRGB = Transfer('sRGB', (Parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),))
"""IEC 61966-2-1; Display P3 has the same curve."""

LINEAR = power(1.0)

BT709 = Transfer(
  'BT.709', (Parametric(1 / 0.45, 1 / 1.099296826, 0.099296826 / 1.099296826, 1 / 4.5, 0.08124286),)
)
"""The inverse of the camera's curve in ITU-R BT.709, BT.601 and BT.2020."""

CICP = {
  1: BT709,
  2: SRGB,  # unspecified
  4: power(2.2),
  5: power(2.8),
  6: BT709,
  8: LINEAR,
  13: SRGB,
  14: BT709,
  15: BT709,
  16: Transfer('PQ', (PerceptualQuantizer(),)),
  17: power(2.6),
  18: Transfer('HLG', (HybridLogGamma(),)),
}
"""Transfer characteristics of ITU-T H.273, table 3."""


def transfer(
  *, icc: bytes | None = None, cicp: int | None = None, gamma: float | None = None
) -> Transfer:
  """The curve of a picture described by any of these; sRGB if by none.

  `icc` is a profile, `cicp` a number of transfer characteristics and `gamma` the exponent from code
  values to light (in PNG, 1 / gAMA). If several are given, `cicp` takes precedence over `icc`, and
  `icc` over `gamma`, as in PNG (third edition, section 4.3). Raises ValueError if the description
  is damaged or of a type without a curve.
  """
  if cicp is not None:
    if cicp not in CICP:
      raise ValueError(f'unsupported transfer characteristics {cicp} (ITU-T H.273)')
    return CICP[cicp]
  if icc is not None:
    return _from_profile(icc)
  return SRGB if gamma is None else power(gamma)


@functools.lru_cache(32)
def _from_profile(profile: bytes) -> Transfer:
  tags = _tags(profile)
  names = (b'rTRC', b'gTRC', b'bTRC') if b'rTRC' in tags else (b'kTRC',)
  if not all(name in tags for name in names):
    raise ValueError('the ICC profile has no tone curves, only color tables')
  functions = tuple(_curve(tags[name]) for name in names)
  return Transfer('ICC curve', functions[:1] if len(set(functions)) == 1 else functions)


def _tags(profile: bytes) -> dict[bytes, bytes]:
  """Signature -> data of an ICC profile."""
  try:
    (count,) = struct.unpack_from('>I', profile, 128)
    entries = [struct.unpack_from('>4sII', profile, 132 + 12 * i) for i in range(min(count, 200))]
  except struct.error:
    raise ValueError('the ICC profile is damaged') from None
  return {name: profile[at : at + length] for name, at, length in entries}


def _curve(data: bytes) -> Function:
  """The function in a 'curv' or 'para' tag."""
  try:
    if data[:4] == b'curv':
      (count,) = struct.unpack_from('>I', data, 8)
      samples = struct.unpack_from(f'>{count}H', data, 12)
      if count < 2:
        return Parametric(samples[0] / 256 if count else 1.0)
      return _increasing(np.array(samples) / 65535)
    if data[:4] == b'para':
      (form,) = struct.unpack_from('>H', data, 8)
      number = (1, 3, 4, 5, 7)[form]
      return _parametric(form, *(v / 65536 for v in struct.unpack_from(f'>{number}i', data, 12)))
  except (struct.error, IndexError):
    pass
  raise ValueError('the ICC profile is damaged: a tone curve is missing or cut short')


def _parametric(form: int, g: float, *more: float) -> Parametric:
  """ICC.1:2022, table 68; types 1 and 2 are constant below -b / a."""
  if g <= 0 or (more and more[0] <= 0):
    raise ValueError('the ICC profile is damaged: a tone curve does not increase')
  if form in (1, 2):
    a, b, c = (*more, 0.0)[:3]
    return Parametric(g, a, b, 0.0, -b / a, c, c)
  return Parametric(g, *more)


def _increasing(samples: np.ndarray) -> Table:
  if samples[-1] <= samples[0] or np.any(np.diff(samples) < 0):
    raise ValueError('the ICC profile has a tone curve that does not increase')
  return Table(tuple(samples.tolist()))


def _numbers(array: Array) -> Any:
  """NumPy or jax.numpy."""
  return array.__array_namespace__()


def _odd_power(value: Array, exponent: float) -> Array:
  if exponent == 1:
    return value
  numbers = _numbers(value)
  return numbers.sign(value) * numbers.abs(value) ** exponent


def _interpolated(value: Array, at: np.ndarray, heights: np.ndarray) -> Array:
  """Piecewise linear through (`at`, `heights`), extrapolated beyond the ends."""
  numbers = _numbers(value)
  at, heights = at.astype(value.dtype), heights.astype(value.dtype)
  inside = numbers.interp(value, at, heights).astype(value.dtype)
  first = (heights[1] - heights[0]) / (at[1] - at[0])
  last = (heights[-1] - heights[-2]) / (at[-1] - at[-2])
  below = numbers.minimum(value - at[0], 0) * first
  return inside + below + numbers.maximum(value - at[-1], 0) * last
