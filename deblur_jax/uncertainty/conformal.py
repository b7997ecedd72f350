"""Intervals around a restored picture that hold for new pictures: risk-controlling prediction sets.

S. Bates, A. Angelopoulos, L. Lei, J. Malik, M. Jordan, "Distribution-Free, Risk-Controlling
Prediction Sets", J. ACM 2021, arXiv:2101.02703; for images A. Angelopoulos et al., "Image-to-Image
Regression with Distribution-Free Uncertainty Quantification", ICML 2022, arXiv:2202.05265.

The interval of a value is restored +- scale * spread. On calibration pictures with known sharp
versions the smallest scale is found for which, with confidence 1 - delta, at most a share `risk` of
the values of a new picture lies outside on average. That holds if new pictures are blurred and
taken like those (exchangeable), and says nothing about a single picture or value.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np
from scipy import special

RISK, DELTA = 0.1, 0.1


class Calibration(NamedTuple):
  """A scale and what it promises."""

  scale: float
  """Half the width of an interval, in units of the spread."""
  risk: float
  """Largest expected share of values outside their intervals."""
  delta: float
  """Probability that the calibration pictures misled."""
  pictures: int
  data: str = ''
  """What the pictures were."""
  spread_of: str = 'turns'
  """What the spread was taken over, see `photos.load`."""


def calibrate(
  ratios: Sequence[np.ndarray], *, risk: float = RISK, delta: float = DELTA, data: str = ''
) -> Calibration:
  """The calibration from |sharp - restored| / spread of each picture, arrays of any shape.

  Raises as `largest_loss`.
  """
  count = len(ratios)
  allowed = largest_loss(count, risk, delta)
  # The mean loss falls with the scale, in steps at the ratios: the smallest that is low enough.
  weights = np.concatenate([np.full(one.size, 1 / (one.size * count)) for one in ratios])
  values = np.concatenate([np.ravel(one) for one in ratios])
  order = np.argsort(values)[::-1]
  outside = np.cumsum(weights[order])
  place = int(np.searchsorted(outside, allowed * (1 + 1e-12), side='right'))
  return Calibration(float(values[order][min(place, len(order) - 1)]), risk, delta, count, data)


def largest_loss(count: int, risk: float, delta: float) -> float:
  """The largest mean loss of `count` pictures that shows that the expected one is at most `risk`.

  With confidence 1 - `delta`; found by bisection, to 1e-9. Raises ValueError if not even 0 does.
  """
  if p_value(0.0, count, risk) > delta:
    least = math.ceil(math.log(delta) / math.log(1 - risk))
    raise ValueError(f'{count} pictures are too few to calibrate with: at least {least}')
  low, high = 0.0, risk
  while high - low > 1e-9:
    middle = (low + high) / 2
    low, high = (middle, high) if p_value(middle, count, risk) <= delta else (low, middle)
  return low


def p_value(loss: float, count: int, risk: float) -> float:
  """Of the mean `loss` in [0, 1] of `count` pictures if the expected loss exceeds `risk`.

  The smaller one of Hoeffding's bound and Bentkus's (Bates et al., Theorem 4 and Section 3.1).
  """
  loss = min(loss, risk)
  kept = (1 - loss) * math.log((1 - loss) / (1 - risk))
  lost = loss * math.log(loss / risk) if loss else 0.0
  hoeffding = math.exp(-count * (kept + lost))
  bentkus = math.e * float(special.bdtr(math.ceil(count * loss), count, risk))
  return min(hoeffding, bentkus)


def coverage(ratios: np.ndarray, scale: float) -> float:
  """The share of values inside their intervals."""
  return float(np.mean(ratios <= scale))
