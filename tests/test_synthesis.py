"""Mixes beyond blur: what is drawn is reported, alternatives that act on pixels, errors."""

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest
import scipy.ndimage

from deblur_jax import color
from deblur_jax.blur import noise, projective, synthesis

MIX = 'motion(3..9) or camera(3..6) or quantize(2..5) or sharp | noise(0.01..0.05)'


@pytest.fixture
def sharp():
  coarse = np.random.default_rng(0).uniform(size=(8, 8, 10, 3))
  return np.clip(scipy.ndimage.zoom(coarse, (1, 4, 4, 1)), 0, 1).astype(np.float32)


to_linear, to_srgb = jax.jit(color.SRGB.to_linear), jax.jit(color.SRGB.from_linear)
add_noise = jax.jit(noise.gaussian)


@jax.jit
def move_camera(image, poses, focal):
  seen = projective.homographies(poses, *image.shape[:2], focal=focal)
  return to_srgb(projective.ProjectiveMotion(seen).apply(to_linear(image)))


def by_hand(sharp, draws):
  """The picture that the drawn values give, by scipy and the steps' own functions."""
  image = sharp
  for step, values, psf in draws:
    if step == 'motion':
      linear = np.asarray(to_linear(image), np.float64)
      linear = scipy.ndimage.convolve(linear, psf[..., None].astype(float), mode='mirror')
      image = to_srgb(linear.astype(np.float32))
    elif step == 'camera':
      image = move_camera(image, values['poses'], values['focal'])
    elif step == 'quantize':
      levels = 2 ** values['bits'] - 1
      image = np.round(image * levels) / levels
    elif step == 'noise':
      key = jax.random.wrap_key_data(values['key'])
      image = add_noise(key, image, sigma=values['sigma'])
    else:
      assert step == 'sharp'
  return np.clip(image, 0, 1)


def test_the_reported_draws_reproduce_the_picture(sharp):
  degrade, key = synthesis.parse(MIX), jax.random.key(2)
  blurred = jax.jit(degrade)(key, sharp)
  drawn = [degrade.drawn(key, index) for index in range(8)]
  assert {draws[0].step for draws in drawn} == {'motion', 'camera', 'quantize', 'sharp'}
  for draws, image, found in zip(drawn, sharp, blurred, strict=True):
    difference = np.abs(by_hand(image, draws) - found)
    assert difference.max() < 2e-5, [draw.step for draw in draws]


def test_draws_are_within_their_ranges(key):
  degrade = synthesis.parse('shake(9..31) | poisson(0.01) | jpeg(60..62)')
  drawn = [degrade.drawn(key, index) for index in range(60)]
  shake, poisson, saved = zip(*drawn, strict=True)
  assert all(9 <= draw.values['extent'] <= 31 for draw in shake)
  assert all(draw.psf.shape == (63, 63) and abs(draw.psf.sum() - 1) < 1e-5 for draw in shake)
  assert {float(draw.values['shot']) for draw in poisson} == {float(np.float32(0.01))}
  assert len({tuple(draw.values['key'].tolist()) for draw in poisson}) == 60
  qualities = [float(draw.values['quality']) for draw in saved]
  assert all(9 < qualities.count(quality) < 33 for quality in (60.0, 61.0, 62.0))


def test_every_kind_of_step_works_on_four_devices(key, sharp):
  degrade = synthesis.parse('disk(2) or poisson | saturate or jpeg')
  expected = jax.jit(degrade)(key, sharp)
  mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec('data'))
  with jax.set_mesh(mesh):
    sharded = jax.jit(degrade, out_shardings=split)(key, jax.device_put(sharp, split))
  # JPEG's rounding can turn an error in the last bit into a step.
  assert (np.abs(sharded - expected) < 1e-5).mean() > 0.99
  assert np.abs(expected - sharp).max() > 0.05


def test_accelerators_take_all_images_at_once(key, sharp, monkeypatch):
  text = 'noise(0.1) or quantize(3) or sharp'
  expected = jax.jit(synthesis.parse(text))(key, sharp)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  found = jax.jit(lambda key, sharp: synthesis.parse(text)(key, sharp))(key, sharp)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  changes = np.abs(found - sharp).mean(axis=(1, 2, 3))
  assert (changes == 0).any() and (changes > 0.06).any()  # 0.08 is the mean of such noise
  assert ((changes > 0.03) & (changes < 0.04)).any()  # 1/28 is that of rounding to eight levels


@pytest.mark.parametrize(
  'text, message',
  [
    ('jpeg(0..50)', r"step 'jpeg\(0..50\)': quality must be between 1 and 100, not 0..50"),
    ('jpeg(60.5)', 'quality must be a whole number, not 60.5'),
    ('quantize(8..20)', 'bits must be between 1 and 16'),
    ('bokeh(3, blades=2)', 'blades must be a whole number, at least 3, not 2'),
    ('bokeh(3, roundness=1.5)', 'roundness must be between 0 and 1'),
    ('shake | saturate(0.5)', 'gain must be between 1 and inf'),
    ('saturate | shake', "step 'saturate' comes first"),
    ('camera(5, focus=1)', "step 'camera"),
    ('poison(0.01)', 'did you mean poisson'),
  ],
)
def test_an_invalid_mix_names_the_step(text, message):
  with pytest.raises(ValueError, match=message) as caught:
    synthesis.parse(text)
  assert '\n' not in str(caught.value)
