"""Evidence for how reliable a restored picture is, and what becomes of pictures with known truth.

`uncertainty.reliability` turns the evidence into a probability.
"""

from collections.abc import Iterator, Sequence
import math
from typing import Any, NamedTuple

import numpy as np

from deblur_jax import color
from deblur_jax.photos import blind_check, diagnosis
from deblur_jax.photos.restorer import Restorer, middle
from deblur_jax.solvers import estimate_psf
from deblur_jax.types import as_float
from deblur_jax.uncertainty import conformal, reliability, stored

LEAST = 1e-4
"""Smallest change, spread and noise that differ from none."""

LEAST_OVERSHOOT = 0.1
"""Smaller ones differ only in how little the PSF does."""


class Judged(NamedTuple):
  """A restored picture whose sharp version is known."""

  name: str
  evidence: dict[str, float]
  gain: float
  """PSNR of the result minus that of the input, in dB."""
  errors: np.ndarray
  """|sharp - restored| `[h w c]`."""
  spreads: np.ndarray | None
  """None if the method has no spread."""


def evidence(
  before: np.ndarray,
  after: np.ndarray,
  found: diagnosis.Diagnosis,
  changed: diagnosis.Change,
  *,
  spread: float | None = None,
  psf: tuple[float, float] | None = None,
) -> dict[str, float]:
  """Numbers that tell good results from bad ones, by name; mostly logarithms.

  `before` and `after` are `diagnosis.windows` of input and result, `spread` is the mean spread, and
  `psf` the confidence in an estimated PSF and its `blind_check.overshoot`.
  """
  gaussian = found.blur.gaussian
  known = {
    'changed': _log(float(np.sqrt(np.mean(np.square(after - before))))),
    'reblurred': min(found.reblurred_psnr, 60.0) / 20,
    'sharper': _log(found.sharpness_after) - _log(found.sharpness_before),
    'sharpness': _log(found.sharpness_before),
    'blur': _log(float(gaussian.sigma)),
    'round': float(gaussian.ratio),
    'confidence': found.blur.confidence,
    'noise': _log(noise(before)),
    'noisier': _log(noise(after)) - _log(noise(before)),
    'clipped': math.sqrt(changed.clipped / (changed.count * len(changed.before))),
  }
  known |= {} if spread is None else {'spread': _log(spread)}
  if psf is not None:
    confidence, over = psf
    accepted = confidence >= blind_check.LEAST_CONFIDENCE and over <= blind_check.MOST_OVERSHOOT
    known |= {'psf_confidence': confidence, 'psf_accepted': float(accepted)}
    known['overshoot'] = math.log10(max(over, LEAST_OVERSHOOT))
  return known


def noise(samples: np.ndarray) -> float:
  """Standard deviation of white noise in windows `[n h w c]`, see `solvers.estimate_noise`."""
  plane = samples.mean(-1)
  top, bottom = plane[:, ::2], plane[:, 1::2]
  diagonal = (top[..., ::2] - top[..., 1::2] - bottom[..., ::2] + bottom[..., 1::2]) / 2
  return float(np.median(np.abs(diagonal)) / 0.6745)


def of_psf(
  colors: np.ndarray, found: estimate_psf.Estimate, transfer: color.Transfer = color.SRGB
) -> tuple[float, float]:
  """The evidence about an estimated PSF of a picture `[h w c]` in [0, 1]."""
  return float(found.confidence), blind_check.overshoot(colors, found.psf, transfer)


def judge(restorer: Restorer, pictures: Any, *, best_shift: int = 0) -> Iterator[Judged]:
  """Yields what becomes of each of `pictures`, a sequence of dicts of 'name', 'blurred', 'sharp'.

  Spreads are computed for networks, not for classical methods. If sharp pictures are not aligned,
  `best_shift` is the largest shift in pixels at which input and result are each compared with them.
  """
  for i in range(len(pictures)):
    example = pictures[i]
    yield _judged(restorer, example['name'], example['blurred'], example['sharp'], best_shift)


def calibrated(
  judged: Sequence[Judged],
  *,
  risk: float = conformal.RISK,
  delta: float = conformal.DELTA,
  data: str = '',
  spread_of: str = '',
) -> stored.Stored:
  """Intervals, if there are spreads, and the reliability, if there are enough pictures.

  Raises ValueError if there are too few pictures for intervals.
  """
  intervals, score = None, None
  ratios = [one.errors / one.spreads for one in judged if one.spreads is not None]
  if ratios:
    intervals = conformal.calibrate(ratios, risk=risk, delta=delta, data=data)
    intervals = intervals._replace(spread_of=spread_of)
  if len(judged) >= reliability.least(judged[0].evidence):
    improved = [one.gain > 0 for one in judged]
    score = reliability.fit([one.evidence for one in judged], improved, data=data)
  return stored.Stored(intervals, score)


def describe(found: stored.Stored, judged: Sequence[Judged]) -> str:
  """Sentences about a calibration and the pictures that it was made from."""
  lines = []
  if intervals := found.intervals:
    inside = [
      conformal.coverage(one.errors / one.spreads, intervals.scale)
      for one in judged
      if one.spreads is not None
    ]
    lines.append(
      f'intervals of {intervals.scale:.2f} times the spread hold {np.mean(inside):.1%} of the '
      f'values here, and with {1 - intervals.delta:.0%} confidence at least '
      f'{1 - intervals.risk:.0%} of those of new pictures'
    )
  if found.reliability:
    scores = [found.reliability(one.evidence) for one in judged]
    lines.append(
      f'{np.mean([one.gain > 0 for one in judged]):.0%} of the results are better than their '
      f'input; reliabilities are between {min(scores):.2f} and {max(scores):.2f}'
    )
  else:
    least = reliability.least(judged[0].evidence)
    lines.append(f'no reliability, which requires at least {least} pictures')
  return '\n'.join(lines)


def _judged(
  restorer: Restorer, name: str, blurred: np.ndarray, sharp: np.ndarray, best_shift: int
) -> Judged:
  psf, spreads, known = None, None, {}
  if restorer.find:
    psf = restorer.find_psf(blurred[None])
    assert psf is not None
    known['psf'] = of_psf(middle(blurred[None]), psf)
  else:
    spreads = np.concatenate([spread for _, spread in restorer.spreads(blurred[None])], axis=1)[0]
    known['spread'] = float(spreads.mean())
  parts = restorer.parts(blurred[None], psf=psf and psf.psf)
  restored = np.concatenate([rows[0] for _, rows in parts])
  before, after = (
    diagnosis.windows(image.shape, lambda start, stop: image[start:stop])
    for image in (blurred, restored)
  )
  changed = diagnosis.change(blurred, restored)
  found = diagnosis.diagnose(before, after, changed, min(blurred.shape[:2]))
  errors = [_squared_error(image, sharp, best_shift) for image in (blurred, restored)]
  return Judged(
    name,
    evidence(before, after, found, changed, **known),
    10 * math.log10(max(errors[0], 1e-10) / max(errors[1], 1e-10)),
    np.abs(as_float(sharp) - as_float(restored)),
    spreads,
  )


def _squared_error(image: np.ndarray, sharp: np.ndarray, best_shift: int) -> float:
  if best_shift:
    from deblur_jax.evaluation import protocols

    image, sharp = protocols.shifted(image, sharp, best_shift)
  return float(np.mean(np.square(as_float(image) - as_float(sharp), dtype=np.float64)))


def _log(value: float) -> float:
  return math.log10(max(value, LEAST))
