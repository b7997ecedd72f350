"""The page's own computations, run by Node.js: the same as those of the package."""

import itertools
import json
import shutil
import subprocess

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import skimage.data

from deblur_jax import solvers, tiling
from deblur_jax.guidance import scribble
from deblur_jax.photos import psfs
from deblur_jax.serve import app
from deblur_jax.types import Needs

NODE = shutil.which('node')

pytestmark = pytest.mark.skipif(NODE is None, reason='Node.js is not installed')


def run(module, script, *given):
  """What `script` returns: an expression of `module`, a file of the page, and `given`."""
  code = (
    f"const module = await import('{(app.PAGE / module).as_uri()}')\n"
    'const given = JSON.parse(await new Response(process.stdin).text())\n'
    f'console.log(JSON.stringify({script}))'
  )
  sent = json.dumps([one.tolist() if isinstance(one, np.ndarray) else one for one in given])
  command = [NODE, '--input-type=module', '-e', code]
  done = subprocess.run(command, input=sent, capture_output=True, text=True)
  assert not done.returncode, done.stderr
  return json.loads(done.stdout)


@pytest.mark.parametrize('height,width', [(1, 1), (5, 6), (12, 35), (63, 50)])
def test_the_transform_is_that_of_numpy(height, width):
  plane = np.random.default_rng(1).uniform(size=(height, width))
  script = """(([plane, height, width]) => {
    const fourier = new module.Fourier(height, width)
    const { re, im } = fourier.forward(plane)
    return [[...re], [...im], [...fourier.inverse({ re, im })]]
  })(given)"""
  re, im, again = run('fourier.js', script, plane.ravel(), height, width)
  expected = np.fft.rfft2(plane)
  np.testing.assert_allclose(np.reshape(re, expected.shape), expected.real, atol=1e-10)
  np.testing.assert_allclose(np.reshape(im, expected.shape), expected.imag, atol=1e-10)
  np.testing.assert_allclose(np.reshape(again, plane.shape), plane, atol=1e-12)


@pytest.mark.parametrize('text', ['motion:9,30', 'motion:4.5,100', 'disk:3.2', 'gaussian:0.8'])
def test_psfs_are_those_of_the_command_line(text):
  expected = psfs.described(text)
  found = run('psfs.js', '(({ size, values }) => [size, [...values]])(module.psf(given[0]))', text)
  assert found[0] == len(expected)
  np.testing.assert_allclose(np.reshape(found[1], expected.shape), expected, atol=1e-6)


def blurred(height, width):
  """A plane `[height width]` with texture, an edge and noise."""
  y, x = np.mgrid[:height, :width]
  plane = 0.45 + 0.3 * np.sin(y / 5) * np.cos(x / 7) + 0.2 * (np.hypot(y - 20, x - 30) < 12)
  noise = 0.01 * np.random.default_rng(0).standard_normal(plane.shape)
  return (plane + noise).astype(np.float32)


@pytest.mark.parametrize('text', ['motion:9,30', 'disk:3.2', 'gaussian:0.8'])
@pytest.mark.parametrize(
  'method,most', [('wiener', 1e-5), ('richardson_lucy', 1e-4), ('total_variation', 1e-5)]
)
def test_methods_are_those_of_the_package(method, most, text):
  plane, psf = blurred(45, 62), psfs.described(text)
  script = """(([plane, rows, columns, name, size, values]) => {
    const psf = { size, values: Float64Array.from(values) }
    return [...module.SOLVERS[name](Float64Array.from(plane), rows, columns, psf)]
  })(given)"""
  found = run('solvers.js', script, plane.ravel(), *plane.shape, method, len(psf), psf.ravel())
  expected = np.asarray(solvers.SOLVERS[method](plane, psf))
  assert np.abs(expected - plane).max() > 0.02
  assert np.abs(np.reshape(found, plane.shape) - expected).max() < most


@pytest.mark.parametrize('multiple,halo', [(8, 64), (1, 22), (1, 300)])
@pytest.mark.parametrize('height,width', [(50, 61), (1024, 1280), (900, 2001), (3001, 2500)])
def test_tiles_are_those_of_the_package(height, width, multiple, halo):
  script = """(([height, width, needs]) => {
    const { rows, columns } = module.cuts(height, width, needs)
    return [rows, columns].map((cuts) => cuts.map(({ start, weights }) => [start, [...weights]]))
  })(given)"""
  found = run('tiles.js', script, height, width, {'multiple': multiple, 'halo': halo})
  needs = Needs(multiple, 'approximate', halo)
  for mine, expected in zip(found, tiling._cuts((1, height, width), needs, None), strict=True):
    assert [start for start, _ in mine] == [start for start, _ in expected]
    for (_, weights), (_, right) in zip(mine, expected, strict=True):
      np.testing.assert_allclose(weights, right, atol=1e-6)


@pytest.mark.parametrize('height,width', [(40, 60), (301, 270)])
def test_strokes_spread_as_in_the_package(height, width):
  rng = np.random.default_rng(2)
  y, x = np.mgrid[:height, :width]
  edge = 0.4 * (np.hypot(y - height / 2, x - width / 2) < height / 3)
  picture = 0.2 + edge[..., None] + 0.02 * rng.standard_normal((height, width, 3))
  sharpen, leave = np.zeros((2, height, width))
  sharpen[height // 2, width // 2 : width // 2 + 9] = 1
  leave[3:6, 2:30] = 1
  script = """(([colors, sharpen, leave, height, width]) =>
    [...module.spread(colors.map((one) => Float64Array.from(one)), Float64Array.from(sharpen),
      Float64Array.from(leave), height, width)])(given)"""
  colors = picture.reshape(-1, 3).T
  for there in (leave, np.zeros_like(leave)):
    found = run('scribble.js', script, colors, sharpen.ravel(), there.ravel(), height, width)
    expected = scribble.spread(picture, sharpen, there)
    assert expected.min() < 0.1 and expected.max() > 0.9
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize('sigma', [2.0, 3.0, 4.0])
def test_the_width_of_an_edge_is_that_of_its_gaussian(sigma):
  x = np.arange(200)
  step = scipy.special.ndtr((x - 100.5) / sigma)
  grey = np.tile(0.2 + 0.6 * step, (130, 1))
  script = '(([grey, h, w]) => module.edgeWidth(Float32Array.from(grey), h, w))(given)'
  # Contrast over the steepest slope, a difference over two pixels.
  steepest = (step[2:] - step[:-2]).max() / 2
  assert run('sharpness.js', script, grey.ravel(), *grey.shape) == pytest.approx(
    1 / steepest, rel=0.02
  )
  assert steepest == pytest.approx(1 / np.sqrt(2 * np.pi) / sigma, rel=0.2)
  assert run('sharpness.js', script, np.full(130 * 200, 0.5), 130, 200) is None


def test_the_width_of_edges_compares_different_scenes():
  sigmas, found = [0.8, 1.3, 2.2, 3.5], []
  script = (
    '(([planes]) => planes.map((p) => module.edgeWidth(Float32Array.from(p), 192, 192)))(given)'
  )
  for name in ('astronaut', 'camera', 'coffee', 'coins'):
    grey = np.atleast_3d(getattr(skimage.data, name)())[:192, 96:288].mean(-1) / 255
    planes = [scipy.ndimage.gaussian_filter(grey, sigma).round(4).ravel() for sigma in sigmas]
    found.append(run('sharpness.js', script, [plane.tolist() for plane in planes]))
  assert all(widths == sorted(widths) for widths in found)
  factors = []
  for example, widths in itertools.permutations(found, 2):
    for sigma, wanted in zip(sigmas, example, strict=True):
      nearest = int(np.abs(np.log(np.divide(widths, wanted))).argmin())
      factors.append(abs(np.log(sigmas[nearest] / sigma)))
  assert np.exp(np.median(factors)) < 1.3
