"""Losses and metrics against the goldens, scikit-image and hand calculation."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
import skimage.measure
import skimage.metrics

from deblur_jax.data import builtin
from deblur_jax.losses import LOSSES
from deblur_jax.metrics import LEARNED, METRICS, SHARPNESS, realblur

ON_HOST = ('realblur_psnr', 'realblur_ssim')
EVERYTHING = {
  **{f'loss {name}': function for name, function in LOSSES.items()},
  **{name: function for name, function in METRICS.items() if name not in ON_HOST},
}
EVERYTHING = {name: jax.jit(function) for name, function in EVERYTHING.items()}
AT_EQUALITY = {
  'loss l1': 0, 'loss mse': 0, 'loss charbonnier': 1e-3, 'loss edge': 1e-3, 'loss psnr': -80,
  'loss psnr_to_40': -40, 'loss fft': 0,
  'psnr': np.inf, 'psnr_uint8': np.inf, 'ssim': 1, 'ssim_matlab_3d': 1, 'accuracy': 1,
}  # fmt: skip

# What lpips 0.1.4 and DISTS_pytorch 0.1 return with torch 2.13.0, for `seeded_weights` and the pair
# of `test_learned_metrics_match_the_authors_code`.
BY_AUTHORS = {
  ('lpips', 'alex'): [0.12999354302883148, 0.1259094774723053],
  ('lpips', 'vgg'): [0.08988729119300842, 0.0916382297873497],
  ('dists', 'vgg'): [0.05713474750518799, 0.05651402473449707],
}


@pytest.fixture
def pair(key):
  sharp, noise = jax.random.uniform(key, (2, 3, 16, 20, 3))
  return 0.8 * sharp + 0.2 * noise, sharp


@pytest.fixture
def goldens(shared):
  stored = dict(np.load(shared('goldens/losses_metrics.npz')))
  images = (jnp.asarray(stored[f'{name}_uint8'][None] / 255.0, jnp.float32)
            for name in ('restored', 'sharp'))  # fmt: skip
  return stored, *images


@pytest.mark.parametrize(
  'function, name',
  [
    (LOSSES['charbonnier'], 'charbonnier'),
    (LOSSES['edge'], 'edge'),
    (METRICS['psnr'], 'psnr'),
    (METRICS['ssim'], 'ssim_skimage_gaussian'),
    (METRICS['psnr_uint8'], 'psnr'),
    (METRICS['ssim'], 'ssim_matlab_2d_per_channel_valid'),
    (METRICS['ssim_matlab_3d'], 'ssim_matlab_3d'),
  ],
)
def test_goldens(goldens, function, name):
  stored, restored, sharp = goldens
  loose = 1e-4 if name == 'ssim_matlab_3d' else 2e-5
  np.testing.assert_allclose(function(restored, sharp), [stored[name]], rtol=loose)


def test_psnr_loss_golden(goldens):
  stored, restored, sharp = goldens
  batch = jnp.concatenate([restored, 0.9 * restored[:, :, ::-1]])
  loss = LOSSES['psnr'](batch, jnp.concatenate([sharp, sharp[:, :, ::-1]])).mean()
  expected = stored['psnr_loss_of_pair_and_its_hflip_times_0p9']
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_metrics_match_scikit_image(pair):
  restored, sharp = map(np.asarray, pair)
  psnrs, ssims = EVERYTHING['psnr'](*pair), EVERYTHING['ssim'](*pair)
  for i, (psnr, ssim) in enumerate(zip(psnrs, ssims, strict=True)):
    expected = skimage.metrics.peak_signal_noise_ratio(sharp[i], restored[i], data_range=1)
    assert psnr == pytest.approx(expected, rel=1e-5)
    expected = skimage.metrics.structural_similarity(
      sharp[i], restored[i], data_range=1, channel_axis=-1, gaussian_weights=True,
      sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert ssim == pytest.approx(expected, abs=2e-5)


def test_3d_ssim_is_that_of_a_volume_with_repeated_borders(pair):
  restored, sharp = (np.asarray(image[0], np.float64) for image in pair)

  def smooth(volume):
    return ndimage.gaussian_filter(volume, 1.5, mode='nearest', truncate=3.5)  # 11x11x11

  a, b = smooth(restored), smooth(sharp)
  variances = smooth(restored**2) - a**2 + smooth(sharp**2) - b**2
  covariance = smooth(restored * sharp) - a * b
  similarity = (2 * a * b + 0.01**2) * (2 * covariance + 0.03**2)
  similarity /= (a**2 + b**2 + 0.01**2) * (variances + 0.03**2)
  ours = EVERYTHING['ssim_matlab_3d'](pair[0][0], pair[1][0])
  assert ours == pytest.approx(similarity.mean(), abs=1e-5)


def test_psnr_uint8_is_that_of_the_saved_file():
  sharp = jnp.full((12, 12, 3), 100 / 255)
  # 103.4 is saved as 103: 20 log10(255 / 3) = 38.588 dB
  assert METRICS['psnr_uint8'](sharp + 3.4 / 255, sharp) == pytest.approx(38.588, abs=1e-3)
  # above white is saved as white
  assert METRICS['psnr_uint8'](jnp.full_like(sharp, 1.3), jnp.ones_like(sharp)) == np.inf


def test_values_by_hand():
  sharp = jnp.zeros((2, 12, 12, 3))
  restored = sharp.at[0].set(0.1).at[1].set(-0.2)
  values = {name: loss(restored, sharp) for name, loss in LOSSES.items()}
  np.testing.assert_allclose(values['l1'], [0.1, 0.2], rtol=1e-5)
  np.testing.assert_allclose(values['mse'], [0.01, 0.04], rtol=1e-5)
  np.testing.assert_allclose(values['charbonnier'], np.sqrt([0.01 + 1e-6, 0.04 + 1e-6]), rtol=1e-5)
  np.testing.assert_allclose(values['psnr'], 10 * np.log10([0.01 + 1e-8, 0.04 + 1e-8]), rtol=1e-5)
  np.testing.assert_allclose(METRICS['psnr'](restored, sharp), [20, 13.9794], rtol=1e-5)
  np.testing.assert_allclose(LOSSES['charbonnier'](restored, restored, eps=0.5), 0.5, rtol=1e-6)


@pytest.mark.parametrize('name', EVERYTHING)
def test_contract(name, pair):
  function, (restored, sharp) = EVERYTHING[name], pair
  values = function(restored, sharp)
  assert values.shape == (3,) and values.dtype == jnp.float32
  np.testing.assert_allclose(function(restored[1], sharp[1]), values[1], rtol=1e-5)
  np.testing.assert_allclose(function(sharp, sharp), AT_EQUALITY[name], rtol=1e-4)
  for other in (sharp[:1], sharp[..., :1], sharp[:, :-1], sharp[0]):
    with pytest.raises((AssertionError, ValueError)):
      function(restored, other)
  half = function(restored.astype(jnp.bfloat16), sharp.astype(jnp.bfloat16))
  assert half.dtype == jnp.float32
  exact = function(*(image.astype(jnp.bfloat16).astype(jnp.float32) for image in (restored, sharp)))
  np.testing.assert_array_equal(half, exact)


@pytest.mark.parametrize('name', LOSSES)
def test_gradients_are_finite_and_point_away_from_sharp(name, pair):
  restored, sharp = pair
  slope = jax.jit(jax.grad(lambda image: LOSSES[name](image, sharp).sum()))
  assert np.vdot(slope(restored), restored - sharp) > 0
  assert np.isfinite(slope(sharp)).all()


def test_ssim_requires_its_window_size():
  with pytest.raises(ValueError, match='at least 11x11'):
    METRICS['ssim'](jnp.zeros((1, 8, 20, 3)), jnp.zeros((1, 8, 20, 3)))


@pytest.mark.parametrize('size', [(201, 302), (64, 64)])
def test_sharpness_matches_opencv_and_scikit_image(size):
  picture = builtin.photograph('coffee.png')[: size[0], : size[1]].astype(np.float32) / 255
  pictures = jnp.stack([jnp.asarray(picture), jnp.asarray(picture[::-1, ::-1])])
  grey = cv2.cvtColor(255 * picture, cv2.COLOR_RGB2GRAY).astype(np.float64)
  variance = cv2.Laplacian(grey, cv2.CV_64F).var()
  variances, effects = (jax.jit(SHARPNESS[name])(pictures) for name in ('laplacian', 'blur_effect'))
  np.testing.assert_allclose(variances, [variance] * 2, rtol=1e-4)
  for picture, value in zip(pictures, effects, strict=True):
    expected = skimage.measure.blur_effect(np.asarray(picture), channel_axis=-1)
    assert value == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope='module')
def displaced():
  """A picture, the same seen through a homography and darker, and that homography."""
  scene = builtin.photograph('astronaut.png')[60:364, 80:384].astype(np.float32) / 255
  scene = cv2.GaussianBlur(scene, (0, 0), 2)
  homography = np.array([[1.004, 0.003, 2.3], [-0.002, 0.997, -1.7], [4e-6, -3e-6, 1]])
  # both show the middle of the scene, so that nothing is missing at the borders
  to_middle = np.array([[1, 0, -40], [0, 1, -40], [0, 0, 1]])
  size = (224, 224)
  seen = cv2.warpPerspective(scene, homography @ to_middle, size, flags=cv2.INTER_CUBIC)
  return np.clip(0.8 * seen, 0, 1), scene[40:264, 40:264].copy(), homography


def test_realblur_finds_a_planted_homography_and_gain(displaced):
  restored, sharp, homography = displaced
  pair = realblur.align(restored, sharp)
  assert pair.gain == pytest.approx(1 / 0.8, rel=0.02)
  corners = np.array([[0, 0, 1], [223, 0, 1], [0, 223, 1], [223, 223, 1]]).T
  found, planted = pair.homography @ corners, homography @ corners
  np.testing.assert_allclose(found[:2] / found[2], planted[:2] / planted[2], atol=0.2)
  # the overlap, by where the planted homography takes each pixel
  rows, columns = np.mgrid[:224, :224]
  x, y, scale = np.einsum('ij,jhw->ihw', homography, np.stack([columns, rows, rows**0]))
  inside = (abs(x / scale - 111.5) < 112) & (abs(y / scale - 111.5) < 112)
  assert pair.mask.mean() == pytest.approx(inside.mean(), abs=3e-3)
  assert not pair.restored[pair.mask == 0].any() and not pair.sharp[pair.mask == 0].any()


def test_realblur_scores_what_remains_after_alignment_and_gain(displaced):
  restored, sharp, _ = displaced
  assert EVERYTHING['psnr'](restored, sharp) < 20
  psnrs = METRICS['realblur_psnr'](np.stack([restored, sharp]), np.stack([sharp, sharp]))
  assert psnrs.shape == (2,) and psnrs[0] > 32 and psnrs[1] > 60
  # noise of 0.05 on an aligned picture: 10 log10(1 / 0.05^2) = 26.02 dB
  noisy = sharp + 0.05 * np.random.default_rng(0).standard_normal(sharp.shape, np.float32)
  assert METRICS['realblur_psnr'](noisy, sharp) == pytest.approx(26.02, abs=0.1)
  expected = float(EVERYTHING['ssim'](noisy, sharp))
  assert METRICS['realblur_ssim'](noisy, sharp) == pytest.approx(expected, abs=5e-3)
  with pytest.raises(ValueError, match='nothing in common'):
    realblur.align(np.zeros_like(sharp), sharp)
  with pytest.raises(AssertionError):
    METRICS['realblur_psnr'](sharp[:-1], sharp)


def seeded_weights(name: str, network: str) -> dict[str, np.ndarray]:
  """A state dict of random weights, under the names of the authors' package."""
  if network == 'alex':
    layers = {
      'net.slice1.0': (64, 3, 11), 'net.slice2.3': (192, 64, 5), 'net.slice3.6': (384, 192, 3),
      'net.slice4.8': (256, 384, 3), 'net.slice5.10': (256, 256, 3),
    }  # fmt: skip
    widths = (64, 192, 384, 256, 256)
  else:
    stages = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
    widths = (64, 128, 256, 512, 512)
    layers, inputs = {}, 3
    for number, (stage, width) in enumerate(zip(stages, widths, strict=True), start=1):
      for index in stage:
        prefix = 'net.slice' if name == 'lpips' else 'stage'
        layers[f'{prefix}{number}.{index}'] = (width, inputs, 3)
        inputs = width
  rng, weights = np.random.default_rng(0), {}
  for layer, (width, inputs, side) in layers.items():
    shape = (width, inputs, side, side)
    spread = np.float32((2 / np.prod(shape[1:])) ** 0.5)
    weights[f'{layer}.weight'] = rng.standard_normal(shape, np.float32) * spread
    weights[f'{layer}.bias'] = rng.standard_normal(width, np.float32) * np.float32(0.1)
  if name == 'lpips':
    for index, width in enumerate(widths):
      weights[f'lin{index}.model.1.weight'] = rng.random((1, width, 1, 1), np.float32)
  else:
    for part in ('alpha', 'beta'):
      weights[part] = rng.random((1, 1475, 1, 1), np.float32)
  return weights


@pytest.mark.parametrize('name, network', BY_AUTHORS)
def test_learned_metrics_match_the_authors_code(name, network):
  weights, rng = seeded_weights(name, network), np.random.default_rng(1)
  sharp = rng.random((2, 72, 80, 3), np.float32)
  restored = (0.7 * sharp + 0.3 * rng.random(sharp.shape, np.float32)).astype(np.float32)
  metric = jax.jit(LEARNED[name])
  values = metric(restored, sharp, weights=weights)
  np.testing.assert_allclose(values, BY_AUTHORS[name, network], atol=2e-6)
  np.testing.assert_allclose(metric(sharp, sharp, weights=weights), 0, atol=1e-6)
  with pytest.raises(AssertionError):
    metric(restored[:, :-1], sharp, weights=weights)
  with pytest.raises(ValueError, match=f'not the weights of {name}: no '):
    metric(restored, sharp, weights={})


def test_dists_reduces_the_shorter_side_to_256():
  weights, rng = seeded_weights('dists', 'vgg'), np.random.default_rng(1)
  sharp = rng.random((2, 300, 341, 3), np.float32)
  restored = (0.7 * sharp + 0.3 * rng.random(sharp.shape, np.float32)).astype(np.float32)
  value = jax.jit(LEARNED['dists'])(restored[0], sharp[0], weights=weights)
  # the authors' package after torchvision's resize(256, antialias=True)
  assert value == pytest.approx(0.06008768081665039, abs=2e-6)


def test_accuracy_counts_pixels_of_the_same_largest_channel():
  sharp = np.zeros((1, 2, 2, 3), np.float32)
  sharp[0, 0, 0, 0] = sharp[0, 0, 1, 1] = sharp[0, 1, 0, 2] = sharp[0, 1, 1, 2] = 1
  restored = 0.2 * sharp + 0.3
  assert METRICS['accuracy'](restored, sharp) == 1
  restored[0, 1, :, 0] = 0.9
  assert METRICS['accuracy'](restored, sharp) == 0.5
