"""Networks without weights: they fit what is seen, and the PSF where nobody knows it."""

import functools

import jax
import numpy as np
import pytest
from skimage import data

from deblur_jax.blur import kernels
from deblur_jax.blur.operators import Convolution
from deblur_jax.solvers import progress
from deblur_jax.solvers.deep_image_prior import deep_image_prior, self_deblur

FEW = {'features': 8, 'levels': 2}
PSF = np.asarray(kernels.motion(5, 30, 7))


@pytest.fixture(scope='module')
def blurred():
  sharp = data.camera()[100:132, 200:236, None].astype(np.float32) / 255
  return np.asarray(Convolution(PSF, 'wrap').apply(sharp)[..., 0])


@pytest.mark.optimized
def test_a_network_explains_what_is_seen(blurred):
  solve = functools.partial(deep_image_prior, blurred, PSF, 120, history=True, **FEW)
  restored, history = solve()
  assert restored.shape == blurred.shape and history.shape == (120,)
  assert history[-1] < history[20] / 2 < history[0] / 4
  assert history[-1] < 0.5 * np.square(blurred - blurred.mean()).sum() / 20
  # What was found, blurred again, is what is seen.
  again = Convolution(PSF, 'reflect').apply(np.asarray(restored)[..., None])[..., 0]
  assert np.square(again - blurred).mean() < np.square(blurred - blurred.mean()).mean() / 10
  np.testing.assert_array_equal(solve()[0], restored)
  assert np.abs(solve(key=jax.random.key(1))[0] - restored).max() > 1e-3


@pytest.mark.optimized
def test_a_second_network_draws_the_psf(blurred):
  restored, found = self_deblur(blurred, 7, 60, **FEW)
  assert restored.shape == blurred.shape and found.psf.shape == (7, 7)
  assert found.psf.min() >= 0 and found.psf.sum() == pytest.approx(1, abs=1e-5)
  assert np.abs(found.psf - 1 / 49).max() > 1e-3  # It has learned.
  assert 0 < found.confidence <= 1


def test_it_can_be_mapped_and_differentiated(blurred):
  images = np.stack([blurred, 1 - blurred])[..., None]
  solve = functools.partial(deep_image_prior, psf=PSF, num_iter=2, features=2, levels=1)
  np.testing.assert_allclose(solve(images)[1], solve(images[1]), atol=1e-5)
  slope = jax.grad(lambda image: solve(image).sum())(blurred)
  assert np.isfinite(slope).all() and np.abs(slope).max() > 0


def test_it_tells_how_far_it_is(blurred):
  told = []
  with progress.listening(told.append):
    deep_image_prior(blurred, PSF, 4, features=2, levels=1)
  assert told == [0.25, 0.5, 0.75, 1]
  deep_image_prior(blurred, PSF, 4, features=2, levels=1)
  assert len(told) == 4  # Nobody listens any more.


@pytest.mark.parametrize(
  'call,said',
  [
    (lambda x: deep_image_prior(x, PSF, 0), 'num_iter must be at least 1, got 0'),
    (lambda x: self_deblur(x, 8), 'odd and at least 5, got 8'),
    (lambda x: self_deblur(x, 41), 'the PSF of 41x41 is larger than the picture'),
  ],
)
def test_what_makes_no_sense(blurred, call, said):
  with pytest.raises(ValueError, match=said):
    call(blurred)
