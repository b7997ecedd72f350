"""The probability that a restored picture is better than its input, from evidence about both.

A logistic regression turns the evidence, a few numbers, into one score, and isotonic regression
turns the score into a probability: of the calibration pictures with about 0.8, about 8 of 10 were
better. "Better" means a higher PSNR against the sharp picture. It holds for pictures that are
blurred and taken like those of the calibration.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

FOLDS = 5
"""Scores for the isotonic regression come from weights fitted without the fifth that they are in:
those of pictures that the weights were fitted to would look too certain."""

RIDGE = 1.0
"""Of the logistic regression, on standardized evidence, against the sum over the pictures."""


class Reliability(NamedTuple):
  """How evidence becomes a probability."""

  names: Sequence[str]
  """Of the evidence."""
  center: Sequence[float]
  spread: Sequence[float]
  """What the evidence is standardized by."""
  weights: Sequence[float]
  """Of each, and the constant."""
  scores: Sequence[float]
  """Increasing, where the probability is known; linear in between, constant beyond."""
  probabilities: Sequence[float]
  pictures: int
  """How many it was calibrated on."""
  data: str = ''
  """What they were."""

  def __call__(self, evidence: Mapping[str, float]) -> float:
    """The probability, from 0 to 1. Raises KeyError if evidence is missing."""
    row = np.asarray([[evidence[name] for name in self.names]])
    score = _scores(row, np.asarray(self.center), np.asarray(self.spread), np.asarray(self.weights))
    return float(np.interp(score[0], self.scores, self.probabilities))


def fit(
  evidence: Sequence[Mapping[str, float]], better: Sequence[bool], *, data: str = ''
) -> Reliability:
  """The reliability from the evidence of calibration pictures and whether each was improved.

  Pictures that belong together, such as those made from one photograph, must be neighbors. Raises
  ValueError if there are fewer pictures than `least`.
  """
  names, count = tuple(evidence[0]), len(evidence)
  if count < least(names):
    raise ValueError(f'{count} pictures are too few for a score: at least {least(names)}')
  rows = np.asarray([[one[name] for name in names] for one in evidence], np.float64)
  truth = np.asarray(better, np.float64)
  fold = np.arange(count) * FOLDS // count
  scores = np.empty(count)
  for one in range(FOLDS):
    held = fold == one
    scores[held] = _scores(rows[held], *_logistic(rows[~held], truth[~held]))
  known, probabilities = isotonic(scores, truth)
  center, spread, weights, known, probabilities = (
    tuple(map(float, one)) for one in (*_logistic(rows, truth), known, probabilities)
  )
  return Reliability(names, center, spread, weights, known, probabilities, count, data)


def least(names: Collection[str]) -> int:
  """The smallest number of pictures for so many kinds of evidence."""
  return 4 * len(names)


def isotonic(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(scores, probabilities): the nondecreasing probabilities that fit `truth` best.

  One for each block of pictures between which they do not differ, at the mean of its scores. As if
  one more picture of the lowest score had been better and one of the highest had not: nothing is
  certain after a few pictures.
  """
  order = np.argsort(scores, kind='stable')
  scores, truth = scores[order], truth[order]
  found = optimize.isotonic_regression(np.concatenate([[1.0], truth, [0.0]]))
  padded = np.concatenate([scores[:1], scores, scores[-1:]])
  starts = found.blocks[:-1]
  sizes = np.diff(found.blocks)
  return np.add.reduceat(padded, starts) / sizes, found.x[starts]


def _logistic(rows: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(center, spread, weights and constant) of a ridge logistic regression."""
  center, spread = rows.mean(0), np.maximum(rows.std(0), 1e-6)
  given = np.column_stack([(rows - center) / spread, np.ones(len(rows))])
  shrunk = np.append(np.full(rows.shape[1], RIDGE), 1e-3)

  def loss(weights):
    scores = given @ weights
    value = np.logaddexp(0, scores).sum() - truth @ scores + shrunk @ weights**2 / 2
    return value, given.T @ (special.expit(scores) - truth) + shrunk * weights

  return center, spread, optimize.minimize(loss, np.zeros(len(shrunk)), jac=True).x


def _scores(rows, center, spread, weights) -> np.ndarray:
  return (rows - center) / spread @ weights[:-1] + weights[-1]
