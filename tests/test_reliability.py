"""Scores that mean what they say, and measures of them by hand."""

import numpy as np
import pytest
from scipy import special

from deblur_jax.photos import assessment, trust
from deblur_jax.uncertainty import conformal, measures, reliability, stored


def test_isotonic_by_hand():
  # With a 1 below and a 0 above: 1 0 1 0 0 1 1 1 0 -> blocks of 5 (2/5) and 4 (3/4).
  scores, probabilities = reliability.isotonic(np.arange(7.0), np.array([0, 1, 0, 0, 1, 1, 1.0]))
  np.testing.assert_allclose(probabilities, [2 / 5, 3 / 4])
  np.testing.assert_allclose(scores, [(0 + 0 + 1 + 2 + 3) / 5, (4 + 5 + 6 + 6) / 4])
  # Even if all were better, as after n pictures with an unknown share: (n + 1) / (n + 2).
  assert reliability.isotonic(np.arange(8.0), np.ones(8))[1].max() == pytest.approx(9 / 10)


def test_scores_are_the_probabilities_that_made_the_data():
  random = np.random.default_rng(0)

  def draw(count):
    clues = random.normal(size=(count, 3))
    chance = special.expit(2 * clues[:, 0] - clues[:, 1] + 1)  # the third says nothing
    rows = [dict(zip('abc', row, strict=True)) for row in clues]
    return rows, random.random(count) < chance, chance

  rows, better, _ = draw(1500)
  found = reliability.fit(rows, better, data='synthetic')
  assert found.weights[0] > 1.5 and found.weights[1] < -0.7 and abs(found.weights[2]) < 0.3
  assert (np.diff(found.scores) > 0).all() and (np.diff(found.probabilities) >= 0).all()
  rows, better, chance = draw(3000)
  scores = np.array([found(row) for row in rows])
  assert np.abs(scores - chance).mean() < 0.05
  assert measures.calibration_error(scores, better) < 0.04
  assert measures.rank_correlation(scores, chance) > 0.97


def test_too_few_pictures_for_a_score_are_refused():
  with pytest.raises(ValueError, match='7 pictures are too few for a score: at least 8'):
    reliability.fit([{'a': 1.0, 'b': 2.0}] * 7, [True] * 7)


def test_calibration_error_by_hand():
  scores, truth = np.array([0.75, 0.75, 0.75, 0.75, 0.2]), np.array([1, 1, 0, 1, 1])
  # 4 of 5 with 0.75 and a share of 3/4; 1 of 5 with 0.2 and a share of 1.
  assert measures.bins(scores, truth) == [(0.2, 1.0, 1), (0.75, 0.75, 4)]
  assert measures.calibration_error(scores, truth) == pytest.approx(0.8 / 5)
  assert measures.calibration_error(np.array([1.0]), np.array([1])) == 0


def test_sparsification_by_hand():
  errors = np.arange(1.0, 21)  # mean 10.5; without the k largest (21 - k) / 2
  perfect = measures.sparsification(errors, errors**2)
  np.testing.assert_allclose(perfect.by_error, (21 - np.arange(20)) / 21)
  assert perfect.ause == pytest.approx(0, abs=1e-12)
  worst = measures.sparsification(errors, -errors)  # the smallest errors go first
  np.testing.assert_allclose(worst.by_spread, (21 + np.arange(20)) / 21)
  assert worst.ause == pytest.approx(2 * np.mean(np.arange(20)) / 21)


def test_an_assessment_by_hand():
  # Two pictures; intervals of +-0.2 hold half of the errors of one and all of those of the other.
  errors = [np.array([0.1, 0.3]), np.array([0.1, 0.15])]
  judged = [
    trust.Judged(str(i), {'clue': float(i)}, gain, one, np.full(2, 0.1))
    for i, (gain, one) in enumerate(zip((-1.0, 2.0), errors, strict=True))
  ]
  known = stored.Stored(
    conformal.Calibration(2.0, 0.1, 0.1, 50),
    reliability.Reliability(('clue',), (0.0,), (1.0,), (1.0, 0.0), (0.0, 1.0), (0.2, 0.9), 50),
  )
  found = assessment.assess(judged, known)
  assert (found.pictures, found.coverage, found.better) == (2, 0.75, 0.5)
  assert found.width == pytest.approx(2 * 0.2 * 255)
  assert found.scores == pytest.approx([0.2, 0.9])
  assert found.ece == pytest.approx((0.2 + 0.1) / 2)
  assert found.rank_correlation == pytest.approx(1)
  # Equal spreads order nothing: the first error goes first. By errors, 0.3 and 0.15 do.
  assert found.by_spread[10] == pytest.approx((0.3 / 0.2 + 0.15 / 0.125) / 2)
  assert found.by_error[10] == pytest.approx((0.1 / 0.2 + 0.1 / 0.125) / 2)


def test_roc_by_hand():
  # Of the 6 pairs of a true and a false case, 4 are in order and one is a tie.
  found = measures.roc(np.array([0.9, 0.5, 0.3]), np.array([0.5, 0.1]))
  assert found.area == pytest.approx(4.5 / 6)
  assert (found.false[0], found.true[0], found.false[-1], found.true[-1]) == (0, 0, 1, 1)


def test_a_calibration_of_judged_pictures():
  random = np.random.default_rng(0)
  judged = [
    trust.Judged(
      str(i), {'clue': (clue := random.normal())}, clue + 0.5 * random.normal(), *np.ones((2, 9))
    )
    for i in range(60)
  ]
  found = trust.calibrated(judged, data='synthetic', spread_of='turns')
  assert found.intervals.scale == 1 and found.intervals.spread_of == 'turns'
  assert found.reliability({'clue': 2.0}) > 0.8 > 0.3 > found.reliability({'clue': -2.0})
  assert stored.Stored(None, None).plain() == {} and found.plain().keys() == {
    'uncertainty',
    'reliability',
  }
  without = trust.calibrated([one._replace(spreads=None) for one in judged])
  assert without.intervals is None and without.reliability.pictures == 60
