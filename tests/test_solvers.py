"""Classical methods: peers, real borders, and what every one of them takes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data, restoration

from deblur_jax.blur import kernels
from deblur_jax.blur.operators import Convolution
from deblur_jax.solvers import SOLVERS, borders, estimate_noise, gradients
from deblur_jax.solvers.richardson_lucy import richardson_lucy
from deblur_jax.solvers.total_variation import total_variation
from deblur_jax.solvers.wiener import wiener

FEW = {
  'hyper_laplacian': {'num_iter': 2},
  'plug_and_play': {'num_iter': 2},
  'polyblur': {},
  'richardson_lucy': {'num_iter': 4},
  'tikhonov': {},
  'total_variation': {'num_iter': 4},
  'unsupervised_wiener': {'burnin': 1, 'min_num_iter': 2, 'max_num_iter': 3},
  'wavelet': {'num_iter': 4},
  'wiener': {},
}
FAITHFUL = {
  'hyper_laplacian': {'weight': 1e-7},
  'plug_and_play': {'noise_sigma': 1e-4},
  'tikhonov': {'weight': 1e-6},
  'total_variation': {'weight': 1e-7, 'num_iter': 100},
  'wavelet': {'weight': 1e-7},
  'wiener': {'balance': 1e-6},
}
UNTRAINED = [name for name in SOLVERS if name != 'deep_image_prior']  # which has tests of its own
# How far what is compiled with more around it may be off: a threshold decides for some pixels.
ROUNDING = {'hyper_laplacian': 5e-3, 'plug_and_play': 1e-4}
MOTION = np.asarray(kernels.motion(21, 30, 25))


def psnr(found, expected):
  return -10 * np.log10(np.mean(np.square(np.asarray(found) - expected)))


def camera(side=256):
  return data.camera()[60 : 60 + side, 130 : 130 + side].astype(np.float32) / 255


def blurred_by(psf, sharp, boundary):
  operator = Convolution(jnp.asarray(psf), boundary)
  return np.asarray(operator.apply(sharp[..., None])[..., 0])


def as_a_camera_sees(psf, sharp, sigma=0.01):
  """The part that the PSF finds all light for, with noise; and what of `sharp` lies there."""
  noisy = sigma * np.random.default_rng(0).standard_normal(sharp.shape)
  noisy = (blurred_by(psf, sharp, 'wrap') + noisy).astype(np.float32)
  (top, left), (bottom, right) = ((k - 1) // 2 for k in psf.shape), (k // 2 for k in psf.shape)
  inside = np.s_[top : -bottom or None, left : -right or None]
  return noisy[inside], sharp[inside]


def test_wiener_is_that_of_scikit_image():
  blurred = blurred_by(MOTION, camera(), 'wrap')
  found = wiener(blurred, MOTION, 0.05, boundary='wrap')
  expected = restoration.wiener(blurred, MOTION, 0.05, clip=False)
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_richardson_lucy_is_that_of_scikit_image_far_from_the_border():
  # Theirs takes all beyond the border to be black, and starts from a half, not from the mean.
  sharp = np.pad(camera(96), 64)
  blurred = blurred_by(MOTION, sharp, 'wrap')
  found = richardson_lucy(blurred, MOTION, 8, boundary='wrap')
  expected = restoration.richardson_lucy(blurred, MOTION, 8, clip=False)
  assert psnr(found[80:144, 80:144], expected[80:144, 80:144]) > 45


@pytest.mark.parametrize(
  'name,gain',
  [
    ('wiener', 3),
    ('richardson_lucy', 3),
    pytest.param('total_variation', 6, marks=pytest.mark.slow),
  ],
)
def test_gain_on_what_a_camera_sees(name, gain):
  blurred, sharp = as_a_camera_sees(MOTION, data.camera().astype(np.float32) / 255)
  before = psnr(blurred, sharp)
  given = {'weight': 5e-4} if name == 'total_variation' else {}
  assert psnr(SOLVERS[name](blurred, MOTION, **given), sharp) > before + gain
  # scikit-image, without care for the border, makes it worse.
  assert psnr(restoration.wiener(blurred, MOTION, 0.02, clip=False), sharp) < before
  assert psnr(restoration.richardson_lucy(blurred, MOTION, 30), sharp) < before


def test_total_variation_reaches_its_minimum():
  noisy = 0.01 * np.random.default_rng(0).standard_normal((96, 96))
  blurred = (blurred_by(MOTION, camera(96), 'wrap') + noisy).astype(np.float32)
  weight = 2e-3

  def objective(x):
    fit = 0.5 * np.sum(np.square(blurred_by(MOTION, x, 'wrap') - blurred))
    rows, columns = (np.roll(x, -1, axis) - x for axis in (0, 1))
    return fit + weight * np.sum(np.hypot(rows, columns))

  found = [
    objective(np.asarray(total_variation(blurred, MOTION, weight, n, boundary='wrap')))
    for n in (200, 1000)
  ]
  assert found[1] < objective(blurred) / 1.5
  assert found[1] <= found[0] < 1.001 * found[1]


def test_noise():
  rng = np.random.default_rng(0)
  blurred = blurred_by(kernels.gaussian(2.0, 17), camera(), 'reflect')
  for sigma in (0.005, 0.01, 0.05):
    noisy = blurred + sigma * rng.standard_normal(blurred.shape)
    assert estimate_noise.estimate(jnp.asarray(noisy)) == pytest.approx(sigma, rel=0.1)


def test_accelerated_steps_get_further(key):
  blurred, sharp = as_a_camera_sees(MOTION, camera(), sigma=0)
  plain, fast = (richardson_lucy(blurred, MOTION, 12, accelerate=one) for one in (False, True))
  assert psnr(fast, sharp) > psnr(richardson_lucy(blurred, MOTION, 18), sharp) > psnr(plain, sharp)


def test_total_variation_holds_richardson_lucys_noise_down():
  blurred, sharp = as_a_camera_sees(MOTION, camera(), sigma=0.03)
  plain, smooth = (richardson_lucy(blurred, MOTION, 60, tv=tv) for tv in (0, 0.01))
  assert psnr(smooth, sharp) > psnr(plain, sharp) + 1


def test_richardson_lucy_keeps_flux_and_sign():
  blurred = blurred_by(MOTION, camera(96), 'wrap')
  found = richardson_lucy(blurred, MOTION, 10, boundary='wrap')
  assert found.min() >= 0
  np.testing.assert_allclose(found.sum(), blurred.sum(), rtol=1e-4)


@pytest.mark.parametrize('name', UNTRAINED)
@pytest.mark.parametrize('boundary', ['unknown', 'wrap'])
def test_without_blur_the_picture_comes_back(name, boundary):
  delta, sharp = np.asarray(kernels.delta(7)), camera(64)
  found = SOLVERS[name](sharp, delta, boundary=boundary, **FAITHFUL.get(name, {}))
  atol = 1e-3
  if name == 'unsupervised_wiener':  # It guesses that there is noise, as scikit-image's does.
    peer, _ = restoration.unsupervised_wiener(sharp, delta, clip=False, rng=0)
    atol = np.abs(peer - sharp).max()
  np.testing.assert_allclose(found, sharp, atol=atol)


@pytest.mark.parametrize('name', UNTRAINED)
def test_a_flat_picture_stays_flat(name):
  found = SOLVERS[name](np.full((50, 41), 0.3, np.float32), MOTION, **FEW[name])
  np.testing.assert_allclose(found, 0.3, atol=1e-4)


@pytest.mark.parametrize('name', UNTRAINED)
@pytest.mark.parametrize('size', [(4, 4), (5, 8)])
def test_even_kernels_leave_the_picture_in_place(name, size):
  # A PSF with all its weight on its middle moves nothing, so neither does its inverse.
  psf = np.zeros(size, np.float32)
  psf[size[0] // 2, size[1] // 2] = 1
  x = (
    np.add.outer(np.sin(np.arange(48) / 5), np.cos(np.arange(40) / 4)).astype(np.float32) / 4 + 0.5
  )
  found = np.asarray(SOLVERS[name](x, psf))
  assert psnr(found[8:-8, 8:-8], x[8:-8, 8:-8]) > psnr(found[8:-8, 8:-8], x[9:-7, 8:-8]) + 6


@pytest.mark.parametrize('name', UNTRAINED)
def test_any_image(name):
  def solve(image, psf):
    return SOLVERS[name](image, psf, **FEW[name])

  psf = np.asarray(kernels.motion(7, 20, 9))
  images = np.random.default_rng(0).uniform(size=(2, 24, 31, 3)).astype(np.float32)
  found = solve(images, psf)
  assert found.shape == images.shape and found.dtype == jnp.float32
  np.testing.assert_allclose(solve(images[0], psf), found[0], atol=1e-6)
  np.testing.assert_allclose(solve(images[1, ..., 2], psf), found[1, ..., 2], atol=1e-6)
  turned = np.stack([psf, psf.T])
  both = solve(images, turned)
  np.testing.assert_allclose(both[0], found[0], atol=1e-6)
  np.testing.assert_allclose(both[1], solve(images[1], psf.T), atol=1e-6)


@pytest.mark.parametrize('name', UNTRAINED)
def test_solvers_are_functions_for_jax(name):
  psf, image = np.asarray(kernels.motion(7, 20, 9)), camera(32)

  def solve(image):
    return SOLVERS[name](image, psf, **FEW[name])

  found = solve(image)
  atol = ROUNDING.get(name, 1e-5)
  np.testing.assert_allclose(jax.jit(solve)(image), found, atol=atol)
  np.testing.assert_allclose(jax.vmap(solve)(image[None])[0], found, atol=atol)
  along = np.random.default_rng(0).standard_normal(image.shape).astype(np.float32)

  def shifted(amount):
    # The noise's strength, a median, would have kinks.
    given = {'noise_sigma': 0.01}
    given = {} if name in ('polyblur', 'richardson_lucy', 'unsupervised_wiener') else given
    return SOLVERS[name](image + amount * 1e-3 * along, psf, **FEW[name], **given)

  # Shrinkage, and Polyblur's guard against halos, have more kinks than a step avoids.
  if name in ('hyper_laplacian', 'polyblur', 'wavelet'):
    assert np.isfinite(jax.grad(lambda amount: shifted(amount).sum())(0.0))
  else:
    check_derivative(shifted, 0.0, 1.0)


@pytest.mark.parametrize(
  'name,option,value,step,more',
  [
    ('hyper_laplacian', 'weight', 1e-3, 1e-4, {'power': 1.0}),  # below 1, shrinkage has jumps
    ('tikhonov', 'weight', 0.02, 1e-3, {}),
    ('total_variation', 'weight', 1e-3, 1e-4, {}),  # with half of it, rounding is 3 percent
    ('wavelet', 'weight', 1e-4, 3e-6, {'num_iter': 2}),
    ('wiener', 'balance', 0.02, 1e-3, {}),
  ],
)
def test_gradient_by_the_weight(name, option, value, step, more):
  psf, image = np.asarray(kernels.motion(7, 20, 9)), camera(32)
  if name == 'wiener':  # Channels, which go side by side where nobody looks.
    image = np.stack([image, image.T], -1)
  solve = functools.partial(SOLVERS[name], image, psf, **(FEW[name] | more), boundary='wrap')
  rel = 0.05 if name == 'wavelet' else 0.03  # some coefficients pass the threshold between
  check_derivative(lambda weight: solve(**{option: weight}), value, step, rel)


def check_derivative(function, at, step, rel=0.03):
  """jax's reverse derivative of what a direction sees of an image, against finite differences."""
  direction = np.random.default_rng(1).standard_normal(function(at).shape)
  higher, lower = (np.asarray(function(at + one), np.float64) for one in (step, -step))
  expected = np.vdot(higher - lower, direction) / (2 * step)
  found = jax.grad(lambda x: jnp.vdot(function(x), direction.astype(np.float32)))(at)
  assert found == pytest.approx(expected, rel=rel)


def test_divergence_is_the_adjoint_of_the_gradient():
  rng = np.random.default_rng(0)
  x, field = rng.standard_normal((6, 9)), rng.standard_normal((2, 6, 9))
  x, field = x.astype(np.float32), field.astype(np.float32)
  inner = jnp.vdot(gradients.gradient(x), field)
  np.testing.assert_allclose(inner, -jnp.vdot(x, gradients.divergence(field)), rtol=1e-5)
  twice = -gradients.divergence(gradients.gradient(x))
  spectrum = jnp.fft.rfft2(x) * gradients.laplacian(6, 9)
  np.testing.assert_allclose(jnp.fft.irfft2(spectrum, (6, 9)), twice, atol=1e-5)


def test_a_scene_blurs_into_the_picture_what_a_camera_sees():
  psf, sharp = MOTION[:, 2:-3], camera(64)
  height, width = 64 - psf.shape[0] + 1, 64 - psf.shape[1] + 1
  scene = borders.scene(jnp.asarray(psf), (height, width), 'unknown')
  rest = np.pad(sharp, [(0, whole - 64) for whole in scene.shape])
  expected, _ = as_a_camera_sees(psf, sharp, sigma=0)
  np.testing.assert_allclose(scene.crop(scene.blur(rest)), expected, atol=1e-5)
  other = np.random.default_rng(0).uniform(size=scene.shape).astype(np.float32)
  np.testing.assert_allclose(
    jnp.vdot(scene.blur(rest), other), jnp.vdot(rest, scene.correlate(other)), rtol=1e-4
  )


@pytest.mark.parametrize(
  'psf,said',
  [
    (np.ones((9, 40)) / 360, 'the PSF of 9x40 is larger than the picture of 32x32'),
    (np.ones(5) / 5, r'a PSF must be \[kh kw\], got \[5\]'),
    (np.ones((3, 5, 5)) / 25, 'give one, or one for each image'),
    (np.zeros((3, 3)), 'the PSF sums to 0 or has values that are not finite'),
    (np.full((3, 3), np.nan), 'the PSF sums to 0 or has values that are not finite'),
  ],
)
def test_psfs_that_do_not_fit(psf, said):
  with pytest.raises(ValueError, match=said):
    wiener(camera(32), psf)


def test_a_psf_that_does_not_add_up_to_one():
  images, psf = np.stack([camera(32)] * 2)[..., None], np.asarray(kernels.delta(3))
  with pytest.warns(UserWarning, match='the PSF sums to 255, not 1'):
    found = wiener(images, np.stack([psf, 255 * psf]))
  np.testing.assert_allclose(found[1, ..., 0], wiener(camera(32), psf), atol=1e-5)


@pytest.mark.parametrize('shape', [(32,), (0, 32, 32, 1)])
def test_what_is_no_image(shape):
  with pytest.raises(ValueError, match=r'an image must be \[h w\] or \[... h w c\], got '):
    wiener(np.zeros(shape), kernels.delta(3))


@pytest.mark.parametrize('name', ['plug_and_play', 'total_variation'])
def test_no_noise_at_all(name):
  image = camera(32)
  found = SOLVERS[name](image, kernels.gaussian(1.0, 5), noise_sigma=0.0, **FEW[name])
  assert np.isfinite(found).all()
  if name == 'total_variation':
    found = total_variation(image, kernels.gaussian(1.0, 5), 0.0, 3)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
  'call,said',
  [
    (lambda: wiener(camera(32), MOTION, boundary='mirror'), "no boundary 'mirror'"),
    (lambda: wiener(camera(32), MOTION, reg='sobel'), "got 'sobel'"),
    (lambda: richardson_lucy(camera(32), MOTION, 0), 'num_iter must be at least 1, got 0'),
    (lambda: total_variation(camera(32), MOTION, num_iter=0), 'num_iter must be at least 1, got 0'),
  ],
)
def test_options_that_make_no_sense(call, said):
  with pytest.raises(ValueError, match=said):
    call()
