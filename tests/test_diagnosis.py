"""Blur estimated on known blurs, sharpness, and what is warned of."""

import json

import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import skimage.data
import skimage.io

from deblur_jax.blur import kernels
from deblur_jax.photos import diagnosis
from deblur_jax.solvers import estimate_gaussian

pytestmark = pytest.mark.optimized

estimated = jax.jit(estimate_gaussian.gaussian)
blurred_again = jax.jit(estimate_gaussian.blurred)
steepest = jax.jit(lambda plane, smooth: estimate_gaussian.slopes(plane, smooth=smooth))


def blurred(image, psf):
  """`image` `[h w c]` uint8 blurred by scipy, the borders mirrored; rounded to 8 bits."""
  image = image.astype(np.float32) / 255
  return as_uint8(scipy.ndimage.convolve(image, np.asarray(psf)[..., None], mode='mirror'))


def gaussian(image, sigma):
  sigmas = (sigma, sigma, 0)
  return as_uint8(scipy.ndimage.gaussian_filter(image / np.float32(255), sigmas, mode='mirror'))


def as_uint8(image):
  return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def samples(image):
  return diagnosis.windows(image.shape, lambda start, stop: image[start:stop])


@pytest.fixture(scope='module')
def astronaut():
  return skimage.data.astronaut()


def turn(angle, other):
  """By how much two directions differ, in degrees."""
  return abs((angle - other + 90) % 180 - 90)


# The estimator.


@pytest.mark.parametrize('sigma', [1.0, 1.5, 2.0, 3.0])
def test_the_sigma_of_a_gaussian_is_found(astronaut, sigma):
  """Polyblur's claim for pictures with a sharp edge; within a tenth on this one."""
  found = estimated(gaussian(astronaut, sigma) / np.float32(255))
  assert found.sigma == pytest.approx(sigma, rel=0.1)
  assert found.ratio > 0.8


def test_a_step_blurred_by_hand_has_the_slope_of_the_formula():
  """The steepest slope of a step after a Gaussian is 1 / (sqrt(2 pi) sigma), at all angles."""
  x = np.arange(200) - 99.5
  plane = np.tile(scipy.special.erf(x / 4 / np.sqrt(2)) / 2 + 0.5, (120, 1)).astype(np.float32)
  slopes = np.asarray(steepest(plane, 0.0))
  angles = np.deg2rad(np.arange(estimate_gaussian.ANGLES) * 5)
  np.testing.assert_allclose(slopes, np.abs(np.cos(angles)) / np.sqrt(2 * np.pi) / 4, atol=2e-3)
  smoothed = np.asarray(steepest(plane, 3.0))
  expected = np.abs(np.cos(angles)) / np.sqrt(2 * np.pi) / 5  # 3, 4, 5
  np.testing.assert_allclose(smoothed, expected, atol=2e-3)


@pytest.mark.parametrize('angle', [0, 30, 90, 135])
def test_the_direction_of_a_motion_is_found(astronaut, angle):
  found = estimated(blurred(astronaut, kernels.motion(9.0, angle, 13)) / np.float32(255))
  assert turn(float(found.angle), angle) <= 10
  assert found.ratio < 0.4
  assert float(found.sigma) * np.sqrt(12) == pytest.approx(9, rel=0.35)


def test_stretching_is_by_numpys_quantiles():
  rng = np.random.default_rng(0)
  for shape in ((1, 1, 3), (5, 7, 1), (2, 90, 120, 3)):
    image = rng.normal(0.4, 0.1, shape).astype(np.float32)
    plane = image.mean(-1)
    low, high = np.quantile(plane, [1e-4, 1 - 1e-4], axis=(-2, -1), keepdims=True)
    expected = np.clip((plane - low) / np.maximum(high - low, 1e-3), 0, 1)
    np.testing.assert_allclose(estimate_gaussian.stretched(image), expected, atol=1e-4)


def test_batches_are_estimated_one_by_one(astronaut):
  images = np.stack([gaussian(astronaut, s) for s in (1, 2)]) / np.float32(255)
  together = estimated(images)
  for i, image in enumerate(images):
    alone = estimated(image)
    np.testing.assert_allclose([t[i] for t in together], alone, rtol=1e-3)


@pytest.mark.parametrize('ratio,angle', [(1.0, 0.0), (0.4, 0.0), (0.4, 30.0), (0.4, 90.0)])
def test_blurring_again_is_convolution_with_the_kernel(astronaut, ratio, angle):
  image = astronaut[:100, :120] / np.float32(255)
  again = blurred_again(image, estimate_gaussian.Gaussian(2.0, ratio, angle))
  psf = np.asarray(kernels.gaussian(2.0, 25, ratio=ratio, angle=angle))
  expected = scipy.ndimage.convolve(image, psf[..., None], mode='reflect')
  np.testing.assert_allclose(again, expected, atol=2e-3)


# The diagnosis.


@pytest.mark.parametrize(
  'sigma,noise', [(1.0, 0.0), (1.5, 0.0), (2.0, 0.0), (1.0, 0.01), (2.0, 0.01), (4.0, 0.01)]
)
def test_gaussian_blur_is_told_within_a_third(astronaut, sigma, noise):
  image = gaussian(astronaut, sigma) / 255
  image = as_uint8(image + np.random.default_rng(0).normal(0, noise, image.shape))
  found = diagnosis.blur(samples(image))
  assert found.kind == 'defocus' and found.confidence > 0.6
  assert found.pixels == pytest.approx(sigma, rel=0.35)
  assert str(found) == f'defocus blur ~{found.pixels:.1f} px'


@pytest.mark.parametrize('length,angle,noise', [(9, 30, 0.01), (15, 120, 0.0), (25, 45, 0.01)])
def test_motion_is_told_with_direction_and_length(astronaut, length, angle, noise):
  image = blurred(astronaut, kernels.motion(length, angle, 2 * (length // 2) + 5)) / 255
  image = as_uint8(image + np.random.default_rng(0).normal(0, noise, image.shape))
  found = diagnosis.blur(samples(image))
  assert found.kind == 'motion' and turn(found.angle, angle) <= 10
  assert found.pixels == pytest.approx(length, rel=0.35)
  assert str(found) == f'motion ~{found.pixels:.0f} px at {found.angle:.0f}°'


def test_defocus_is_measured_by_half_its_radius(astronaut):
  found = diagnosis.blur(samples(blurred(astronaut, kernels.disk(4.0, 11))))
  assert found.kind == 'defocus' and found.pixels == pytest.approx(2, rel=0.3)


@pytest.mark.parametrize('name', ['astronaut', 'coffee', 'camera'])
def test_sharp_pictures_are_told_as_sharp(name):
  image = getattr(skimage.data, name)()
  found = diagnosis.blur(samples(image if image.ndim == 3 else image[..., None]))
  assert found.kind == 'sharp' and found.confidence > 0.69


def drawn(name):
  y, x = np.mgrid[:300, :400]
  rng = np.random.default_rng(0)
  plane = {
    'stripes': x // 8 % 2,
    'lying stripes': y // 8 % 2,
    'slanted stripes': (x + 2 * y) // 20 % 2,
    'soft stripes': 0.5 + 0.5 * np.sin(x / 3),
    'bar code': np.repeat(rng.integers(0, 2, 100), 4)[x],
    'checkerboard': (x // 40 + y // 40) % 2,
    'night': rng.random(x.shape) > 0.999,
  }[name]
  return as_uint8(np.repeat(0.05 + 0.8 * plane[..., None], 3, -1))


@pytest.mark.parametrize(
  'name',
  [
    'stripes',
    'lying stripes',
    'slanted stripes',
    'soft stripes',
    'bar code',
    'checkerboard',
    'night',
  ],
)
@pytest.mark.parametrize('noise', [0, 0.01])
def test_sharp_pictures_that_are_drawn_are_sharp_or_unclear(name, noise):
  """Stripes have no slope along themselves, which is no motion of ten million pixels."""
  image = drawn(name)
  image = as_uint8(image / 255 + np.random.default_rng(0).normal(0, noise, image.shape))
  found = diagnosis.blur(samples(image))
  assert found.kind in ('sharp', 'unknown') and found.pixels < 1
  assert str(found) in ('sharp', 'blur unclear')


def test_the_stripes_of_case_12_are_unclear(shared):
  image = np.atleast_3d(skimage.io.imread(shared('cases/12_stripes_motion_length/stripes.png')))
  found = diagnosis.blur(samples(image), min(image.shape[:2]))
  assert str(found) in ('sharp', 'blur unclear')


@pytest.mark.parametrize('paper', [(1.0, 1.0, 1.0), (1.0, 0.95, 0.85)])
@pytest.mark.parametrize('name', ['page', 'text'])
def test_motion_on_text_is_unclear(name, paper):
  """Strokes thinner than the blur are no steps: 9 pixels would look like 16."""
  page = getattr(skimage.data, name)()[..., None] * np.array(paper)
  assert diagnosis.blur(samples(as_uint8(page / 255))).kind == 'sharp'
  for length in (9, 15):
    moved = scipy.ndimage.uniform_filter1d(page, length, axis=1, mode='reflect')
    moved += np.random.default_rng(0).normal(0, 1, page.shape)
    found = diagnosis.blur(samples(as_uint8(moved / 255)))
    assert (found.kind, found.confidence) == ('unknown', 0)


@pytest.mark.parametrize('kernel', [(kernels.motion, 45.0, 30.0, 47), (kernels.gaussian, 9.0, 55)])
def test_no_blur_is_larger_than_a_quarter_of_the_picture(astronaut, kernel):
  shape, *size = kernel
  image = blurred(astronaut, shape(*size))
  for side in (40, 100, 512):
    found = diagnosis.blur(samples(image[:side, :side]), side)
    across = found.pixels if found.kind == 'motion' else 4 * found.pixels
    assert across <= min(side, 128) / 4


def test_nothing_is_claimed_where_there_is_nothing_to_see():
  for image in (np.full((300, 400, 3), 90, np.uint8), np.zeros((1, 1, 1), np.uint16)):
    found = diagnosis.blur(samples(image))
    assert (found.kind, found.confidence) == ('unknown', 0)
  y, x = np.mgrid[:600, :800]
  fog = (100 + 40 * np.sin(x / 150) * np.cos(y / 170))[..., None].repeat(3, -1).astype(np.uint8)
  assert diagnosis.blur(samples(fog)).kind == 'unknown'


@pytest.mark.parametrize('shape', [(1, 1, 1), (3, 500, 3), (90, 40, 2), (700, 900, 4)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_windows_are_of_the_picture_and_of_one_size(shape, dtype):
  top = np.iinfo(dtype).max
  image = np.random.default_rng(0).integers(0, top, shape, dtype)
  found = samples(image)
  assert found.shape == (36 if max(shape) > 384 else 4, 128, 128, 3) and found.dtype == np.float32
  known = np.unique(image if shape[-1] in (1, 3) else image[..., :-1])
  assert np.isin(np.rint(found[:, ::9, ::9] * top), known).all()
  height, width = min(shape[0], 128), min(shape[1], 128)
  for window, part in ((0, np.s_[:height, :width]), (-1, np.s_[-height:, -width:])):
    np.testing.assert_allclose(found[window, :height, :width, 0], image[*part, 0] / top, rtol=1e-5)


def test_little_is_read_of_a_large_picture():
  asked = []

  def rows(start, stop):
    asked.append((start, stop))
    return np.zeros((stop - start, 4000, 3), np.uint8)

  assert diagnosis.windows((25_000, 4000, 3), rows).shape == (36, 128, 128, 3)
  assert sum(stop - start for start, stop in asked) == 6 * 128
  assert (min(asked)[0], max(asked)[1]) == (0, 25_000)


def test_sharpness_and_consistency_follow_what_was_done(astronaut):
  """The true picture is sharper, and gives the blurred one back when blurred again."""
  before = samples(gaussian(astronaut, 2.0))
  told = {}
  for name, image in {
    'true': astronaut,
    'same': gaussian(astronaut, 2.0),
    'other': astronaut[::-1],
  }.items():
    told[name] = diagnosis.diagnose(before, samples(image), changed(astronaut, image))
  assert told['true'].sharpness_after > 3 * told['true'].sharpness_before
  assert told['same'].sharpness_after == told['same'].sharpness_before
  assert told['true'].reblurred_psnr > max(35, told['same'].reblurred_psnr + 3)
  assert told['other'].reblurred_psnr < 15
  plain = json.loads(json.dumps(told['true'].plain()))
  assert plain['blur'] == 'defocus' and plain['sigma'] == pytest.approx(2, rel=0.2)


def test_a_picture_that_loses_its_noise_is_not_called_softer(astronaut):
  soft = gaussian(astronaut, 2.0)
  noisy = soft + 8 * np.random.default_rng(0).standard_normal(soft.shape)
  noisy = np.clip(noisy, 0, 255).astype(np.uint8)
  clean = diagnosis.diagnose(samples(noisy), samples(soft), changed(noisy, soft))
  assert clean.sharpness_after > 0.6 * clean.sharpness_before
  restored = diagnosis.diagnose(samples(noisy), samples(astronaut), changed(noisy, astronaut))
  assert restored.sharpness_after > 2 * restored.sharpness_before
  assert str(restored).endswith(f'x{restored.sharpness_after / restored.sharpness_before:.2g}')


def changed(before, after):
  """In two parts, as it comes from bands."""
  halves = [diagnosis.change(before[part], after[part]) for part in (np.s_[:100], np.s_[100:])]
  return halves[0] + halves[1]


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_changes_are_counted_as_by_hand(dtype, channels):
  rng = np.random.default_rng(0)
  top = np.iinfo(dtype).max
  before = rng.integers(top // 4, top // 2, (150, 90, channels), dtype)
  after = before + dtype(top // 10)
  after[0, :5] = top
  found = changed(before, after)
  colors = 1 if channels < 3 else 3
  assert found.count == 150 * 90 and found.clipped == 5 * colors
  drift = (found.after - found.before) / found.count
  expected = (after / top - before / top).mean((0, 1))[:colors]
  np.testing.assert_allclose(drift, expected, atol=1e-9)
  largest = np.abs(after[..., :colors].astype(int) - before[..., :colors]).max()
  assert found.largest == pytest.approx(largest / top)


def warnings_of(before, after):
  return diagnosis.diagnose(samples(before), samples(after), changed(before, after)).warnings


def test_what_is_odd_is_told_in_plain_sentences(astronaut):
  soft = gaussian(astronaut, 1.5)
  sharper = as_uint8(soft / 255 + 0.2 * (soft / 255 - gaussian(soft, 1.0) / 255))
  assert warnings_of(soft, sharper) == ()
  assert warnings_of(soft, soft) == ('the result equals the input',)
  assert warnings_of(astronaut, np.clip(astronaut, 1, 254)) == ('the picture was already sharp',)
  redder = soft // 2 + np.array([64, 60, 60], np.uint8)
  (drift,) = warnings_of(soft // 2 + 60, redder)
  assert drift == 'color shift: red +1.6 %, green +0.0 %, blue +0.0 %'
  bright = soft // 2 + 60
  bright[:30] = 250
  (clipped,) = warnings_of(bright, np.where(bright == 250, 255, bright).astype(np.uint8))
  assert clipped == '5.9 % of the values are clipped to black or white'
  grey = soft[..., :1] // 2
  assert 'color shift: grey +3.9 %' in warnings_of(grey, grey + np.uint8(10))
