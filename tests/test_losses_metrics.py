"""Losses and metrics against the goldens, scikit-image and hand calculation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from deblur_jax.losses import LOSSES
from deblur_jax.metrics import METRICS

EVERYTHING = {**{f'loss {n}': f for n, f in LOSSES.items()}, **METRICS}
EVERYTHING = {name: jax.jit(function) for name, function in EVERYTHING.items()}
AT_EQUALITY = {
  'loss l1': 0, 'loss mse': 0, 'loss charbonnier': 1e-3, 'loss edge': 1e-3, 'loss psnr': -80,
  'psnr': np.inf, 'ssim': 1,
}  # fmt: skip


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
    (METRICS['ssim'], 'ssim_matlab_2d_per_channel_valid'),
  ],
)
def test_goldens(goldens, function, name):
  stored, restored, sharp = goldens
  np.testing.assert_allclose(function(restored, sharp), [stored[name]], rtol=2e-5)


def test_psnr_loss_golden(goldens):
  stored, restored, sharp = goldens
  batch = jnp.concatenate([restored, 0.9 * restored[:, :, ::-1]])
  loss = LOSSES['psnr'](batch, jnp.concatenate([sharp, sharp[:, :, ::-1]])).mean()
  expected = stored['psnr_loss_of_pair_and_its_hflip_times_0p9']
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_metrics_are_scikit_images(pair):
  restored, sharp = map(np.asarray, pair)
  psnrs, ssims = METRICS['psnr'](*pair), METRICS['ssim'](*pair)
  for i, (psnr, ssim) in enumerate(zip(psnrs, ssims, strict=True)):
    expected = skimage.metrics.peak_signal_noise_ratio(sharp[i], restored[i], data_range=1)
    assert psnr == pytest.approx(expected, rel=1e-5)
    expected = skimage.metrics.structural_similarity(
      sharp[i], restored[i], data_range=1, channel_axis=-1, gaussian_weights=True,
      sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert ssim == pytest.approx(expected, abs=2e-5)


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


def test_ssim_needs_its_window():
  with pytest.raises(ValueError, match='window of 11x11'):
    METRICS['ssim'](jnp.zeros((1, 8, 20, 3)), jnp.zeros((1, 8, 20, 3)))
