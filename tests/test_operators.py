"""Blur operators: one sweep over all of them, and each against hand calculation and real captures.

Kernels at their extremes are swept here too.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
import scipy.ndimage

from deblur_jax.blur import kernels, operators, projective, trajectories, turbulence, varying
from deblur_jax.blur.operators import Convolution
from deblur_jax.blur.projective import ProjectiveMotion
from deblur_jax.blur.varying import SpatiallyVarying

# Compiling takes longer than running here.
jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
camera_path = jit(projective.camera_path, static_argnames='steps')

SHAPE = 2, 19, 23, 3


def weights(*shape):
  """Random kernels `shape` of sum 1, the same each time."""
  count, side = math.prod(shape[:-2]), shape[-2:]
  drawn = np.random.default_rng(0).dirichlet(np.ones(math.prod(side)), count)
  return jnp.asarray(drawn.reshape(shape), jnp.float32)


def motion():
  """Homographies with every degree of freedom, that look beyond all borders."""
  poses = jnp.array([[4, -3, 0.2, 5, 9, 20], [-5, 0, -0.1, 2, 4, 0], [1, 3, 0, -7, -8, -20.0]])
  return projective.homographies(poses, *SHAPE[1:3], focal=30.0)


OPERATORS = {
  'convolution, direct': lambda boundary: Convolution(weights(4, 5), boundary),
  'convolution by FFT': lambda boundary: Convolution(weights(9, 8), boundary),
  'convolution by FFT, wide': lambda boundary: Convolution(weights(3, 31), boundary),
  'convolution of each image': lambda boundary: Convolution(weights(2, 8, 7), boundary),
  'varying, direct': lambda boundary: SpatiallyVarying(weights(2, 3, 4, 3), boundary),
  'varying by FFT': lambda boundary: SpatiallyVarying(weights(3, 4, 7, 9), boundary),
  'projective': lambda boundary: ProjectiveMotion(motion(), boundary),
}


@pytest.mark.parametrize('boundary', operators.BOUNDARIES)
@pytest.mark.parametrize('name', OPERATORS)
def test_adjoint_and_constants(name, boundary):
  image, other = np.random.default_rng(3).normal(size=(2, *SHAPE)).astype(np.float32)
  image[..., 2] = 0.7

  @jit
  def run(blur, image, other):
    (transposed,) = jax.linear_transpose(blur.apply, image)(other)
    return blur.apply(image), blur.adjoint(other), transposed

  blurred, back, transposed = run(OPERATORS[name](boundary), image, other)
  left, right = (
    np.vdot(np.float64(a), np.float64(b)) for a, b in ((blurred, other), (image, back))
  )
  scale = np.linalg.norm(blurred) * np.linalg.norm(other)
  assert abs(left - right) < 1e-5 * scale and abs(left - right) < 1e-4 * abs(left)
  np.testing.assert_allclose(back, transposed, atol=1e-5)
  if boundary == 'zero':
    assert blurred[..., 2].min() < 0.5
  else:
    np.testing.assert_allclose(blurred[..., 2], 0.7, atol=2e-6)


@pytest.mark.parametrize('name', OPERATORS)
def test_boundaries_are_checked(name):
  for method in ('apply', 'adjoint'):
    with pytest.raises(ValueError, match="no boundary 'mirror'"):
      getattr(OPERATORS[name]('mirror'), method)(jnp.zeros(SHAPE))


@pytest.mark.parametrize('shape', [(4, 5), (2, 9, 12)])  # direct and by FFT, also per image
def test_transfer_function_is_the_blur_of_a_wrapped_image(shape):
  image = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
  blur = Convolution(weights(*shape), 'wrap')
  factors = blur.transfer(*SHAPE[1:3])
  factors = factors.reshape(*(factors.shape[:-2] or (1,)), *factors.shape[-2:], 1)
  spectrum = jnp.fft.rfft2(image, axes=(1, 2)) * factors
  expected = jnp.fft.irfft2(spectrum, s=SHAPE[1:3], axes=(1, 2))
  np.testing.assert_allclose(blur.apply(image), expected, atol=1e-5)


@pytest.mark.parametrize('boundary', operators.BOUNDARIES)
def test_varying_with_equal_kernels_is_the_convolution(boundary):
  image = jax.random.uniform(jax.random.key(2), (1, 47, 61, 3))
  for grid in ((1, 1), (2, 5), (4, 4)):
    psf = weights(9, 11)
    blur = SpatiallyVarying(jnp.broadcast_to(psf, (*grid, 9, 11)), boundary)
    np.testing.assert_allclose(
      blur.apply(image), Convolution(psf, boundary).apply(image), atol=1e-6, rtol=0
    )


def test_varying_mixes_whole_blurs_bilinearly():
  image = jax.random.uniform(jax.random.key(2), (31, 46, 1))
  psfs = weights(3, 4, 7, 8)
  # One blurred picture for every cell, and scipy's linear interpolation between them.
  stack = np.stack([[Convolution(psf).apply(image)[..., 0] for psf in row] for row in psfs])
  row, column = np.mgrid[:31, :46]
  cell = [(row + 0.5) * 3 / 31 - 0.5, (column + 0.5) * 4 / 46 - 0.5]
  expected = scipy.ndimage.map_coordinates(stack, [*cell, row, column], order=1, mode='nearest')
  np.testing.assert_allclose(SpatiallyVarying(psfs).apply(image)[..., 0], expected, atol=2e-6)


def test_varying_windows_are_no_larger_than_their_cells_ask():
  for length, cells in ((720, 4), (97, 5), (31, 31), (10, 3), (9, 1)):
    starts, windows = varying._windows(length, cells)
    total = np.zeros(length)
    for start, window in zip(starts, windows, strict=True):
      total[start : start + len(window)] += window
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert windows.shape[1] <= math.ceil(2 * length / cells)


def test_varying_shows_each_psf_in_the_middle_of_its_cell():
  psfs = weights(2, 2, 5, 5)
  image = jnp.zeros((40, 40, 1)).at[10, 30].set(1.0)  # half a pixel from the middle of cell 0, 1
  seen = SpatiallyVarying(psfs).apply(image)[8:13, 28:33, 0]
  np.testing.assert_allclose(seen, psfs[0, 1], atol=0.03)


def test_varying_refuses_what_is_no_grid_of_psfs():
  for shape in ((3, 3), (1, 30, 3, 3)):
    with pytest.raises(ValueError, match='PSFs must be'):
      SpatiallyVarying(jnp.ones(shape)).apply(jnp.zeros((20, 20, 3)))


def test_standing_still_changes_nothing(key):
  image = jax.random.uniform(key, (2, 30, 41, 3))
  still = projective.homographies(jnp.zeros((3, 6)), 30, 41, focal=100.0)
  for seen in (jnp.stack([jnp.eye(3)] * 3), still):
    np.testing.assert_allclose(ProjectiveMotion(seen).apply(image), image, atol=1e-5)


@pytest.mark.parametrize('boundary', operators.BOUNDARIES)
def test_shifts_are_convolution_by_the_path(boundary):
  path = np.random.default_rng(0).uniform(-6, 6, (8, 2)).astype(np.float32)
  image = jax.random.uniform(jax.random.key(2), (30, 40, 3))

  @jit
  def run(path, image):
    poses = jnp.pad(path, [(0, 0), (0, 4)])
    moved = ProjectiveMotion(projective.homographies(poses, 30, 40, focal=50.0), boundary)
    return moved.apply(image), Convolution(trajectories.render(path, 15), boundary).apply(image)

  np.testing.assert_allclose(*run(path, image), atol=1e-5)


@pytest.mark.parametrize(
  'pose, place',
  [
    ((5, -3, 0, 0, 0, 0), (65, 37)),
    ((0, 0, 0.5, 0, 0, 0), (70, 30)),  # half the way: twice as large
    ((0, 0, 0, 0, 0, 90), (40, 40)),  # counter-clockwise: right goes up
    ((0, 0, 0, 0, math.degrees(math.atan(0.1)), 0), (50 + 20 / 0.99, 50 - 10 * 1.01**0.5 / 0.99)),
  ],
)
def test_poses_move_a_point_as_worded(pose, place):
  """The point 10 to the right of the middle and 10 above it, seen at a focal length of 100."""
  seen = projective.homographies(jnp.array([pose], jnp.float32), 101, 101, focal=100.0)
  x, y, scale = np.linalg.inv(np.float64(seen[0])) @ [60, 40, 1]
  np.testing.assert_allclose([x / scale, y / scale], place, atol=1e-3)


def test_pitch_moves_the_middle_down_by_its_tangent():
  seen = projective.homographies(jnp.array([[0, 0, 0, 2.0, 0, 0]]), 101, 101, focal=300.0)
  x, y, scale = np.linalg.inv(np.float64(seen[0])) @ [50, 50, 1]
  np.testing.assert_allclose([x, y / scale], [50 * scale, 50 + 300 * math.tan(math.radians(2))],
                             atol=1e-3)  # fmt: skip


def test_camera_paths_have_their_extent(key):
  for own in jax.random.split(key, 10):
    poses = camera_path(own, extent=24.0, roll=3.0, approach=0.05, focal=500.0, steps=50)
    ranges = jnp.ptp(poses, axis=0)
    np.testing.assert_allclose(ranges[jnp.array([2, 5])], [0.05, 3.0], rtol=1e-4)
    assert (ranges > 0).all()  # all six degrees of freedom
    np.testing.assert_allclose(poses.mean(axis=0), 0, atol=1e-3)
    seen = projective.homographies(poses, 401, 601, focal=500.0)
    places = np.linalg.inv(np.float64(seen)) @ [300, 200, 1]  # the path of the middle
    places = places[:, :2] / places[:, 2:]
    assert np.ptp(places, axis=0).max() == pytest.approx(24, rel=0.03)


def test_a_camera_path_without_focal_length_shifts_and_rolls(key):
  poses = camera_path(key, extent=13.0, roll=3.0)
  assert (poses[:, 2:5] == 0).all()
  assert jnp.ptp(poses[:, :2], axis=0).max() == pytest.approx(13, rel=1e-4)
  assert jnp.ptp(poses[:, 5]) == pytest.approx(3, rel=1e-4)


def test_real_camera_shakes(shared):
  """Levin et al. 2009: photographs, the same shaken, and the kernels measured beside them."""
  blur = jit(lambda psf, image: Convolution(psf).apply(image[..., None])[..., 0])
  middle = np.s_[30:-30, 30:-30]
  for path in sorted(shared('data/levin').glob('*.mat')):
    sharp, shaken, psf = (np.float32(scipy.io.loadmat(path)[name]) for name in 'xyf')
    margin = (27 - psf.shape[0]) // 2
    blurred = blur(np.pad(psf[::-1, ::-1], margin), sharp)
    errors = [
      np.square(np.roll(blurred, (down, right), (0, 1))[middle] - shaken[middle]).mean()
      for down in range(-4, 5)
      for right in range(-4, 5)
    ]
    assert -10 * math.log10(min(errors)) > 38, path.name


CAST = {
  'motion': lambda share, size: kernels.motion(share * size, 77 * share, size),
  'gaussian': lambda share, size: kernels.gaussian(share * size, size, ratio=0.1, angle=33.0),
  'disk': lambda share, size: kernels.disk(share * size, size),
  **{
    f'polygon {blades}': lambda share, size, blades=blades: kernels.polygon(
      share * size, size, blades=blades, angle=50 * share, roundness=0.3, rim=2 * share
    )
    for blades in (5, 9)
  },
  'shake': lambda share, size: trajectories.shake(jax.random.key(5), share * size, size, steps=99),
  'long exposure': lambda share, size: turbulence.long_exposure(20 * share, size),
  'aberrations': lambda share, size: turbulence.psf(4 * share * jnp.ones(33), size),
  'delta': lambda share, size: kernels.delta(size),
}


@pytest.mark.parametrize('size', [3, 191])
@pytest.mark.parametrize('name', CAST)
def test_kernels_are_weights_at_every_extreme(name, size):
  if name == 'aberrations' and size == 191:
    size = 63  # what a picture through the air needs
  shares = jnp.array([0.0, 1e-4, 0.11, 0.5, 1.0, 3.0])
  drawn = jit(lambda shares: jax.lax.map(lambda share: CAST[name](share, size), shares))(shares)
  assert drawn.shape == (6, size, size)
  assert drawn.min() >= 0
  np.testing.assert_allclose(np.float64(drawn).sum(axis=(1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize('blades, angle, radius, size', [(5, 90, 12.2, 27), (6, 17, 12.7, 27)])
def test_polygon_covers_its_area(blades, angle, radius, size):
  fine = 15  # points per pixel and axis
  x, down = np.meshgrid(*[(np.arange(size * fine) + 0.5) / fine - size / 2] * 2)
  inside = np.ones(x.shape, bool)
  corners = np.radians(angle + 360 * np.arange(blades + 1) / blades)
  for start, stop in itertools.pairwise(corners):  # left of every side
    from_x, from_y = radius * np.cos(start), radius * np.sin(start)
    along = radius * (np.cos(stop) - np.cos(start)), radius * (np.sin(stop) - np.sin(start))
    inside &= along[0] * (-down - from_y) - along[1] * (x - from_x) >= 0
  expected = inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
  found = kernels.polygon(float(radius), size, blades=blades, angle=float(angle))
  np.testing.assert_allclose(found * expected.sum(), expected, atol=0.04)
  assert np.abs(found - expected / expected.sum()).sum() < 5e-3


def test_a_round_polygon_is_a_disk_and_a_rim_is_brighter():
  disk = kernels.disk(10.3, 25)
  np.testing.assert_allclose(kernels.polygon(10.3, 25, blades=7, roundness=1.0), disk, atol=1e-7)
  rim = kernels.polygon(10.3, 25, roundness=1.0, rim=0.5)
  assert rim[12, 12 + 9] / rim[12, 12] == pytest.approx(1 + 0.5 * (9 / 10.3) ** 4, rel=0.01)
  half = kernels.polygon(10.3, 25, blades=6, roundness=0.5)
  assert (half > 0).sum() > (kernels.polygon(10.3, 25, blades=6) > 0).sum()
  with pytest.raises(ValueError, match='at least 3 blades, not 2'):
    kernels.polygon(3.0, 9, blades=2)
