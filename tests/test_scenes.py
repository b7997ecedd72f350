"""Scenes with depth, turbulent air and averaged frames: geometry, physics and real pictures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import scipy.integrate
import scipy.special

from deblur_jax.blur import frames, kernels, projective, scenes, turbulence
from deblur_jax.blur.operators import Convolution

# Compiling takes longer than running here.
jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def noise(*shape):
  return jax.random.uniform(jax.random.key(8), shape)


@jit
def composite(layers, masks, paths):
  """The layers' composite as they move along `paths` `[n t 2]`, (x, y) in pixels."""
  poses = jnp.pad(paths.reshape(-1, 2), [(0, 0), (0, 4)])
  motions = projective.homographies(poses, 9, 9, focal=1.0)
  return scenes.composite(layers, masks, motions.reshape(*paths.shape[:2], 3, 3))


def test_composite_by_hand():
  """A grey square, half opaque, passes in three instants over a ramp."""
  ramp = np.tile(np.linspace(0, 1, 12, dtype=np.float32)[None, :, None], (10, 1, 1))
  mask = np.zeros((10, 12), np.float32)
  mask[3:6, 4:6] = 0.5
  path = np.float32([[-2, 0], [0, 0], [2, 1]])
  layers, masks = np.stack([ramp, np.full_like(ramp, 0.3)]), np.stack([np.ones_like(mask), mask])
  seen = composite(layers, masks, np.stack([0 * path, path]))
  expected = np.zeros_like(ramp)
  for right, down in path.astype(int):
    moved = np.roll(mask, (down, right), (0, 1))[..., None]
    expected += (moved * 0.3 + (1 - moved) * ramp) / 3
  np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_moving_object_is_the_mean_of_its_composites(key):
  image = noise(48, 60, 3)
  seen = jit(functools.partial(scenes.moving_object, shift=12.0, steps=20))(key, image)

  @jit
  def layers(key, image):
    outline, way = jax.random.split(key)
    mask, behind = scenes.cut_out(outline, image)
    angle = jax.random.uniform(way, (), maxval=2 * jnp.pi)
    along = 12 * (jnp.arange(20) / 19 - 0.5)[:, None]
    path = along * jnp.stack([jnp.cos(angle), jnp.sin(angle)])[None]
    layers, masks = jnp.stack([behind, image]), jnp.stack([jnp.ones_like(mask), mask])
    return layers, masks, jnp.stack([0 * path, path])

  np.testing.assert_allclose(seen, composite(*layers(key, image)), atol=1e-5)


def test_moving_objects_blur_themselves_and_nothing_else(key):
  keys, image = jax.random.split(key, 12), noise(64, 64, 3)
  cut = jit(jax.vmap(lambda key: scenes.cut_out(jax.random.split(key)[0], image)))
  masks, behind = cut(keys)
  shares = masks.mean(axis=(1, 2))
  assert (shares > 0.01).all() and (shares < 0.6).all() and np.std(shares) > 0.02
  whole = jnp.broadcast_to(image, behind.shape)
  np.testing.assert_array_equal(jnp.where(masks[..., None] == 0, behind, whole), whole)

  @jit
  def move(image, shift):
    return jax.vmap(lambda key: scenes.moving_object(key, image, shift=shift, steps=16))(keys)

  still, moved = move(image, 0.0), move(image, 9.0)
  edges = ((masks > 0) & (masks < 1))[..., None]
  np.testing.assert_allclose(jnp.where(edges, whole, still), whole, atol=1e-5)
  changed = np.abs(moved - whole).max(axis=-1) > 1e-4
  near = Convolution(kernels.disk(6.0, 15), 'edge').apply(masks[..., None])[..., 0] > 1e-4
  assert not (changed & ~near).any()
  assert changed[masks == 1].mean() > 0.9
  np.testing.assert_allclose(move(image, 100.0), move(image, 15.0), atol=1e-5)
  np.testing.assert_allclose(move(jnp.full((64, 64, 3), 0.4), 9.0), 0.4, atol=1e-5)


lens = jit(functools.partial(scenes.defocus, size=25), static_argnames=('layers', 'bokeh', 'size'))


def test_flat_scenes_are_blurred_by_their_disk():
  image = noise(32, 96, 1)
  for depth, focus, aperture in ((2.0, 5.0, 3.0), (8.0, 2.0, 7.0)):
    radius = aperture * abs(1 - focus / depth)
    seen = lens(image, jnp.full((32, 96), depth), focus=focus, aperture=aperture, layers=12)
    expected = Convolution(kernels.disk(radius, 25)).apply(image)
    np.testing.assert_allclose(seen, expected, atol=1e-3)
  sharp = lens(image, jnp.full((32, 96), 5.0), focus=5.0, aperture=9.0, layers=12)
  np.testing.assert_allclose(sharp, image, atol=1e-5)


def test_focus_is_sharp_and_any_bokeh_is_possible():
  """Light points at four depths: each becomes the shape of the aperture, in its own size."""
  depth = jnp.repeat(jnp.array([1.0, 2.0, 4.0, 8.0]), 24)[None] * jnp.ones((32, 1))
  points = jnp.zeros((32, 96, 1)).at[12, 12::24].set(1.0)
  pentagon = functools.partial(kernels.polygon, blades=5)
  seen = lens(points, depth, focus=2.0, aperture=6.0, layers=50, bokeh=pentagon)
  for column, radius in zip((12, 36, 60, 84), (6.0, 0.0, 3.0, 4.5), strict=True):
    around = seen[2:23, column - 10 : column + 11, 0]
    np.testing.assert_allclose(around, pentagon(radius, 21), atol=2e-3)


def test_what_is_near_covers_what_is_far():
  column = jnp.arange(96)[None] * jnp.ones((32, 1))
  depth, image = jnp.where(column < 48, 1.0, 8.0), jnp.where(column < 48, 1.0, 0.0)[..., None]
  near = lens(image, depth, focus=1.0, aperture=12.0, layers=12)
  np.testing.assert_allclose(near, image, atol=1e-5)  # no blurred light gets in front of it
  far = lens(image, depth, focus=8.0, aperture=1.5, layers=12)
  # Out of focus, it shows what is behind through the part of the lens that it does not cover.
  leaves_open = Convolution(kernels.disk(10.5, 25), 'edge').apply(image)
  np.testing.assert_allclose(far, leaves_open, atol=0.02)


def test_slanted_scenes_spread_every_pixel_by_its_own_disk():
  depth = jnp.linspace(1.0, 10.0, 96)[None] * jnp.ones((32, 1))
  image = Convolution(kernels.gaussian(0.7, 7)).apply(noise(32, 96, 1))
  radii = 4 * np.abs(1 - 2 / np.pad(depth[0], 9, mode='reflect'))
  disks = np.asarray(jax.vmap(lambda radius: kernels.disk(radius, 19))(radii))
  light, share = np.zeros((2, 32 + 36, 96 + 36))
  for (row, column), value in np.ndenumerate(np.pad(image[..., 0], 9, mode='reflect')):
    around = np.s_[row : row + 19, column : column + 19]
    light[around] += disks[column] * value
    share[around] += disks[column]
  seen = lens(image, depth, focus=2.0, aperture=4.0, layers=12)[..., 0]
  error = np.square(seen - light[18:-18, 18:-18] / share[18:-18, 18:-18]).mean()
  assert -10 * np.log10(error) > 40
  grey = jnp.full((32, 96, 1), 0.7)
  np.testing.assert_allclose(lens(grey, depth, focus=2.0, aperture=4.0, layers=12), 0.7, atol=1e-5)


def test_defocus_finds_its_size_but_not_under_jit():
  image, depth = noise(32, 96, 1), jnp.linspace(1.0, 5.0, 96)[None] * jnp.ones((32, 1))
  optics = {'focus': 2.0, 'aperture': 4.0, 'layers': 3}
  with pytest.raises(ValueError, match='pass the `size`'):
    jit(functools.partial(scenes.defocus, **optics))(image, depth)
  with pytest.raises(ValueError, match='at least 3 layers, not 2'):
    scenes.defocus(image, depth, **optics | {'layers': 2})
  expected = jit(functools.partial(scenes.defocus, size=9, **optics))(image, depth)
  np.testing.assert_allclose(scenes.defocus(image, depth, **optics), expected, atol=1e-5)


def test_noll_covariances_match_the_published_table():
  """Noll 1976, table IV: the phase's variance that remains without the first j polynomials."""
  table = [1.0299, 0.582, 0.134, 0.111, 0.0880, 0.0648, 0.0587, 0.0525, 0.0463, 0.0401, 0.0377]
  table += [0.0352, 0.0328, 0.0304, 0.0279, 0.0267, 0.0255, 0.0243, 0.0232, 0.0220, 0.0208]
  variances = np.diag(turbulence.noll(700))
  beyond = 0.2944 * 700 ** (-(3**0.5) / 2)  # Noll's asymptote
  left = beyond + variances.sum() - np.concatenate([[0], np.cumsum(variances)])
  np.testing.assert_allclose(left[:21], table, atol=2.5e-3)
  np.testing.assert_allclose(left[2:21], table[2:], atol=1e-3)


def test_noll_covariances_are_their_integrals():
  def integral(n, other):  # up to a factor
    def power(z):
      return z ** (-14 / 3) * scipy.special.jv(n + 1, z) * scipy.special.jv(other + 1, z)

    return ((n + 1) * (other + 1)) ** 0.5 * scipy.integrate.quad(power, 1e-6, 60, limit=500)[0]

  covariance = turbulence.noll(36) / turbulence.noll(36)[0, 0]
  # Tilt and coma, defocus and spherical; as the radial orders differ by 2, they oppose each other.
  assert covariance[0, 6] == pytest.approx(-integral(1, 3) / integral(1, 1), rel=1e-3)
  assert covariance[2, 9] == pytest.approx(-integral(2, 4) / integral(1, 1), rel=1e-3)
  assert covariance[0, 14] == pytest.approx(integral(1, 5) / integral(1, 1), rel=1e-3)
  assert covariance[0, 1] == covariance[0, 5] == 0  # of different symmetry
  assert np.linalg.eigvalsh(covariance).min() > 0


def test_polynomials_are_orthonormal():
  modes = np.float64(turbulence.zernike(15, 501)).reshape(15, -1)
  inside = modes[0].sum()
  np.testing.assert_allclose(modes @ modes.T / inside, np.eye(15), atol=5e-3)


def test_aberrations_have_their_covariance(key):
  drawn = np.float64(turbulence.aberrations(key, (40, 500), strength=2.0)).reshape(-1, 33)
  expected = turbulence.noll(36)[2:, 2:] * 2 ** (5 / 3)
  scale = np.sqrt(np.diag(expected))
  np.testing.assert_allclose(np.cov(drawn.T) / np.outer(scale, scale),
                             expected / np.outer(scale, scale), atol=0.05)  # fmt: skip


def test_tilts_have_the_variance_and_correlation_of_theory(key):
  footprint, side, scale = 16, 96, 2 ** (5 / 6)
  draw = jit(
    jax.vmap(lambda key: turbulence.tilts(key, side, side, strength=2.0, footprint=footprint))
  )
  drawn = np.float64(draw(jax.random.split(key, 400)))
  # 0.182 (D/r0)^(5/3) (lambda/D)^2 on each axis (Tatarskii; Roddier), a pixel being lambda/D / 2.
  variance = np.square(drawn).mean()
  assert variance == pytest.approx(4 * 0.182 * scale**2, rel=0.1)
  x = drawn[..., 0]

  def theory(order, lag):  # Takato and Yamaguchi, JOSA A 12(5), 1995, for a single layer
    def wave(z):
      bessel = scipy.special.jv([2, order], [z, 2 * lag / footprint * z])
      return z ** (-14 / 3) * bessel[0] ** 2 * bessel[1]

    return scipy.integrate.quad(wave, 1e-6, 60, limit=2000)[0]

  for lag in (8, 16, 48):
    along = (x[:, :, lag:] * x[:, :, :-lag]).mean() / variance
    across = (x[:, lag:] * x[:, :-lag]).mean() / variance
    even, turned = theory(0, lag) / theory(0, 0), theory(2, lag) / theory(0, 0)
    np.testing.assert_allclose([along, across], [even - turned, even + turned], atol=0.07)


def test_a_lens_in_still_air_shows_the_airy_disk():
  airy = turbulence.psf(jnp.zeros(33), 41)
  radius = np.pi / 2 * np.arange(1, 9)  # pixels are lambda / D / 2
  expected = (2 * scipy.special.jv(1, radius) / radius) ** 2
  np.testing.assert_allclose(airy[20, 21:29] / airy[20, 20], expected, atol=0.01)
  np.testing.assert_allclose(turbulence.long_exposure(0.0, 41), airy, atol=2e-3)


def test_many_short_exposures_average_to_a_long_one(key):
  point = jnp.zeros((65, 65, 1)).at[32, 32].set(1.0)
  side = np.hypot(*np.mgrid[-20:21, -20:21])

  @jit
  @functools.partial(jax.vmap, in_axes=(0, None))
  def expose(key, strength):
    return turbulence.turbulence(key, point, strength=strength, patch=65)

  for strength in (1.0, 3.0):
    mean = expose(jax.random.split(key, 400), strength).mean(axis=0)[12:53, 12:53, 0]
    mean, expected = mean / mean.sum(), turbulence.long_exposure(strength, 41)
    assert np.abs(mean - expected).sum() / 2 < 0.08  # of the light is elsewhere
    assert (mean * side).sum() == pytest.approx(float((expected * side).sum()), rel=0.1)


def test_turbulence_leaves_calm_air_and_grey_alone(key):
  expose = jit(turbulence.turbulence)
  image = noise(48, 70, 1)
  still = Convolution(turbulence.psf(jnp.zeros(33), 33)).apply(image)
  np.testing.assert_allclose(expose(key, image, strength=0.0), still, atol=1e-5)
  grey = jnp.full(image.shape, 0.4)
  np.testing.assert_allclose(expose(key, grey, strength=3.0), 0.4, atol=1e-5)
  change = [np.abs(expose(key, image, strength=s) - still).mean() for s in (0.2, 1.0, 4.0)]
  assert change[0] < change[1] < change[2]


def test_frames_of_a_film_have_the_given_correlation(key):
  image = noise(48, 48, 1)

  @functools.partial(jax.jit, static_argnums=1)
  def run(correlation, count):
    return turbulence.film(key, image, strength=3.0, frames=count, correlation=correlation)

  frozen = run(1.0, 8)
  np.testing.assert_allclose(frozen, frozen[:1] + jnp.zeros_like(frozen), atol=1e-6)
  slow, free = run(0.9, 8), run(0.0, 8)
  step = [np.square(np.diff(film, axis=0)).mean() for film in (slow, free)]
  assert 0 < step[0] < 0.7 * step[1]
  far = [np.square(film[4:] - film[:-4]).mean() for film in (slow, free)]
  assert step[0] < far[0] and far[1] == pytest.approx(step[1], rel=0.5)


def test_frames_add_up_as_light():
  film = jnp.stack([jnp.zeros((2, 2, 3)), jnp.ones((2, 2, 3))])
  for response, expected in (('linear', 0.5), ('gamma', 0.5 ** (1 / 2.2)), ('srgb', 0.735357)):
    np.testing.assert_allclose(frames.average(film, response=response), expected, atol=1e-5)
  for response in frames.RESPONSES:
    still = noise(1, 4, 4, 3)
    np.testing.assert_allclose(frames.average(still, response=response), still[0], atol=1e-5)
  with pytest.raises(ValueError, match=r"'gama' \(known: linear, gamma, srgb\)"):
    frames.average(film, response='gama')


@pytest.mark.parametrize('number, response', [(171, 'linear'), (178, 'gamma')])
def test_gopro_blurs_are_eight_frames(number, response, shared):
  """The published pair `number` is made of the frames right after it, in one response or the other.

  Numbers are those of the film; our copy of it is compressed, hence not more than some 50 dB.
  """

  def read(path):
    with Image.open(shared(f'data/{path}')) as picture:
      return np.asarray(picture.crop((320, 0, 1280, 360)), np.float32) / 255

  blurred = read(f'gopro_mini/test/GOPR0477_11_00/blur/{number:06d}.png')
  film = np.stack([read(f'gopro_frames/GOPR0477_11_00/{number + i:06d}.webp') for i in range(1, 9)])
  psnr = {
    name: -10 * np.log10(np.square(frames.average(film, response=name) - blurred).mean())
    for name in ('linear', 'gamma')
  }
  assert psnr.pop(response) > 48
  assert max(psnr.values()) < 44
