"""Host augmentations: `(example, rng) -> example`, frozen, over numpy.

Written as a chain, `crop(256) | flip_horizontal | transpose`; see `deblur_jax.spec`. All images of
an example get the same random values; images are uint8 `[h w 3]`. The input is never modified.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageEnhance

from deblur_jax import spec

Example = dict[str, Any]
Op = Callable[[Example, np.random.Generator], Example]

IMAGES = ('sharp', 'blurred')


def each(example: Example, function: Callable[[np.ndarray], np.ndarray]) -> Example:
  """The example with `function` applied to each of its images."""
  return {key: function(value) if key in IMAGES else value for key, value in example.items()}


@dataclasses.dataclass(frozen=True)
class Chain:
  """Steps in order, each one of several equally likely alternatives."""

  steps: tuple[tuple[Op, ...], ...]

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    for choices in self.steps:
      op = choices[rng.integers(len(choices))] if len(choices) > 1 else choices[0]
      example = op(example, rng)
    return example


@dataclasses.dataclass(frozen=True)
class Resize:
  """Resizes pictures to one size, whatever their aspect ratio (Pillow's bicubic, antialiased)."""

  height: int
  width: int

  def __post_init__(self):
    _check_positive(height=self.height, width=self.width)

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    size = self.width, self.height
    return each(
      example, lambda x: np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BICUBIC))
    )


@dataclasses.dataclass(frozen=True)
class Crop:
  """A random square window; smaller pictures are first reflected at the right and bottom."""

  size: int

  def __post_init__(self):
    _check_positive(size=self.size)

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    example = each(example, lambda image: _reflected(image, self.size))
    h, w = example['sharp'].shape[:2]
    top, left = rng.integers(h - self.size + 1), rng.integers(w - self.size + 1)
    return each(example, lambda image: _window(image, top, left, self.size))


@dataclasses.dataclass(frozen=True)
class CenterCrop:
  """The square window in the center; smaller pictures are reflected as in `Crop`."""

  size: int

  def __post_init__(self):
    _check_positive(size=self.size)

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    example = each(example, lambda image: _reflected(image, self.size))
    h, w = example['sharp'].shape[:2]
    top, left = (h - self.size) // 2, (w - self.size) // 2
    return each(example, lambda image: _window(image, top, left, self.size))


@dataclasses.dataclass(frozen=True)
class Subimage:
  """A random window of a fixed grid: 0, step, ..., and the last one aligned with the border.

  Equivalent to training on frames that were cut up beforehand (BasicSR's extract_subimages; HINet,
  NAFNet and Restormer: 512 at a step of 256). A side shorter than `size` stays whole.
  """

  size: int = 512
  step: int = 256

  def __post_init__(self):
    _check_positive(size=self.size, step=self.step)

  def starts(self, length: int) -> list[int]:
    """Where windows begin along a side of `length` pixels."""
    last = max(length - self.size, 0)
    starts = list(range(0, last + 1, self.step))
    return starts if starts[-1] == last else [*starts, last]

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    h, w = example['sharp'].shape[:2]
    top, left = rng.choice(self.starts(h)), rng.choice(self.starts(w))
    return each(example, lambda image: _window(image, top, left, self.size))


@dataclasses.dataclass(frozen=True)
class FlipHorizontal:
  """Swaps left and right, with probability `p`."""

  p: float = 0.5

  def __post_init__(self):
    _check_probability(self.p)

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    return each(example, lambda image: image[:, ::-1]) if rng.random() < self.p else example


@dataclasses.dataclass(frozen=True)
class FlipVertical:
  """Swaps top and bottom, with probability `p`."""

  p: float = 0.5

  def __post_init__(self):
    _check_probability(self.p)

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    return each(example, lambda image: image[::-1]) if rng.random() < self.p else example


@dataclasses.dataclass(frozen=True)
class Transpose:
  """Swaps rows and columns, with probability `p`; requires square images."""

  p: float = 0.5

  def __post_init__(self):
    _check_probability(self.p)

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    return each(example, lambda image: image.swapaxes(0, 1)) if rng.random() < self.p else example


# The eight symmetries of the square, in MPRNet's order.
SYMMETRIES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
  lambda image: image,
  lambda image: image[::-1],
  lambda image: image[:, ::-1],
  lambda image: np.rot90(image, 1),
  lambda image: np.rot90(image, 2),
  lambda image: np.rot90(image, 3),
  lambda image: np.rot90(image[::-1]),
  lambda image: np.rot90(image[:, ::-1]),
)


@dataclasses.dataclass(frozen=True)
class Dihedral:
  """One of the eight symmetries of the square, equally likely; requires square images."""

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    return each(example, SYMMETRIES[rng.integers(8)])


@dataclasses.dataclass(frozen=True)
class DihedralMPRNet:
  """As in MPRNet and its relatives: one of nine numbers, 0 and 8 leave the image unchanged."""

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    return each(example, SYMMETRIES[rng.integers(9) % 8])


@dataclasses.dataclass(frozen=True)
class Enhance:
  """Changes a property of the pictures by a factor drawn from `factor`, with probability `p`.

  Works as in Pillow, and so as torchvision's ColorJitter on Pillow images: 'saturation' blends with
  the luminance, 'contrast' with its mean, 'brightness' with black.
  """

  factor: spec.Range
  p: float = 1.0
  what: ClassVar[str]

  def __post_init__(self):
    _check_factor(self.factor)
    _check_probability(self.p)

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    if rng.random() >= self.p:
      return example
    enhance, factor = ENHANCERS[self.what], rng.uniform(*self.factor)
    return each(example, lambda x: np.asarray(enhance(Image.fromarray(x)).enhance(factor)))


ENHANCERS = {
  'saturation': ImageEnhance.Color,
  'contrast': ImageEnhance.Contrast,
  'brightness': ImageEnhance.Brightness,
}


class Saturation(Enhance):
  """See `Enhance`."""

  what = 'saturation'


class Contrast(Enhance):
  """See `Enhance`."""

  what = 'contrast'


class Brightness(Enhance):
  """See `Enhance`."""

  what = 'brightness'


@dataclasses.dataclass(frozen=True)
class SaturationHSV:
  """Multiplies the S of HSV by a factor drawn from `factor`, at most to 1, as in DeepDeblur."""

  factor: spec.Range

  def __post_init__(self):
    _check_factor(self.factor)

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    factor = rng.uniform(*self.factor)
    return each(example, lambda image: _saturated(image, factor))


@dataclasses.dataclass(frozen=True)
class ShuffleColors:
  """Puts red, green and blue in a random order."""

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    order = rng.permutation(3)
    return each(example, lambda image: image[..., order])


@dataclasses.dataclass(frozen=True)
class NoiseBlurred:
  """Adds white noise to the blurred picture only; its standard deviation is `|N(0, sigma)|` of 255.

  For pairs; pictures that are blurred on the device get their noise from `config.blur`.
  """

  sigma: float

  def __post_init__(self):
    if not self.sigma > 0:
      raise ValueError(f'sigma must be above 0, not {self.sigma!r}')

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    if 'blurred' not in example:
      raise ValueError("'noise_blurred' requires pairs; add noise to config.blur instead")
    blurred = example['blurred']
    noise = rng.normal(0, abs(rng.normal(0, self.sigma)), blurred.shape)
    return {**example, 'blurred': np.rint(np.clip(blurred + noise, 0, 255)).astype(np.uint8)}


@dataclasses.dataclass(frozen=True)
class MatchMeans:
  """Scales each channel of the blurred picture to the mean of the sharp one.

  Frames averaged in linear light are brighter than a single frame, and a network trained on them
  learns to darken. Apply it to whole pictures, before cropping.
  """

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    if 'blurred' not in example or not example.get('paired', True):
      return example
    sharp, blurred = (example[key].mean((0, 1), dtype=np.float64) for key in ('sharp', 'blurred'))
    gain = (sharp / np.maximum(blurred, 1e-3)).astype(np.float32)
    matched = np.rint(np.clip(example['blurred'] * gain, 0, 255)).astype(np.uint8)
    return {**example, 'blurred': matched}


OPS: dict[str, Callable[..., Op]] = {
  'resize': Resize,
  'crop': Crop,
  'center_crop': CenterCrop,
  'subimage': Subimage,
  'flip_horizontal': FlipHorizontal,
  'flip_vertical': FlipVertical,
  'transpose': Transpose,
  'dihedral': Dihedral,
  'dihedral_mprnet': DihedralMPRNet,
  'saturation': Saturation,
  'contrast': Contrast,
  'brightness': Brightness,
  'saturation_hsv': SaturationHSV,
  'shuffle_colors': ShuffleColors,
  'noise_blurred': NoiseBlurred,
  'match_means': MatchMeans,
}


def parse(text: str) -> Chain:
  """The chain in `text`; an empty text changes nothing. Raises ValueError naming the step."""
  return Chain(spec.build(text, OPS))


def _window(image: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
  return image[top : top + size, left : left + size]


def _reflected(image: np.ndarray, size: int) -> np.ndarray:
  h, w = image.shape[:2]
  if h >= size and w >= size:
    return image
  return np.pad(image, ((0, max(size - h, 0)), (0, max(size - w, 0)), (0, 0)), 'reflect')


def _saturated(image: np.ndarray, factor: float) -> np.ndarray:
  # At fixed hue and value, the distances of all channels to the largest stay in proportion.
  value = image.max(-1, keepdims=True).astype(np.float32)
  down = value - image
  room = value / np.maximum(down.max(-1, keepdims=True), 1)  # largest factor: 1 / S
  return np.rint(value - np.minimum(factor, room) * down).astype(np.uint8)


def _check_factor(factor: spec.Range) -> None:
  if not isinstance(factor, spec.Range) or factor.low < 0:
    raise ValueError(f'the factor must be a range from 0 up, such as 0.8..1.2, not {factor}')


def _check_positive(**values: int) -> None:
  for name, value in values.items():
    if not isinstance(value, int) or value < 1:
      raise ValueError(f'{name} must be a whole number of pixels, at least 1, not {value!r}')


def _check_probability(p: float) -> None:
  if not 0 <= p <= 1:
    raise ValueError(f'p must be a probability from 0 to 1, not {p!r}')
