"""How good uncertainties are, once the truth is known: sparsification, calibration of scores."""

from typing import Any, NamedTuple

import numpy as np

REMOVED = np.arange(20) / 20
"""Shares of values that sparsification removes."""

BINS = 10


class Sparsification(NamedTuple):
  """Mean error of what is left when the most uncertain values are removed."""

  removed: np.ndarray
  """Shares of the values, from 0 to almost 1."""
  by_spread: np.ndarray
  """Mean error of the rest, relative to that of all values, if the largest spreads are removed."""
  by_error: np.ndarray
  """The same if the largest errors are removed: no order can do better."""

  @property
  def ause(self) -> float:
    """Area between the curves; 0 if spreads order the values as errors do."""
    return float(np.mean(self.by_spread - self.by_error))


def sparsification(errors: np.ndarray, spreads: np.ndarray) -> Sparsification:
  """The curves for absolute errors and spreads of the same shape (Ilg et al. 2018, section 5)."""
  errors, spreads = np.ravel(errors).astype(np.float64), np.ravel(spreads)
  first = (REMOVED * errors.size).astype(int)

  def curve(order: np.ndarray) -> np.ndarray:
    rest = np.cumsum(errors[order][::-1])[::-1] / np.arange(errors.size, 0, -1)
    return rest[first] / max(rest[0], 1e-12)

  by_spread, by_error = (np.argsort(-one, kind='stable') for one in (spreads, errors))
  return Sparsification(REMOVED, curve(by_spread), curve(by_error))


def bins(scores: np.ndarray, truth: np.ndarray) -> list[tuple[float, float, int]]:
  """(mean score, share that was true, count) of each tenth of [0, 1] that has scores."""
  scores, truth = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
  which = np.minimum((scores * BINS).astype(int), BINS - 1)
  groups = [which == one for one in range(BINS)]
  return [
    (float(scores[one].mean()), float(truth[one].mean()), int(one.sum()))
    for one in groups
    if one.any()
  ]


def calibration_error(scores: np.ndarray, truth: np.ndarray) -> float:
  """Expected calibration error (ECE): the mean |score - share| over `bins`, weighted by counts."""
  found = bins(scores, truth)
  return sum(abs(score - share) * count for score, share, count in found) / len(scores)


def rank_correlation(one: Any, two: Any) -> float:
  """Spearman's; 0 if either is constant."""
  from scipy import stats  # takes half a second, which training need not wait for

  if np.ptp(one) == 0 or np.ptp(two) == 0:
    return 0.0
  found: Any = stats.spearmanr(one, two)
  return float(found.statistic)


class ROC(NamedTuple):
  """What share of true cases is found at which share of false alarms."""

  false: np.ndarray
  """Shares of the false cases above each threshold, increasing from 0 to 1."""
  true: np.ndarray
  """Shares of the true cases above it."""

  @property
  def area(self) -> float:
    """Area under the curve (AUC): the probability that a true case has the higher score."""
    return float(np.trapezoid(self.true, self.false))


def roc(true: np.ndarray, false: np.ndarray) -> ROC:
  """The receiver operating characteristic of scores of true and of false cases."""
  levels = np.unique(np.concatenate([true, false]))[::-1]
  above = [[0.0, *((one >= level).mean() for level in levels)] for one in (false, true)]
  return ROC(*map(np.asarray, above))
