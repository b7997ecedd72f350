"""What blurred a picture, found out from the picture: shakes, mild blur, and how sure one is."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import scipy.signal
from skimage import data

from deblur_jax import cli, color
from deblur_jax.blur import kernels, trajectories
from deblur_jax.blur.operators import Convolution
from deblur_jax.photos import blind_check, psfs
from deblur_jax.photos.restorer import load
from deblur_jax.solvers import estimate_gaussian, estimate_psf
from deblur_jax.solvers.polyblur import estimate, polyblur
from deblur_jax.solvers.total_variation import total_variation

pytestmark = pytest.mark.optimized

SIZE, SIDE = 13, 128


def psnr(found, expected):
  return -10 * np.log10(np.mean(np.square(np.asarray(found) - expected)))


def best_psnr(found, expected, reach=4):
  """Away from the border, after the best shift by whole pixels: blind PSFs may lie anywhere."""
  found, inner = np.asarray(found), np.asarray(expected)[8:-8, 8:-8]
  starts = range(8 - reach, 8 + reach + 1)
  height, width = inner.shape[:2]
  return max(psnr(found[i : i + height, j : j + width], inner) for i in starts for j in starts)


def noisy(image, sigma):
  noise = sigma * np.random.default_rng(0).standard_normal(image.shape)
  return (image + noise).astype(np.float32)


def crop(side):
  return data.camera()[60 : 60 + side, 150 : 150 + side] / 255


@pytest.fixture(scope='module')
def shaken():
  """(blurred, sharp, PSF): what a camera sees of a picture while it shakes."""
  psf = np.asarray(trajectories.shake(jax.random.key(0), 8.0, SIZE))
  sharp = crop(SIDE + SIZE - 1)
  blurred = noisy(scipy.signal.convolve(sharp, psf, 'valid'), 0.003)
  inner = slice(SIZE // 2, -(SIZE // 2))
  return blurred, sharp[inner, inner], psf


def test_a_shake_is_found_and_undone(shaken):
  blurred, sharp, psf = shaken
  found = estimate_psf.estimate(blurred, SIZE)
  assert estimate_psf.likeness(found.psf, psf) > 0.8
  restored = total_variation(blurred, found.psf)
  assert best_psnr(restored, sharp) > best_psnr(blurred, sharp) + 3
  assert blind_check.LEAST_CONFIDENCE < found.confidence <= 1
  assert found.psf.shape == (SIZE, SIZE) and found.psf.min() >= 0
  np.testing.assert_allclose(found.psf.sum(), 1, rtol=1e-5)
  place = np.arange(SIZE) - SIZE // 2
  for axis in (0, 1):
    assert abs(np.sum(found.psf.sum(axis) * place)) < 1


@pytest.mark.parametrize('sigma', [0, 0.1])
def test_nothing_is_found_where_there_is_nothing(sigma):
  found = estimate_psf.estimate(noisy(np.full((SIDE, SIDE), 0.5), sigma), SIZE)
  assert np.isfinite(found.psf).all() and found.psf.sum() == pytest.approx(1, abs=1e-5)
  assert 0 <= found.confidence < 0.2


def test_a_sharp_picture_tells_less_than_a_shaken_one(shaken):
  blurred, sharp, _ = shaken
  found = [estimate_psf.estimate(picture, SIZE) for picture in (noisy(sharp, 0.003), blurred)]
  delta = kernels.delta(SIZE)
  assert (
    estimate_psf.likeness(found[0].psf, delta) > estimate_psf.likeness(found[1].psf, delta) + 0.2
  )
  assert found[0].confidence < found[1].confidence - 0.2


def test_likeness():
  two = jnp.zeros((5, 7)).at[2, 3:5].set(0.5)
  assert estimate_psf.likeness(two, jnp.roll(two, (1, -2), (0, 1))) == pytest.approx(1, abs=1e-5)
  assert estimate_psf.likeness(two, kernels.delta(3)) == pytest.approx(0.5**0.5, abs=1e-5)
  assert estimate_psf.likeness(two, two.T) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
  'side,size,said',
  [
    (64, 8, 'odd and at least 5, got 8'),
    (64, 3, 'odd and at least 5, got 3'),
    (60, 31, 'a PSF of 31x31 requires a picture of at least 62x62, got 60x60'),
  ],
)
def test_what_cannot_be_estimated(side, size, said):
  with pytest.raises(ValueError, match=said):
    estimate_psf.estimate(crop(side), size)


@pytest.mark.parametrize('sigma', [1.0, 1.5, 2.0, 3.0])
def test_polyblur_estimates_a_gaussian(sigma):
  sharp = data.astronaut()[:256, 100:356].mean(-1) / 255
  blurred = scipy.ndimage.gaussian_filter(sharp, sigma, mode='mirror')
  found = estimate(blurred)
  place = np.arange(len(found.psf)) - len(found.psf) // 2
  for axis in (0, 1):
    assert np.sum(found.psf.sum(axis) * place**2) ** 0.5 == pytest.approx(sigma, rel=0.35)
  assert found.confidence > 0.8


def test_the_fit_of_a_gaussian_to_slopes():
  """1 for any Gaussian; a misfit of rms 2 / sqrt(2) beside a mean variance of 8 leaves 1 - r."""
  angles = np.deg2rad(np.arange(estimate_gaussian.ANGLES) * 5)
  variance = 8 + 3 * np.cos(2 * angles) - 2 * np.sin(2 * angles)
  for extra, expected in ((0, 1), (2, 1 - 2**0.5 / 9)):
    total = variance + extra * np.cos(6 * angles)
    slopes = estimate_gaussian.SLOPE / np.sqrt(total + estimate_gaussian.PIXEL**2)
    assert estimate_gaussian.fit(jnp.asarray(slopes)) == pytest.approx(expected, abs=1e-4)


def test_polyblur_is_unsure_of_what_it_does_not_undo():
  sharp = data.astronaut()[:256, 100:356].mean(-1) / 255
  motion = np.asarray(kernels.motion(15.0, 75.0, 17))
  assert estimate(scipy.signal.convolve(sharp, motion, 'valid')).confidence < 0.6
  assert estimate(scipy.ndimage.gaussian_filter(sharp, 7)).confidence == 0


@pytest.mark.parametrize('sigma,gain', [(0.0, -0.5), (1.0, 2), (2.0, 1.5)])
def test_polyblur_undoes_mild_blur(sigma, gain):
  sharp = data.astronaut()[:256, 100:356] / 255
  blurred = scipy.ndimage.gaussian_filter(sharp, (sigma, sigma, 0), mode='mirror')
  found = polyblur(noisy(blurred, 0.002))
  assert found.shape == sharp.shape
  before = min(psnr(noisy(blurred, 0.002), sharp), 40)  # a sharp picture may lose what noise hides
  assert psnr(found, sharp) > before + gain


def test_polyblur_can_be_differentiated():
  blurred = scipy.ndimage.gaussian_filter(crop(40), 1.5).astype(np.float32)
  slope = jax.grad(lambda image: jnp.square(polyblur(image)).sum())(blurred)
  assert np.isfinite(slope).all() and np.abs(slope).max() > 0


@pytest.fixture
def photograph(shaken, tmp_path, monkeypatch):
  """A file in the current folder, shaken in linear light; the picture as it should be."""
  monkeypatch.chdir(tmp_path)
  psf = shaken[2]
  sharp = color.SRGB.to_linear(crop(SIDE + SIZE - 1))
  blurred = color.SRGB.from_linear(scipy.signal.convolve(sharp, psf, 'valid'))
  PIL.Image.fromarray(np.rint(255 * np.clip(blurred, 0, 1)).astype(np.uint8)).save('a.png')
  inner = slice(SIZE // 2, -(SIZE // 2))
  return crop(SIDE + SIZE - 1)[inner, inner]


def pixels(path):
  return np.asarray(PIL.Image.open(path)) / 255


def test_restore_finds_the_psf(photograph, shaken, capsys):
  method = ['restore', 'a.png', '--weights', 'total_variation', '--psf']
  given = [f'auto:{SIZE}', '--write-psf', '--report', 'report.json']
  assert cli.main([*method, *given]) == 0
  assert 'PSF estimated, confidence 0.' in capsys.readouterr().out
  (told,) = json.loads(pathlib.Path('report.json').read_text())['files']
  assert blind_check.LEAST_CONFIDENCE < told['psf_confidence'] <= 1
  found = psfs.read('restored/a.png.psf.png')
  assert estimate_psf.likeness(found, shaken[2]) > 0.8
  restored = pixels('restored/a.png')
  assert best_psnr(restored, photograph) > best_psnr(pixels('a.png'), photograph) + 3
  assert cli.main([*method, 'restored/a.png.psf.png', '-o', 'again']) == 0
  np.testing.assert_allclose(pixels('again/a.png'), restored, atol=1.1 / 255)


def test_a_psf_that_is_larger_than_it_may_be_is_told(photograph, capsys):
  assert cli.main(['restore', 'a.png', '--weights', 'wiener', '--psf', 'auto:5', '--force']) == 0
  assert 'the blur is likely larger: try --psf auto:9' in capsys.readouterr().out


def test_images_in_memory_get_a_psf_each(shaken):
  blurred = np.asarray(color.SRGB.from_linear(shaken[0])).clip(0, 1)
  images = np.stack([blurred, blurred.T])[..., None]
  restorer = load('wiener', psf=SIZE)
  np.testing.assert_allclose(restorer(images)[1], restorer(images[1]), atol=1e-6)
  assert np.abs(restorer(images)[0] - images[0]).max() > 0.1


@pytest.mark.parametrize(
  'given,said',
  [
    (['--psf', 'auto:12'], 'SIZE must be odd and at least 5 pixels'),
    (['--psf', 'disk:3', '--write-psf'], '--write-psf requires --psf auto'),
  ],
)
def test_wrong_options_are_told(photograph, capsys, given, said):
  assert cli.main(['restore', 'a.png', '--weights', 'wiener', *given]) != 0
  assert said in capsys.readouterr().err


def test_a_wrong_psf_is_told(photograph, capsys):
  method = ['restore', 'a.png', '--weights', 'total_variation', '--overwrite']
  assert cli.main([*method, '--psf', 'disk:8']) == 0
  assert 'the PSF is likely wrong' in capsys.readouterr().out
  assert cli.main([*method, '--psf', f'auto:{SIZE}']) == 0
  assert 'likely wrong' not in capsys.readouterr().out


def test_polyblur_needs_no_psf_on_the_command_line(photograph):
  assert cli.main(['restore', 'a.png', '--weights', 'polyblur', '--write-psf', '--force']) == 0
  assert pixels('restored/a.png').std() > pixels('a.png').std()
  assert psfs.read('restored/a.png.psf.png').shape == (25, 25)


def test_polyblur_takes_one_psf_for_all_tiles():
  blurred = np.asarray(Convolution(kernels.gaussian(1.5, 13)).apply(crop(192)[..., None]))
  whole = load('polyblur', force=True)(blurred)
  tiled = dataclasses.replace(load('polyblur', force=True), tile=144)
  tiled = dataclasses.replace(
    tiled, method=tiled.method._replace(needs=dataclasses.replace(tiled.method.needs, halo=32))
  )
  np.testing.assert_allclose(tiled(blurred), whole, atol=0.01)


def test_a_picture_comes_out_the_same_in_company(photograph):
  method = ['--weights', 'wiener', '--psf', 'motion:9,20']
  image = PIL.Image.open('a.png')
  for name, (width, height) in {'b': (100, 60), 'c': (90, 110), 'd': (120, 70)}.items():
    image.crop((0, 0, width, height)).save(f'{name}.png')
  assert cli.main(['restore', 'a.png', 'b.png', 'c.png', 'd.png', *method]) == 0
  assert cli.main(['restore', 'b.png', '-o', 'alone', *method]) == 0
  np.testing.assert_array_equal(pixels('restored/b.png'), pixels('alone/b.png'))
