"""Images of a wrong type, range or shape are refused in one line."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import zoo
from deblur_jax.blur import synthesis
from deblur_jax.solvers import SOLVERS, estimate_psf

PSF = np.ones((3, 3), np.float32) / 9
IMAGE = np.random.default_rng(0).random((24, 20), np.float32)


@pytest.mark.parametrize('name', SOLVERS)
def test_solvers_refuse_what_is_not_in_0_to_1(name):
  for wrong, message in (
    (np.uint8(255 * IMAGE), 'not uint8: divide by 255'),
    (np.uint16(65535 * IMAGE), 'not uint16: divide by 65535'),
    (np.int64(255 * IMAGE), 'not int'),
    (255 * IMAGE, r'in \[0, 1\], but the largest value is 25'),
    (jnp.asarray(255 * IMAGE), r'in \[0, 1\], but the largest value is 25'),
  ):
    with pytest.raises(ValueError, match=message):
      SOLVERS[name](wrong, PSF)


def test_under_jit_the_type_is_refused():
  with pytest.raises(ValueError, match='not uint8'):
    jax.jit(SOLVERS['wiener'])(np.uint8(255 * IMAGE), PSF)
  assert np.isfinite(jax.jit(SOLVERS['tikhonov'])(255 * IMAGE, PSF)).all()  # cannot be seen


def test_constants_of_a_compiled_function_are_checked_too():
  image, large = jnp.asarray(IMAGE), jnp.asarray(255 * IMAGE)
  restored = jax.jit(lambda psf: SOLVERS['tikhonov'](image, psf))(PSF)
  np.testing.assert_allclose(restored, SOLVERS['tikhonov'](image, PSF), atol=1e-5)
  with pytest.raises(ValueError, match='largest value is 25'):
    jax.jit(lambda psf: SOLVERS['tikhonov'](large, psf)).lower(PSF)


def test_psf_estimation_and_blur_mixes_refuse_too():
  large = np.uint8(255 * np.random.default_rng(0).random((80, 80)))
  with pytest.raises(ValueError, match='not uint8'):
    estimate_psf.estimate(large)
  degrade = synthesis.parse('noise(0.01)')
  sharp = np.uint8(255 * np.random.default_rng(0).random((1, 8, 8, 3)))
  with pytest.raises(ValueError, match='sharp images must be floats'):
    degrade(jax.random.key(0), sharp)
  with pytest.raises(ValueError, match='sharp images must be in'):
    degrade(jax.random.key(0), sharp.astype(np.float32))


@pytest.mark.parametrize('name', ['mobile', 'tikhonov'])
def test_methods_refuse_images_of_wrong_type_range_and_shape(name):
  restore = zoo.load(name, psf=PSF if name == 'tikhonov' else None).restore
  right = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
  for wrong, message in (
    (np.uint8(255 * right), 'not uint8: divide by 255'),
    (255 * right, 'largest value'),
    (right[0], r'\[b h w 3\], not \[16, 16, 3\]'),
    (right[..., :1], r'not \[1, 16, 16, 1\]'),
  ):
    with pytest.raises(ValueError, match=message):
      restore(wrong)


def test_images_of_float64_give_the_same():
  """As JAX makes them when x64 is enabled."""
  program = (
    'import jax, numpy as np, jax.numpy as jnp\n'
    'jax.config.update("jax_enable_x64", True)\n'
    'from deblur_jax.solvers import SOLVERS\n'
    'image = np.random.default_rng(0).random((24, 20))\n'
    'psf = np.ones((3, 3)) / 9\n'
    'for name in ("wiener", "tikhonov", "total_variation", "richardson_lucy", "hyper_laplacian",'
    ' "unsupervised_wiener", "wavelet", "polyblur"):\n'
    '  single = SOLVERS[name](image.astype(np.float32), psf)\n'
    '  double = SOLVERS[name](jnp.asarray(image), jnp.asarray(psf))\n'
    '  assert double.dtype == jnp.float32, (name, double.dtype)\n'
    '  np.testing.assert_allclose(single, double, atol=1e-4, err_msg=name)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr[-1500:]
