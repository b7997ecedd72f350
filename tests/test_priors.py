"""Classical methods against theory and peers: sparse priors, wavelets, denoisers, histories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data, restoration

from deblur_jax.blur import kernels
from deblur_jax.blur.operators import Convolution
from deblur_jax.blur.varying import SpatiallyVarying
from deblur_jax.solvers import SOLVERS, borders, dwt
from deblur_jax.solvers.hyper_laplacian import hyper_laplacian, shrink
from deblur_jax.solvers.non_local_means import non_local_means
from deblur_jax.solvers.plug_and_play import plug_and_play
from deblur_jax.solvers.primal_dual import total_variation_of
from deblur_jax.solvers.richardson_lucy import richardson_lucy
from deblur_jax.solvers.tikhonov import tikhonov
from deblur_jax.solvers.total_variation import total_variation
from deblur_jax.solvers.unsupervised_wiener import unsupervised_wiener
from deblur_jax.solvers.wavelet import wavelet

FORWARD = jax.jit(dwt.forward, static_argnums=(1, 2))
MOTION = np.asarray(kernels.motion(9, 30, 11))


def camera(side):
  return data.camera()[60 : 60 + side, 130 : 130 + side].astype(np.float32) / 255


def psnr(found, expected):
  return -10 * np.log10(np.mean(np.square(np.asarray(found) - expected)))


def blurred_by(psf, sharp, sigma=0.0):
  """Blurred as if the picture repeated, with noise."""
  blurred = Convolution(jnp.asarray(psf), 'wrap').apply(sharp[..., None])[..., 0]
  noise = sigma * np.random.default_rng(0).standard_normal(sharp.shape)
  return (np.asarray(blurred) + noise).astype(np.float32)


@pytest.mark.parametrize(
  'name,gain', [('hyper_laplacian', 5), ('plug_and_play', 4), ('wavelet', 4), ('tikhonov', 3)]
)
def test_gain_on_what_a_camera_sees(name, gain):
  sharp = camera(140)
  blurred = blurred_by(MOTION, sharp, 0.005)[6:-6, 6:-6]
  sharp = sharp[6:-6, 6:-6]
  assert psnr(SOLVERS[name](blurred, MOTION), sharp) > psnr(blurred, sharp) + gain


@pytest.mark.parametrize('name', ['hyper_laplacian', 'total_variation', 'wavelet', 'tikhonov'])
def test_without_noise_next_to_nothing_is_lost(name):
  # A kernel whose spectrum has no zeros, so that the picture is there to be found.
  psf, sharp = np.asarray(kernels.gaussian(0.6, 7)), camera(64)
  more = {} if name == 'tikhonov' else {'num_iter': 100}
  found = SOLVERS[name](blurred_by(psf, sharp), psf, 1e-8, boundary='wrap', **more)
  assert np.sqrt(np.mean(np.square(found - sharp))) < 1e-3


@pytest.mark.parametrize('power', [0.5, 2 / 3, 1.0])
def test_shrinkage_finds_the_minimum(power):
  lengths, w = np.linspace(0, 2, 41), np.linspace(0, 2, 20001)
  for beta in (1.0, 8.0, 200.0):
    values = w[None] ** power + beta / 2 * (w[None] - lengths[:, None]) ** 2
    found = np.asarray(shrink(jnp.asarray(lengths, jnp.float32), beta, power), np.float64)
    reached = found**power + beta / 2 * (found - lengths) ** 2
    np.testing.assert_allclose(reached, values.min(axis=1), atol=1e-3)


def test_a_scenes_fit_solves_its_equations():
  scene = borders.scene(jnp.asarray(MOTION), (40, 45), 'unknown')
  placed = scene.place(jnp.asarray(camera(64)[:40, :45]))
  start, penalty = jnp.zeros(scene.shape), 0.1
  pull = 0.1 * jnp.asarray(camera(256)[: scene.shape[0], : scene.shape[1]])

  @jax.jit
  def energy(x):
    return scene.misfit(scene.blur(x), placed) + 0.05 * jnp.vdot(x, x) - jnp.vdot(pull, x)

  fit = jax.jit(scene.fit)
  once = fit(placed, penalty, pull, start)
  twice = fit(placed, penalty, pull, once)
  assert energy(twice) <= energy(once) + 1e-4 and energy(once) < energy(start)
  slope = jax.grad(energy)
  assert jnp.linalg.norm(slope(twice)) < 1e-3 * jnp.linalg.norm(slope(start))


@pytest.mark.parametrize('name', ['richardson_lucy', 'total_variation', 'wavelet'])
def test_history_falls(name):
  blurred = blurred_by(MOTION, camera(64), 0.01)
  more = {'cycle_spin': False} if name == 'wavelet' else {}
  found, history = SOLVERS[name](blurred, MOTION, num_iter=40, history=True, **more)
  np.testing.assert_allclose(found, SOLVERS[name](blurred, MOTION, num_iter=40, **more), atol=1e-5)
  assert history.shape == (40,) and history[-1] < history[4] < history[0]
  if name == 'richardson_lucy':  # An expectation-maximization: it never rises.
    assert np.diff(history).max() < 1e-5 * abs(history[0])


def test_history_of_every_channel_is_its_objective():
  psf, images = MOTION, np.stack([camera(48), 1 - camera(48)], -1)[None]
  found, history = hyper_laplacian(images, psf, 1e-3, 3, power=1.0, boundary='wrap', history=True)
  assert history.shape == (1, 2, 3)
  for channel in range(2):
    x = np.asarray(found[0, ..., channel])
    rows, columns = (np.roll(x, -1, axis) - x for axis in (0, 1))
    fit = 0.5 * np.sum(np.square(blurred_by(psf, x) - images[0, ..., channel]))
    expected = fit + 1e-3 * np.hypot(rows, columns).sum()
    assert history[0, channel, -1] == pytest.approx(expected, rel=1e-3)


def test_total_variation_has_pyproximals_objective():
  pylops, pyproximal = (pytest.importorskip(name) for name in ('pylops', 'pyproximal'))
  weight, blurred = 2e-3, blurred_by(MOTION, camera(32), 0.01)
  transfer = np.asarray(Convolution(jnp.asarray(MOTION), 'wrap').transfer(32, 32))

  def filtered(x, factors):
    return np.fft.irfft2(np.fft.rfft2(x.reshape(32, 32)) * factors).ravel()

  def slopes(x):
    return np.stack([np.roll(x.reshape(32, 32), -1, axis).ravel() - x for axis in (0, 1)]).ravel()

  def slopes_adjoint(field):
    parts = field.reshape(2, 32, 32)
    return sum(np.roll(parts[axis], 1, axis) - parts[axis] for axis in (0, 1)).ravel()

  blur = pylops.FunctionOperator(
    lambda x: filtered(x, transfer), lambda x: filtered(x, transfer.conj()), 1024, 1024
  )
  gradient = pylops.FunctionOperator(slopes, slopes_adjoint, 2048, 1024)
  fit = pyproximal.L2(blur, blurred.ravel().astype(np.float64), niter=20, warm=True)
  sparse = pyproximal.L21(2, sigma=weight)
  start, stride = blurred.ravel().astype(np.float64), (3.0, 0.04)
  theirs = pyproximal.optimization.primaldual.PrimalDual(
    fit, sparse, gradient, start, *stride, niter=400
  )
  _, history = total_variation(blurred, MOTION, weight, 400, boundary='wrap', history=True)
  assert history[-1] == pytest.approx(fit(theirs) + sparse(gradient @ theirs), rel=1e-3)


def test_richardson_lucy_stops_at_the_noise():
  sigma, sharp = 0.03, camera(96)
  blurred = blurred_by(MOTION, sharp, sigma)
  every, stopped = (
    richardson_lucy(blurred, MOTION, 100, noise_sigma=given, boundary='wrap')
    for given in (None, sigma)
  )
  left = np.sqrt(np.mean(np.square(blurred_by(MOTION, np.asarray(stopped)) - blurred)))
  assert 0.95 * sigma < left <= sigma
  assert psnr(stopped, sharp) > psnr(every, sharp) + 1


def test_wavelets_are_those_of_pywavelets():
  pywt = pytest.importorskip('pywt')
  plane = np.random.default_rng(0).standard_normal((32, 48)).astype(np.float32)
  for name in dwt.FILTERS:
    found = np.asarray(FORWARD(jnp.asarray(plane), name, 2))
    expected = pywt.wavedec2(plane, name, mode='periodization', level=2)
    np.testing.assert_allclose(found, pywt.coeffs_to_array(expected)[0], atol=1e-5)


@pytest.mark.parametrize('name', dwt.FILTERS)
def test_wavelets_are_orthogonal(name):
  plane = jnp.asarray(np.random.default_rng(0).standard_normal((24, 40)), jnp.float32)
  coefficients, inverse = FORWARD(plane, name, 3), jax.jit(dwt.inverse, static_argnums=(1, 2))
  np.testing.assert_allclose(jnp.linalg.norm(coefficients), jnp.linalg.norm(plane), rtol=1e-5)
  np.testing.assert_allclose(inverse(coefficients, name, 3), plane, atol=1e-5)
  flat = FORWARD(jnp.ones((24, 40)), name, 3)
  np.testing.assert_allclose(flat * dwt.details((24, 40), 3), 0, atol=1e-5)
  assert dwt.details((24, 40), 3).sum() == 24 * 40 * 63 / 64


def test_non_local_means_is_as_good_as_that_of_scikit_image():
  sharp, sigma = camera(128), 0.05
  noisy = sharp + sigma * np.random.default_rng(0).standard_normal(sharp.shape)
  options = {'patch_size': 5, 'patch_distance': 6, 'h': 0.8 * sigma, 'sigma': sigma}
  found = psnr(non_local_means(noisy, **options), sharp)
  assert found == pytest.approx(
    psnr(restoration.denoise_nl_means(noisy, **options), sharp), abs=0.2
  )
  assert found > psnr(noisy, sharp) + 2.5
  assert psnr(non_local_means(noisy), sharp) == pytest.approx(found, abs=0.3)


def test_non_local_means_takes_any_image():
  images = np.random.default_rng(0).uniform(size=(2, 20, 17, 3)).astype(np.float32)
  found = non_local_means(images, 0.2, patch_distance=3)
  assert found.shape == images.shape
  np.testing.assert_allclose(found[1], non_local_means(images[1], 0.2, patch_distance=3), atol=1e-6)
  grey = non_local_means(images[0, ..., 0], 0.2, patch_distance=3)
  np.testing.assert_allclose(
    non_local_means(images[0, ..., :1], 0.2, patch_distance=3)[..., 0], grey
  )


def test_unsupervised_wiener_is_as_good_as_that_of_scikit_image():
  sharp = camera(128)
  for sigma in (0.005, 0.03):
    blurred = blurred_by(MOTION, sharp, sigma)
    expected, _ = restoration.unsupervised_wiener(blurred, MOTION, clip=False, rng=0)
    found = unsupervised_wiener(blurred, MOTION, boundary='wrap')
    assert psnr(found, sharp) > psnr(expected, sharp) - 0.2


def test_unsupervised_wiener_draws_by_its_key():
  blurred = blurred_by(MOTION, camera(48), 0.01)
  first, again, other = (
    unsupervised_wiener(blurred, MOTION, key=key) for key in (None, None, jax.random.key(7))
  )
  np.testing.assert_array_equal(first, again)
  assert 0 < np.abs(first - other).max() < 0.05


def test_tikhonov_is_the_least_squares_solution():
  sharp, psf, weight = camera(12), np.asarray(kernels.motion(3, 30, 5)), 0.05
  unit = np.eye(144, dtype=np.float32).reshape(-1, 12, 12)
  blur = np.stack([blurred_by(psf, one).ravel() for one in unit], 1).astype(np.float64)
  steps = np.stack([np.roll(unit, -1, axis) - unit for axis in (1, 2)])
  slopes = np.moveaxis(steps, 1, -1).reshape(-1, 144).astype(np.float64)
  expected = np.linalg.solve(blur.T @ blur + weight * slopes.T @ slopes, blur.T @ sharp.ravel())
  found = tikhonov(sharp, psf, weight, boundary='wrap')
  np.testing.assert_allclose(np.ravel(found), expected, atol=1e-4)


def test_plug_and_play_takes_any_denoiser():
  sharp = camera(64)
  blurred = blurred_by(MOTION, sharp, 0.02)
  idle = plug_and_play(blurred, MOTION, lambda plane, sigma: plane, noise_sigma=0.02)
  means = plug_and_play(blurred, MOTION, noise_sigma=0.02)
  assert psnr(means, sharp) > psnr(idle, sharp) + 2


@pytest.mark.parametrize('grid', [1, 2])
def test_total_variation_of_varying_blur(grid):
  angles = np.linspace(0, 90, grid * grid)
  psfs = jnp.stack([kernels.motion(7, angle, 9) for angle in angles]).reshape(grid, grid, 9, 9)
  blur, sharp = SpatiallyVarying(psfs), camera(96)[..., None]
  noise = 0.005 * np.random.default_rng(0).standard_normal(sharp.shape)
  blurred = (np.asarray(blur.apply(sharp)) + noise).astype(np.float32)
  found, history = total_variation_of(blurred, blur, history=True)
  assert psnr(found, sharp) > psnr(blurred, sharp) + 4
  assert history.shape == (100,) and history[-1] < history[20] < history[2]
  both, histories = total_variation_of(np.stack([sharp, blurred]), blur, history=True)
  np.testing.assert_allclose(both[1], found, atol=1e-5)
  np.testing.assert_allclose(histories[1], history, rtol=1e-5)
  np.testing.assert_allclose(total_variation_of(blurred[..., 0], blur), found[..., 0], atol=1e-5)


def test_both_ways_to_total_variation_agree():
  blurred, weight = blurred_by(MOTION, camera(64), 0.01), 2e-3
  operator = Convolution(jnp.asarray(MOTION), 'wrap')
  _, ours = total_variation_of(blurred[..., None], operator, weight, 400, history=True)
  _, admm = total_variation(blurred, MOTION, weight, 400, boundary='wrap', history=True)
  assert ours[-1] == pytest.approx(float(admm[-1]), rel=1e-3)


@pytest.mark.parametrize(
  'call,said',
  [
    (lambda x: hyper_laplacian(x, MOTION, power=1.5), 'at most 1, got 1.5'),
    (lambda x: hyper_laplacian(x, MOTION, num_iter=0), 'num_iter must be at least 1, got 0'),
    (lambda x: wavelet(x, MOTION, basis='sym4'), "no basis 'sym4' .known: haar, db4"),
    (lambda x: wavelet(x, MOTION, boundary='wrap'), 'multiples of 8, got 32x30'),
    (lambda x: plug_and_play(x, MOTION, num_iter=0), 'num_iter must be at least 1, got 0'),
    (lambda x: unsupervised_wiener(x, MOTION, burnin=200), 'less than max_num_iter 200, got 200'),
    (
      lambda x: total_variation_of(x[0], Convolution(jnp.asarray(MOTION))),
      r'an image must be \[h w\]',
    ),
  ],
)
def test_options_that_make_no_sense(call, said):
  with pytest.raises(ValueError, match=said):
    call(camera(32)[:, :30])
