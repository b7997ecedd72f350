"""How a picture is blurred and what a method changed: blur, sharpness, and warnings.

Samples 36 windows of 128 pixels at full resolution, evenly spread (5 % of 12 megapixels; 4 windows
of a small picture), and takes the mean of every channel over the whole picture. The cost is thus
the same for all pictures, and anything between the windows is ignored.

Blur is estimated as in `solvers.estimate_gaussian`, window by window, at the finest scale at which
gradients exceed the noise. Its kind is named only if nearly certain. It is 'unknown' if there is
little evidence, between sharp and mildly blurred, between round and straight blur, if all structure
runs in one direction (stripes, bar codes), for motion on text, and if the blur is too large to
measure.
docs/diagnosis.md shows how often it is right (tools/diagnosis_table.py). Lengths of motion are
rough, and too small for real camera shake, whose trails are thin and sharp.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.blur import kernels, operators
from deblur_jax.metrics import sharpness
from deblur_jax.photos.pictures import as_float
from deblur_jax.solvers import estimate_gaussian

SIDE = 128
GRID, SMALL_GRID = 6, 2
"""Windows per side; the second for pictures that half of the first would cover."""

SCALES = ((1, 0.0), (1, 1.0), (2, 1.0), (4, 1.0), (8, 1.0))
"""(factor of reduction, sigma of the smoothing after it); the first that noise does not disturb is
used."""

OVER_NOISE = 4.0
"""Gradients must exceed the steepest gradient of noise by this factor."""

NOISE_PEAK = 4.5
"""The steepest of some ten thousand gradients of noise, in standard deviations."""

MOST_SIGMA = 4.0
"""In pixels of a scale; a wider blur is measured at the next one."""

STEEPEST = 0.85
"""Quantile over the windows; the steepest window of all may hold the only sharp object."""

LEAST_CONTRAST = 0.25
"""Windows with a smaller range of values have no edge to measure."""

SMOOTHED = 1.5
"""Sigma in pixels of the smoothing before sharpness is compared."""

SHARP, BLURRED = 0.6, 1.0
"""Estimated sigma in pixels up to which a picture is sharp, and from which it has a round blur;
photographs in between can be either."""

EVIDENCE, EVIDENCE_SHARP = 0.6, 0.7
"""Least evidence to name a blur, and to call a picture sharp."""

MOTION, ROUND = 0.45, 0.7
"""Ratio of the sigmas up to which a blur is motion, and from which it is round."""

ONE_WAY = 0.12
"""If the energy of coarse gradients along a direction is less than this share of the energy across
it, the structure itself is missing there, and nothing is known about motion."""

NEAR_WHITE, PAPER, COLORLESS = 0.75, 0.4, 0.08
"""In the median window of text on paper, more than a share `PAPER` of the pixels lies above
`NEAR_WHITE` of the range, and color differences vary by less than `COLORLESS` of it. Strokes are
thinner than a blur, not steps, so motion looks too long there (16 for 9 pixels) and is 'unknown'.
Two pages of text have shares from 0.46. Of 29 photographs none has, though one has if shaken, but
its color differences vary by 0.18."""

SMALLER = 0.78
"""Blur happens in linear light, and the sRGB curve makes gradients look softer: on 27 known round
blurs (tools/diagnosis_table.py) the estimated sigma was 1 / 0.78 times too large."""

LARGEST_PART = 4
"""A blur larger than 1 / 4 of a window, or of a smaller picture, cannot be measured."""

LIKELY = ((0.6, 0.9, 1.0), (0.6, 0.7, 0.85))
"""Evidence, and the share of 120 pictures with that much evidence whose kind was right and size
within 30 %."""

COARSE = 16
"""Side in pixels of the blocks that are averaged to see coarse structure."""

DRIFT, CLIPPED, SAME = 0.01, 0.01, 0.5 / 255
"""Limits for warnings: color drift as a share of the range, clipped values as a share of all, and
the largest difference of a result that equals its input."""

CLEARLY = 1.2
"""Gain in sharpness; a picture that gains more was not sharp before."""

_FLAT = 1e-6  # sharpness of a picture without any structure


class Blur(NamedTuple):
  """How a picture is blurred."""

  kind: str
  """'sharp', 'motion', 'defocus' (a disk or a Gaussian) or 'unknown'"""
  pixels: float
  """Length of a motion; sigma of a Gaussian, or half the radius of a disk."""
  angle: float
  """Of a motion, in degrees counterclockwise from the horizontal."""
  gaussian: estimate_gaussian.Gaussian
  confidence: float
  """How likely the kind is right and the size within 30 %, see `LIKELY`; 0 if unknown."""

  def __str__(self) -> str:
    """A short description."""
    if self.kind == 'motion':
      return f'motion ~{self.pixels:.0f} px at {self.angle:.0f}°'
    if self.kind == 'defocus':
      return f'defocus blur ~{self.pixels:.1f} px'
    return {'sharp': 'sharp', 'unknown': 'blur unclear'}[self.kind]


class Change(NamedTuple):
  """What differs between pixels before and after; `+` adds the changes of two parts."""

  count: int
  """Number of pixels."""
  before: np.ndarray
  """Sum of each color channel, for values in [0, 1]."""
  after: np.ndarray
  largest: float
  """Largest difference of a value."""
  clipped: int
  """Number of values that became black or white."""

  def __add__(self, other: 'Change') -> 'Change':
    largest = max(self.largest, other.largest)
    sums = (self.before + other.before, self.after + other.after)
    return Change(self.count + other.count, *sums, largest, self.clipped + other.clipped)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
  """The comparison of a picture before and after restoration."""

  blur: Blur
  """Of the picture before."""
  sharpness_before: float
  """Variance of the Laplacian after smoothing by `SMOOTHED`, relative to the variance of the luma;
  ringing increases it, too."""
  sharpness_after: float
  reblurred_psnr: float
  """In dB, between the result, blurred with the estimated Gaussian, and the picture before."""
  warnings: tuple[str, ...]

  def __str__(self) -> str:
    """A short description."""
    if self.sharpness_before < _FLAT:
      return str(self.blur)
    return f'{self.blur}; sharpness x{self.sharpness_after / self.sharpness_before:.2g}'

  def plain(self) -> dict[str, str | float]:
    """All fields except the warnings, as JSON values."""
    kind, pixels, angle, gaussian, confidence = self.blur
    figures = {'pixels': pixels, 'angle': angle, 'sigma': gaussian.sigma, 'ratio': gaussian.ratio}
    figures |= {'confidence': confidence, 'sharpness_before': self.sharpness_before}
    figures |= {'sharpness_after': self.sharpness_after, 'reblurred_psnr': self.reblurred_psnr}
    return {'blur': kind} | {name: float(f'{value:.4g}') for name, value in figures.items()}


def windows(shape: Sequence[int], rows: Callable[[int, int], np.ndarray]) -> np.ndarray:
  """Samples of a picture: float32 RGB `[n SIDE SIDE 3]` in [0, 1].

  `shape` is (height, width, channels) and `rows(start, stop)` returns `[stop - start w c]` with 1
  to 4 channels, uint8, uint16 or float. A picture smaller than a window is mirrored at its border.
  """
  height, width, channels = shape
  grid = GRID if max(height, width) > SIDE * GRID // 2 else SMALL_GRID
  missing = ((0, max(SIDE - height, 0)), (0, max(SIDE - width, 0)), (0, 0))
  found = []
  for top in np.linspace(0, max(height - SIDE, 0), grid).round().astype(int):
    strip = rows(int(top), int(min(top + SIDE, height)))[..., : channels - (channels in (2, 4))]
    for left in np.linspace(0, max(width - SIDE, 0), grid).round().astype(int):
      found.append(np.pad(strip[:, left : left + SIDE], missing, 'symmetric'))
  colors = as_float(np.stack(found))
  return np.repeat(colors, 3, -1) if colors.shape[-1] == 1 else colors


def blur(samples: np.ndarray, side: int = SIDE) -> Blur:
  """The blur of a picture whose shorter side is `side`, from its samples (see `windows`)."""
  luma = samples.mean(-1)
  contrast = np.quantile(luma, 0.999, axis=(1, 2)) - np.quantile(luma, 0.001, axis=(1, 2))
  seen = contrast >= LEAST_CONTRAST
  if not seen.any():
    nothing = estimate_gaussian.Gaussian(estimate_gaussian.LEAST, 1.0, 0.0)
    return Blur('unknown', 0.0, 0.0, nothing, 0.0)
  for scale, smooth in SCALES:
    found, each, clear = jax.device_get(_measured(samples, seen, smooth, scale=scale))
    if clear and found.sigma < MOST_SIGMA:
      break
  low, high = np.quantile(np.maximum(each[seen] * scale, SHARP), [0.25, 0.75])
  agreement = np.clip((3 - high / low) / 1.5, 0, 1)
  support = np.clip(contrast[seen].mean() / 0.5, 0, 1) * min(1, seen.sum() / 4)
  gaussian = estimate_gaussian.Gaussian(
    float(found.sigma) * scale, float(found.ratio), float(found.angle)
  )
  evidence = float(agreement * support * (1 if clear else 0.3))
  has_structure = _directions(luma[seen], float(gaussian.angle)) >= ONE_WAY
  named = _named(gaussian, evidence, min(side, SIDE) / LARGEST_PART)
  misleading = named.kind == 'motion' and _is_page(samples[seen])
  if misleading or (gaussian.sigma >= SHARP and not has_structure):
    return Blur('unknown', 0.0, 0.0, gaussian, 0.0)
  return named


def change(before: np.ndarray, after: np.ndarray) -> Change:
  """What differs between two pictures, or rows of them, `[h w c]` of the same dtype."""
  colors = before.shape[-1] - (before.shape[-1] in (2, 4))
  before, after = before[..., :colors], after[..., :colors]
  top, sums = (np.iinfo(before.dtype).max, np.int64) if before.dtype.kind == 'u' else (1, float)
  ends = ((after == 0) & (before != 0)) | ((after == top) & (before != top))
  difference = np.maximum(before, after) - np.minimum(before, after)
  return Change(
    before[..., 0].size,
    before.sum((0, 1), dtype=sums) / top,
    after.sum((0, 1), dtype=sums) / top,
    float(difference.max()) / top,
    int(np.count_nonzero(ends)),
  )


def diagnose(before: np.ndarray, after: np.ndarray, changed: Change, side: int = SIDE) -> Diagnosis:
  """The diagnosis of a picture with shorter side `side`, from its `windows` before and after."""
  found = blur(before, side)
  sharp_before, sharp_after, psnr = (
    float(value) for value in jax.device_get(_compared(before, after, found.gaussian))
  )
  times = sharp_after / max(sharp_before, _FLAT)
  return Diagnosis(found, sharp_before, sharp_after, psnr, tuple(_warnings(found, changed, times)))


def _directions(luma: np.ndarray, angle: float) -> float:
  """Energy of the coarse gradients of `luma` `[n h w]` along a direction over that across it.

  At most 1. Motion up to `COARSE` pixels hardly changes coarse structure; stripes have structure in
  one direction only, so nothing is known about blur along them.
  """
  n, height, width = luma.shape
  coarse = luma.reshape(n, height // COARSE, COARSE, width // COARSE, COARSE).mean((2, 4))
  up, right = -np.diff(coarse, axis=1)[:, :, 1:], np.diff(coarse, axis=2)[:, 1:]
  cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
  along, across = np.square(cos * right + sin * up).sum(), np.square(cos * up - sin * right).sum()
  return float(min(along / max(across, 1e-9), 1.0))


def _is_page(colors: np.ndarray) -> bool:
  """Whether windows `[n h w 3]` show text on paper."""
  luma = colors.mean(-1)
  low, high = np.quantile(luma, [0.001, 0.999], axis=(1, 2))
  least = low + NEAR_WHITE * (high - low)
  bright = (luma > least[:, None, None]).mean((1, 2))
  tints = (colors[..., ::2] - colors[..., 1:2]).std((1, 2)).sum(-1) / (high - low)
  return bool(np.median(bright) > PAPER and np.median(tints) < COLORLESS)


@functools.partial(jax.jit, static_argnames='scale')
def _measured(samples, seen, smooth, *, scale: int):
  """The Gaussian of all `seen` samples, the sigma of each, and whether gradients exceed noise."""
  n, height, width, c = samples.shape
  small = samples.reshape(n, height // scale, scale, width // scale, scale, c).mean((2, 4))
  plane = estimate_gaussian.stretched(small)
  slopes = estimate_gaussian.slopes(plane, smooth=smooth)
  each = estimate_gaussian.from_slopes(slopes, smooth=smooth).sigma
  typical = _quantile(jnp.where(seen[:, None], slopes, -1.0), STEEPEST, seen.sum())
  # Second differences are mostly noise; a quarter of them is enough for the slow median.
  rows = plane[:, 1::2, :] - plane[:, ::2, :]
  corners = jnp.abs(rows[..., 1::2] - rows[..., ::2]).reshape(n, -1)
  noise = estimate_gaussian.quantile(corners, 0.5) / 0.6745 / 2
  noise = _quantile(jnp.where(seen, noise, -1.0), 0.5, seen.sum())
  # Standard deviation of the smoothed derivative of white noise with standard deviation 1.
  steep = jnp.where(smooth > 0, 1 / (math.sqrt(8 * math.pi) * jnp.maximum(smooth, 1) ** 2), 1.81)
  clear = typical.min() > OVER_NOISE * NOISE_PEAK * steep * noise
  return estimate_gaussian.from_slopes(typical, smooth=smooth), each, clear


def _quantile(values: jax.Array, share: float, count: jax.Array) -> jax.Array:
  """Approximately the quantile `share` of the `count` largest `[n ...]` along the first axis."""
  ordered, _ = jax.lax.top_k(jnp.moveaxis(values, 0, -1), values.shape[0])
  return ordered[..., jnp.round((1 - share) * (count - 1)).astype(int)]


@jax.jit
def _compared(before, after, gaussian) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Sharpness before and after, and PSNR of the reblurred result."""

  def sharp(samples):
    luma = 255 * samples.mean(-1)
    # Smoothed first, otherwise a result would count as softer because it lost its noise.
    smooth = operators.Convolution(kernels.gaussian(SMOOTHED, 7)).apply(samples)
    return sharpness.laplacian_variance(smooth).mean() / jnp.maximum(jnp.var(luma), 1)

  error = jnp.mean((estimate_gaussian.blurred(after, gaussian) - before) ** 2)
  return sharp(before), sharp(after), -10 * jnp.log10(jnp.maximum(error, 1e-10))


def _named(gaussian: estimate_gaussian.Gaussian, evidence: float, largest: float) -> Blur:
  """The named blur, at most `largest` pixels across; 'unknown' if in doubt."""
  sigma, ratio, angle = (float(one) for one in gaussian)
  unknown = Blur('unknown', 0.0, 0.0, gaussian, 0.0)
  if evidence < (EVIDENCE_SHARP if sigma < SHARP else EVIDENCE):
    return unknown
  confidence = float(np.interp(evidence, *LIKELY))
  length, spread = sigma * math.sqrt(12), SMALLER * sigma
  if sigma < SHARP:
    return Blur('sharp', sigma, 0.0, gaussian, confidence)
  if ratio <= MOTION and length <= largest:
    return Blur('motion', length, angle, gaussian, confidence)
  if ratio >= ROUND and sigma >= BLURRED and 4 * spread <= largest:
    return Blur('defocus', spread, 0.0, gaussian, confidence)
  return unknown


def _warnings(found: Blur, changed: Change, times: float) -> list[str]:
  warnings = []
  if found.kind == 'sharp' and times < CLEARLY:
    warnings.append('the picture was already sharp')
  if changed.largest <= SAME:
    warnings.append('the result equals the input')
  drift = (changed.after - changed.before) / changed.count
  if np.abs(drift).max() > DRIFT:
    names = ('red', 'green', 'blue') if len(drift) == 3 else ('grey',)
    shifts = (f'{name} {100 * by:+.1f} %' for name, by in zip(names, drift, strict=True))
    warnings.append(f'color shift: {", ".join(shifts)}')
  share = changed.clipped / (changed.count * len(drift))
  if share > CLIPPED:
    warnings.append(f'{100 * share:.1f} % of the values are clipped to black or white')
  return warnings
