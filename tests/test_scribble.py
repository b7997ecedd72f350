"""Strokes spread up to edges, as distances and filters computed by hand say."""

import numpy as np
import pytest

from deblur_jax.guidance import scribble


def strokes(shape, *places):
  plane = np.zeros(shape, np.float32)
  for place in places:
    plane[place] = 1
  return plane


def halves(height, width, contrast=0.8):
  """A grey picture whose right half is brighter."""
  picture = np.full((height, width, 3), 0.1, np.float32)
  picture[:, width // 2 :] += contrast
  return picture


@pytest.mark.parametrize('size', [(60, 100), (330, 500)])
def test_a_stroke_spreads_up_to_the_edge_and_not_beyond(size):
  picture, (height, width) = halves(*size), size
  here = strokes(size, (slice(height // 3, height // 2), slice(width // 4, width // 4 + 4)))
  mask = scribble.spread(picture, here, np.zeros(size))
  assert mask.shape == size and mask.dtype == np.float32
  rows = slice(height // 3, height // 2)
  assert mask[rows, width // 6 : width // 2 - 4].min() > 0.7
  assert mask[:, width // 2 + 4 :].max() < 0.01
  rest = scribble.spread(picture, np.zeros(size), here)
  np.testing.assert_allclose(rest, 1 - mask, atol=0.02)


def test_without_edges_the_nearer_stroke_decides():
  size = (40, 101)
  left, right = strokes(size, (slice(None), 10)), strokes(size, (slice(None), 90))
  mask = scribble.spread(np.full((*size, 3), 0.5), left, right)
  # At a third of the way the distances are 1 to 2: 1 / (1 + (1 / 2)^4).
  np.testing.assert_allclose(mask[:, 50], 0.5, atol=1e-6)
  np.testing.assert_allclose(mask[20, 36:38].mean(), 16 / 17, atol=0.01)
  assert mask[:, :20].min() > 0.99 and mask[:, 82:].max() < 0.01


def test_the_distance_is_the_cheapest_path():
  wall = np.zeros((5, 5, 3))
  wall[:4, 2] = 1  # open at the bottom
  cost = scribble._distance(wall, strokes((5, 5), (0, 0)))
  assert np.isclose(cost[0, 4], (4 + 4 * 2**0.5) / 5)  # down, and up again
  wall[4, 2] = 1
  cost = scribble._distance(wall, strokes((5, 5), (0, 0)))
  assert np.isclose(cost[0, 4], 4 / 5 + 2 * 3 * scribble.EDGE)


def test_the_guided_filter_follows_its_guide():
  guide = np.repeat([[0.2, 0.9]], 20, 0).repeat(10, 1)
  rough = guide + 0.05 * np.random.default_rng(0).standard_normal(guide.shape)
  slope, offset = scribble._linear(guide, 3 * rough + 1)
  assert np.abs(slope * guide + offset - (3 * guide + 1)).max() < 0.15
  slope, offset = scribble._linear(np.full((9, 9), 0.5), np.arange(81.0).reshape(9, 9))
  np.testing.assert_allclose(slope, 0, atol=1e-9)
  assert np.isclose(offset[4, 4], 40)  # a mean of means


def test_wrong_strokes_are_refused():
  with pytest.raises(ValueError, match='no stroke'):
    scribble.spread(halves(8, 8), np.zeros((8, 8)), np.zeros((8, 8)))
  with pytest.raises(ValueError, match='one size'):
    scribble.spread(halves(8, 8), np.zeros((8, 9)), np.zeros((8, 8)))
