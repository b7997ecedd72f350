"""The sensor: noise against its statistics, JPEG against libjpeg, saturation by hand."""

import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import scipy.stats
import skimage.data

from deblur_jax import color
from deblur_jax.blur import jpeg, noise, sensor, synthesis


@pytest.mark.parametrize('rate', [0.05, 1.0, 7.9, 8.1, 30.0])
def test_counts_follow_the_poisson_distribution(rate, key):
  count = 400_000
  drawn = np.asarray(jax.jit(noise.poisson)(key, jnp.full(count, rate)))
  assert (drawn == np.round(drawn)).all() and drawn.min() >= 0
  assert drawn.mean() == pytest.approx(rate, rel=5 * (rate * count) ** -0.5)
  assert drawn.var() == pytest.approx(rate, rel=0.02 if rate > 1 else 0.05)
  numbers = np.arange(int(drawn.max()) + 1)
  shares = np.bincount(drawn.astype(int)) / count
  distance = np.abs(shares - scipy.stats.poisson.pmf(numbers, rate)).sum() / 2
  assert distance < 0.008  # samples of an exact generator differ by up to 0.004


def test_no_light_gives_no_photons(key):
  measure = jax.jit(noise.poisson_gaussian)
  assert not measure(key, jnp.zeros(100_000), shot=0.1, read=0.0).any()
  dark = measure(key, jnp.zeros(100_000), shot=0.1, read=0.02)
  assert dark.std() == pytest.approx(0.02, rel=0.02)


def test_the_variance_of_light_grows_with_it(key):
  levels = jnp.array([0.0, 0.002, 0.05, 0.3, 1.0, 2.0])
  shot, read = 0.02, 0.003
  patches = jnp.repeat(levels[:, None], 200_000, 1)
  measured = jax.jit(noise.poisson_gaussian)(key, patches, shot=shot, read=read)
  measured = np.asarray(measured, np.float64)
  np.testing.assert_allclose(measured.mean(axis=1), levels, rtol=2e-3, atol=2e-5)
  np.testing.assert_allclose(measured.var(axis=1), shot**2 * levels + read**2, rtol=0.02)


def test_no_noise_changes_nothing(key):
  ramp = jnp.linspace(0, 1, 999)
  np.testing.assert_allclose(noise.poisson_gaussian(key, ramp, shot=0.0, read=0.0), ramp, atol=5e-6)


def test_white_is_brightened_and_full_pixels_are_clipped():
  pixels = jnp.array([[[1.0, 1.0, 1.0], [1.0, 1.0, 0.5], [0.3, 0.2, 0.1]]])
  bright = sensor.brighten(pixels, gain=1.5)
  np.testing.assert_allclose(bright[0, 0], 1.5)
  np.testing.assert_array_equal(bright[0, 1:], pixels[0, 1:])
  np.testing.assert_array_equal(sensor.saturate(bright), pixels)


def test_quantize_rounds_to_levels():
  values = jnp.linspace(0, 1, 1001)
  rounded = sensor.quantize(values, bits=3.0)
  assert len(np.unique(rounded)) == 8
  np.testing.assert_allclose(np.unique(rounded), np.arange(8) / 7, atol=1e-6)
  assert np.abs(rounded - values).max() <= 0.5 / 7 + 1e-6


@pytest.fixture(scope='module')
def photograph():
  return skimage.data.astronaut()[60:331, 100:493]  # odd sides: blocks are cut at both borders


def through_pillow(image, quality):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'jpeg', quality=quality)
  return np.asarray(Image.open(file))


def test_jpeg_matches_libjpeg(photograph):
  compress = jax.jit(lambda image, quality: jpeg.compress(image, quality=quality))
  for quality in (5, 35, 50, 75, 95, 100):
    ours = compress(photograph / np.float32(255), float(quality))
    ours = np.round(np.asarray(ours, np.float64) * 255)
    theirs = through_pillow(photograph, quality).astype(float)
    error = 10 * np.log10(255**2 / np.mean((ours - theirs) ** 2))
    lost = 10 * np.log10(255**2 / np.mean((photograph - theirs) ** 2))
    assert error > (48 if quality < 20 else 51), quality
    assert error > lost + 10  # otherwise doing nothing would pass at the upper end
    assert (ours == theirs).mean() > 0.8, quality


def test_jpeg_takes_a_quality_for_each_image(photograph):
  images = jnp.asarray(photograph[:64, :80] / np.float32(255))[None].repeat(3, 0)
  quality = jnp.array([10.0, 50.0, 90.0])
  compress = jax.jit(lambda image, quality: jpeg.compress(image, quality=quality))
  together = compress(images, quality)
  mapped = jax.jit(jax.vmap(compress))(images, quality)
  np.testing.assert_array_equal(together, mapped)
  np.testing.assert_array_equal(together[1], compress(images[1], 50.0))
  loss = jnp.abs(together - images).mean(axis=(1, 2, 3))
  assert loss[0] > 1.5 * loss[1] > 2 * loss[2] > 0
  with pytest.raises(ValueError, match='RGB'):
    jpeg.compress(images[..., :1], quality=50)


def test_a_saturated_dot_leaves_a_brighter_streak(key):
  dot = jnp.zeros((2, 9, 9, 3)).at[:, 4, 4].set(1.0)

  def streak(text):
    return color.SRGB.to_linear(jax.jit(synthesis.parse(text))(key, dot))[0, 4, 2:7, 0]

  half = [0, 0.5, 0.5, 0.5, 0]  # 1.5 times as bright, over three pixels
  np.testing.assert_allclose(streak('motion(3, 0) | saturate(1.5)'), half, atol=1e-5)
  full = [0, 1, 1, 1, 0]  # 6 / 3 is more than a pixel holds
  np.testing.assert_allclose(streak('motion(3, 0) | saturate(6)'), full, atol=1e-5)
  # What was clipped is lost to a second blur.
  early = streak('motion(3, 0) | saturate(6) | motion(3, 0)')
  np.testing.assert_allclose(early, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3], atol=1e-5)


def test_saturation_brightens_only_images_that_draw_it(key):
  dot = jnp.zeros((64, 9, 9, 3)).at[:, 4, 4].set(1.0)
  text = 'motion(3, 0) | saturate(1.5) or sharp'
  middle = color.SRGB.to_linear(jax.jit(synthesis.parse(text))(key, dot))[:, 4, 4, 0]
  brightened = np.isclose(middle, 0.5, atol=1e-4)
  assert 15 < brightened.sum() < 49
  np.testing.assert_allclose(middle[~brightened], 1 / 3, atol=1e-4)


def test_low_light_is_a_power_of_the_encoded_values(key):
  sharp = jnp.full((64, 4, 4, 3), 0.5)
  dark = np.asarray(synthesis.parse('gamma(2) or gamma(3)')(key, sharp))[:, 0, 0, 0]
  np.testing.assert_allclose(np.unique(dark.round(4)), [0.125, 0.25])
  black = synthesis.parse('gamma(0.5)')
  slope = jax.grad(lambda image: black(key, image).sum())(jnp.zeros((1, 2, 2, 3)))
  assert np.isfinite(slope).all()
