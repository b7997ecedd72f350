"""Padding and tiles: against numpy, brute force and filters whose whole result is known."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import tiling
from deblur_jax.types import Needs

EXACT = Needs(multiple=1, tiling='exact', halo=3)


@pytest.mark.parametrize(
  'fields, told',
  [
    ({'tiling': 'aproximate'}, r"Needs: unknown tiling 'aproximate' \(known: exact, approximate, "),
    ({'multiple': 0}, 'Needs: multiple must be an integer of at least 1, got 0'),
    ({'multiple': 8.0}, 'Needs: multiple must be an integer of at least 1, got 8.0'),
    ({'halo': -1}, 'Needs: halo must be an integer of at least 0, got -1'),
    ({'side': -64}, 'Needs: side must be an integer of at least 0, got -64'),
    ({'reach': -1}, 'Needs: reach must be an integer of at least 0, got -1'),
  ],
)
def test_needs_that_cannot_be_met_are_refused(fields, told):
  with pytest.raises(ValueError, match=told) as error:
    Needs(**fields)
  assert '\n' not in str(error.value)
  with pytest.raises(ValueError, match=told):
    dataclasses.replace(EXACT, **fields)


def box(images):
  """7x7 mean with zeros around the image, as a network's zero padding has it."""
  kernel = jnp.zeros((7, 7, 3, 3)) + jnp.eye(3)[None, None] / 49
  return jax.lax.conv_general_dilated(
    images, kernel, (1, 1), [(3, 3), (3, 3)], dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def two_levels(images):
  """A little U-Net: halves by means of 2x2, filters, doubles; needs even sides and phases."""
  b, h, w, c = images.shape
  half = images.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
  up = jnp.repeat(jnp.repeat(box(half), 2, 1), 2, 2)
  return images - 0.5 * up


class Seen:
  """A restore function that notes the shapes that it is called with."""

  def __init__(self, function, multiple=1):
    self.function, self.multiple, self.shapes = function, multiple, []

  def __call__(self, images):
    assert images.shape[1] % self.multiple == 0
    assert images.shape[2] % self.multiple == 0
    self.shapes.append(images.shape)
    return self.function(images)


def noise(*shape):
  return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize('height,width', [(1, 1), (1, 7), (5, 1), (2, 3), (13, 20)])
@pytest.mark.parametrize('more', [0, 1, 19, 40])
def test_pad_is_numpys_reflection_at_bottom_and_right(height, width, more):
  images = noise(2, height, width, 3)
  expected = np.pad(images, ((0, 0), (0, more), (0, more + 1), (0, 0)), mode='reflect')
  np.testing.assert_array_equal(tiling.pad(images, height + more, width + more + 1), expected)


def test_pad_refuses_to_cut():
  with pytest.raises(ValueError, match='smaller'):
    tiling.pad(noise(4, 4, 3), 3, 8)


def test_any_size_from_1_to_67_comes_back_in_its_size():
  restore = Seen(lambda images: images, multiple=16)
  for height, width in [*itertools.product((1, 2, 15, 16, 17, 67), repeat=2), (33, 50)]:
    image = noise(height, width, 3)
    np.testing.assert_array_equal(tiling.tiled(restore, image, Needs(multiple=16)), image)
  assert set(restore.shapes) <= {(1, h, w, 3) for h in range(16, 81, 16) for w in range(16, 81, 16)}


@pytest.mark.parametrize('tiling_kind', ['exact', 'approximate'])
@pytest.mark.parametrize('height,width', [(200, 300), (101, 67), (64, 257), (31, 400), (1, 300)])
def test_identity_through_tiles_is_the_image(tiling_kind, height, width):
  restore = Seen(lambda images: images, multiple=8)
  image = noise(height, width, 3)
  needs = Needs(multiple=8, tiling=tiling_kind, halo=5)
  restored = tiling.tiled(restore, image, needs, tile=64)
  np.testing.assert_allclose(restored, image, atol=1e-6)
  assert len(restore.shapes) > 1
  assert len(set(restore.shapes)) == 1
  assert max(restore.shapes[0][1:3]) <= 64


@pytest.mark.parametrize('height,width', [(64, 64), (10, 200), (65, 64), (1, 1), (150, 101)])
def test_methods_of_one_size_get_no_other(height, width):
  restore = Seen(lambda images: images)
  needs = Needs(tiling='approximate', halo=7, side=64)  # overlap 46
  image = noise(height, width, 3)
  restored = tiling.tiled(restore, image, needs)
  np.testing.assert_allclose(restored, image, atol=1e-6)
  rows, columns = (1 + max(-(-(size - 64) // 18), 0) for size in (height, width))
  assert restore.shapes == [(1, 64, 64, 3)] * (rows * columns)
  assert tiling.count(height, width, needs) == rows * columns
  batch = noise(3, height, width, 1)
  np.testing.assert_allclose(tiling.tiled(restore, batch, needs), batch, atol=1e-6)
  assert {shape[1:3] for shape in restore.shapes} == {(64, 64)}


@pytest.mark.parametrize('height,width', [(150, 211), (50, 129), (7, 90), (1, 65)])
def test_exact_filter_in_tiles_is_the_whole_up_to_the_borders(height, width):
  image = noise(height, width, 3)
  restored = tiling.tiled(box, image, EXACT, tile=32)
  np.testing.assert_allclose(restored, box(image[None])[0], atol=1e-5)


def test_exact_network_with_levels_keeps_its_phase():
  needs = Needs(multiple=2, tiling='exact', halo=8)
  images = noise(2, 131, 97, 3)
  whole = tiling.tiled(two_levels, images, needs)
  restored = tiling.tiled(two_levels, images, needs, tile=48)
  np.testing.assert_allclose(restored, whole, atol=1e-5)


def test_halo_too_small_shows():
  """The check above can fail: with less context than the filter sees, tiles differ."""
  image = noise(150, 211, 3)
  restored = tiling.tiled(box, image, Needs(1, 'exact', 1), tile=32)
  assert np.abs(restored - box(image[None])[0]).max() > 1e-2


@pytest.mark.parametrize('kind', ['ramp', 'flat', 'black', 'checkerboard'])
@pytest.mark.parametrize('side,tile', [(0, 96), (96, None)])
def test_no_seams_where_statistics_differ_from_tile_to_tile(kind, side, tile):
  """A function that adds a tenth of each tile's mean: tiles disagree, and must fade, not jump."""
  y, x = np.mgrid[:150, :400].astype(np.float32)
  plane = {'ramp': x / 399, 'flat': 0 * x + 0.6, 'black': 0 * x, 'checkerboard': (x + y) % 2}[kind]
  image = np.repeat(plane[..., None], 3, -1)

  def restore(images):
    return images + 0.1 * images.mean((1, 2, 3), keepdims=True)

  needs = Needs(multiple=8, tiling='approximate', halo=4, side=side)
  added = tiling.tiled(restore, image, needs, tile=tile) - image
  jumps = max(np.abs(np.diff(added, axis=0)).max(), np.abs(np.diff(added, axis=1)).max())
  # Neighboring tiles of the ramp differ by at most 0.1 * 96 / 399; a hard seam would show it all.
  assert jumps < 0.1 * 96 / 399 / 10
  if kind in ('flat', 'black'):
    np.testing.assert_allclose(added, 0.1 * plane.mean(), atol=1e-6)


def test_large_images_are_cut_by_themselves_and_small_ones_are_not():
  restore = Seen(lambda images: images)
  image = np.zeros((1100, 1300, 1), np.uint8)
  assert tiling.tiled(restore, image, EXACT).shape == image.shape
  assert set(restore.shapes) == {(1, 371, 438, 1)}  # 3 x 3 of at most 512, overlapping by 6
  restore.shapes.clear()
  tiling.tiled(restore, image, Needs(tiling='approximate', halo=16))
  assert set(restore.shapes) == {(1, 582, 682, 1)}  # 2 x 2 of at most 1024, overlapping by 64
  restore.shapes.clear()
  tiling.tiled(restore, image, Needs(tiling='none'))
  tiling.tiled(restore, image[:720, :1280], EXACT)
  assert restore.shapes == [(1, 1100, 1300, 1), (1, 720, 1280, 1)]


def test_tiles_cover_an_image_with_little_waste():
  needs = Needs(multiple=8, tiling='exact', halo=6)  # overlap 12 -> 16
  # Steps of 88 take seven tiles over 600; seven of 100 just reach, and 104 is the next multiple.
  assert tiling.tile_shape(600, 100, needs, tile=100) == (104, 104)
  # Two steps of 184 over 333 pixels: 317 / 2 and the overlap, rounded up. Four over 700.
  assert tiling.tile_shape(333, 700, needs, tile=200) == (176, 192)
  restore = Seen(lambda images: images, multiple=8)
  image = noise(333, 700, 1)
  np.testing.assert_allclose(tiling.tiled(restore, image, needs, tile=200), image, atol=1e-6)
  assert restore.shapes == [(1, 176, 192, 1)] * 8


def test_batches_too_large_for_one_piece_go_one_by_one():
  restore = Seen(lambda images: images)
  images = noise(3, 700, 1000, 1)
  np.testing.assert_array_equal(tiling.tiled(restore, images, EXACT), images)
  assert restore.shapes == [(1, 700, 1000, 1)] * 3
  restore.shapes.clear()
  np.testing.assert_array_equal(tiling.tiled(restore, images[:, :70], EXACT), images[:, :70])
  assert restore.shapes == [(3, 70, 1000, 1)]


def test_wrong_tiles_are_refused():
  with pytest.raises(ValueError, match='too small: this method requires at least 7'):
    tiling.tiled(box, noise(60, 60, 3), EXACT, tile=6)
  with pytest.raises(ValueError, match='requires the whole picture'):
    tiling.tiled(box, noise(60, 60, 3), Needs(tiling='none'), tile=32)
  with pytest.raises(ValueError, match='requires tiles of 64 pixels, got 32'):
    tiling.tiled(box, noise(60, 60, 3), Needs(tiling='approximate', side=64), tile=32)
  with pytest.raises(ValueError, match='no pixels'):
    tiling.tiled(box, np.zeros((0, 5, 3)), EXACT)
  with pytest.raises(ValueError, match=r'\[h w c\]'):
    tiling.tiled(box, noise(5, 5), EXACT)


def test_self_ensemble_of_an_equivariant_function_is_that_function():
  images = noise(2, 20, 33, 3)
  np.testing.assert_allclose(tiling.self_ensemble(box)(images), box(images), atol=1e-6)


def test_self_ensemble_averages_what_is_not_equivariant():
  def one_sided(images):  # the left neighbor
    return np.roll(images, 1, axis=2)

  impulse = np.zeros((1, 9, 9, 1), np.float32)
  impulse[0, 4, 4] = 1
  expected = np.zeros((9, 9))
  expected[[3, 5, 4, 4], [4, 4, 3, 5]] = 0.25
  np.testing.assert_allclose(tiling.self_ensemble(one_sided)(impulse)[0, ..., 0], expected)
