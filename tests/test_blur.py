"""Blur: kernels against geometry and scipy, operators against their definition, mixes."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest
import scipy.ndimage

from deblur_jax import color
from deblur_jax.blur import kernels, noise, operators, synthesis, trajectories
from deblur_jax.blur.operators import Convolution

SCIPY_MODES = {'reflect': 'mirror', 'wrap': 'wrap', 'edge': 'nearest', 'zero': 'constant'}

shake = jax.jit(lambda key, size: trajectories.shake(key, 31.0, size), static_argnums=1)

KERNELS = {
  'motion 9 at 0': lambda: kernels.motion(9.0, 0.0, 11),
  'motion 12.5 at 37': lambda: kernels.motion(12.5, 37.0, 15),
  'motion 7 at 135': lambda: kernels.motion(7.0, 135.0, 9),
  'motion 0': lambda: kernels.motion(0.0, 20.0, 3),
  'gaussian 0': lambda: kernels.gaussian(0.0, 5),
  'gaussian 2': lambda: kernels.gaussian(2.0, 17),
  'gaussian 3 ratio 0.3': lambda: kernels.gaussian(3.0, 25, ratio=0.3, angle=50.0),
  'disk 0': lambda: kernels.disk(0.0, 3),
  'disk 3.4': lambda: kernels.disk(3.4, 9),
  'disk 20': lambda: kernels.disk(20.0, 41),
  'shake 31': lambda: shake(jax.random.key(2), 63),
  'shake that has no room': lambda: shake(jax.random.key(3), 31),
  'delta': lambda: kernels.delta(5),
}


def double(array):
  return np.asarray(array, np.float64)


def moments(kernel):
  """Mass, centroid and covariance of a kernel, the origin at its middle, y up."""
  kernel = double(kernel)
  half = kernel.shape[0] // 2
  down, x = np.mgrid[-half : half + 1, -half : half + 1]
  mean = np.array([(kernel * x).sum(), (kernel * -down).sum()])
  spread = np.stack([x - mean[0], -down - mean[1]])
  return kernel.sum(), mean, np.einsum('hw,ihw,jhw->ij', kernel, spread, spread)


@pytest.mark.parametrize('name', KERNELS)
def test_kernels_are_centered_weights(name):
  kernel = KERNELS[name]()
  mass, mean, _ = moments(kernel)
  assert kernel.min() >= 0
  assert mass == pytest.approx(1, abs=1e-5)
  np.testing.assert_allclose(mean, 0, atol=2e-4)


@pytest.mark.parametrize('length', [1, 3, 7, 11])
def test_motion_along_an_axis_is_a_box(length):
  box = np.zeros((13, 13))
  box[6, 6 - length // 2 : 7 + length // 2] = 1 / length
  np.testing.assert_allclose(kernels.motion(float(length), 0.0, 13), box, atol=1e-6)
  np.testing.assert_allclose(kernels.motion(float(length), 90.0, 13), box.T, atol=1e-6)


def test_motion_has_the_moments_of_a_line():
  for angle in (10.0, 30.0, 70.0, 120.0):
    _, _, spread = moments(kernels.motion(24.0, angle, 27))
    variances, axes = np.linalg.eigh(spread)
    assert variances[1] == pytest.approx(24**2 / 12, rel=0.01)
    assert variances[0] < 0.3  # a pixel's own width
    assert math.degrees(math.atan2(axes[1, 1], axes[0, 1])) % 180 == pytest.approx(angle, abs=0.5)


def test_gaussian_matches_scipy():
  impulse = np.zeros((17, 17))
  impulse[8, 8] = 1
  expected = scipy.ndimage.gaussian_filter(impulse, 2.0, truncate=4.0)
  np.testing.assert_allclose(kernels.gaussian(2.0, 17), expected, atol=1e-6)
  _, _, spread = moments(kernels.gaussian(3.0, 41, ratio=0.5, angle=30.0))
  variances, axes = np.linalg.eigh(spread)
  np.testing.assert_allclose(variances, [1.5**2, 3**2], rtol=1e-3)
  assert math.degrees(math.atan2(axes[1, 1], axes[0, 1])) % 180 == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize('radius', [1.0, 2.5, 4.7, 15.3])
def test_disk_spreads_over_its_area(radius):
  kernel = kernels.disk(radius, 2 * math.ceil(radius) + 1)
  # The middle pixel is entirely inside, so its weight is one over the area.
  assert 1 / kernel.max() == pytest.approx(math.pi * radius**2, rel=0.01)
  _, _, spread = moments(kernel)
  np.testing.assert_allclose(np.diag(spread), radius**2 / 4 + 1 / 12, atol=0.1)


def test_kernel_sizes_must_be_odd():
  with pytest.raises(ValueError, match='odd, not 4'):
    kernels.gaussian(1.0, 4)


def test_trajectory_has_its_extent_and_stays_on_the_canvas(key):
  @jax.jit
  @jax.vmap
  def draw(key, extent, exposure):
    path = trajectories.trajectory(key, exposure=exposure, anxiety=0.01)
    steps = jnp.linalg.norm(jnp.diff(path, axis=0), axis=-1)
    fitted = trajectories.fit(path, extent, 63)
    psf = trajectories.render(fitted, 63)
    return steps.sum(), jnp.ptp(fitted, axis=0).max(), psf

  exposure = jnp.linspace(0.1, 1.0, 50)
  extent = jnp.linspace(5.0, 31.0, 50)
  length, box, psf = draw(jax.random.split(key, 50), extent, exposure)
  np.testing.assert_allclose(length, exposure, rtol=1e-3)
  np.testing.assert_allclose(box, extent, rtol=1e-4)
  np.testing.assert_allclose(psf.sum(axis=(1, 2)), 1, atol=1e-5)
  for kernel, side in zip(psf > 0, extent, strict=True):  # a bilinear splat adds one pixel at most
    across = max(np.ptp(np.flatnonzero(kernel.any(axis=axis))) for axis in (0, 1))
    assert side - 1 <= across <= side + 2


def test_trajectories_spread_like_the_published_recursion(key):
  """The recursion step by step, as in the paper: its paths are as wide as ours."""
  generator = np.random.default_rng(0)
  steps, anxiety, step = 2000, 0.005, 60 / 1999

  def width():
    pull, rate, tremor = generator.uniform(size=3) * [0.7, 0.2, 10]
    speed = np.exp(2j * np.pi * generator.uniform())
    place, path = 0j, [0j]
    kicks = generator.normal(size=(steps, 2)) @ [1, 1j]
    chance, turn = generator.uniform(size=(2, steps))
    for t in range(steps - 1):
      jolt = 2 * speed * np.exp(1j * (np.pi + turn[t] - 0.5)) * (chance[t] < rate * anxiety)
      speed += jolt + anxiety * (tremor * kicks[t] - pull * place)
      speed /= abs(speed)
      place += speed * step
      path.append(place)
    return max(np.ptp(np.real(path)), np.ptp(np.imag(path))) / 60

  ours = jax.vmap(lambda key: jnp.ptp(trajectories.trajectory(key), axis=0).max())
  ours = np.asarray(jax.jit(ours)(jax.random.split(key, 2000)))
  theirs = [width() for _ in range(200)]
  np.testing.assert_allclose(
    np.quantile(ours, [0.25, 0.5, 0.75]), np.quantile(theirs, [0.25, 0.5, 0.75]), rtol=0.15
  )


@pytest.mark.parametrize('boundary', operators.BOUNDARIES)
@pytest.mark.parametrize('side', [(5, 3), (6, 8), (9, 41)])  # the last is wider than the images
def test_adjoint_and_scipy(boundary, side):
  generator = np.random.default_rng(0)
  psf = generator.dirichlet(np.ones(math.prod(side)), 2).reshape(2, *side).astype(np.float32)
  image, other = generator.normal(size=(2, 2, 20, 17, 3)).astype(np.float32)

  @jax.jit
  def run(psf, image, other):
    blur = Convolution(psf, boundary)
    return blur.apply(image), blur.adjoint(other), *jax.linear_transpose(blur.apply, image)(other)

  blurred, back, transposed = run(psf, image, other)
  left, right = np.vdot(double(blurred), double(other)), np.vdot(double(image), double(back))
  assert left == pytest.approx(right, rel=1e-4, abs=1e-4)
  np.testing.assert_allclose(back, transposed, atol=2e-6)
  if side[0] % 2:  # scipy puts the middle of even kernels elsewhere
    for i in range(2):
      expected = scipy.ndimage.convolve(
        double(image[i]), double(psf[i])[..., None], mode=SCIPY_MODES[boundary]
      )
      np.testing.assert_allclose(blurred[i], expected, atol=1e-5)


@pytest.mark.parametrize('side', [(4, 5), (12, 11)])
def test_a_shifted_delta_becomes_the_psf(side, key):
  psf = jax.random.uniform(key, side)
  image = jnp.zeros((1, 40, 40, 1)).at[0, 22, 17, 0].set(1.0)
  top, left = 22 - side[0] // 2, 17 - side[1] // 2
  blurred = Convolution(psf, 'zero').apply(image)
  np.testing.assert_allclose(
    blurred[0, top : top + side[0], left : left + side[1], 0], psf, atol=1e-6
  )
  assert blurred.sum() == pytest.approx(float(psf.sum()), rel=1e-5)


@pytest.mark.parametrize('size', [5, 21])
def test_constants_stay_constant_unless_the_boundary_is_zero(size):
  image = jnp.full((1, 16, 24, 3), 0.7)
  psf = kernels.gaussian(3.0, size)
  for boundary in ('reflect', 'wrap', 'edge'):
    np.testing.assert_allclose(Convolution(psf, boundary).apply(image), 0.7, atol=1e-5)
  assert Convolution(psf, 'zero').apply(image)[0, 0, 0, 0] < 0.5


def test_transfer_function_is_the_convolution(key):
  image = jax.random.normal(key, (2, 18, 20))
  blur = Convolution(kernels.motion(7.0, 20.0, 9), 'wrap')
  spectrum = jnp.fft.rfft2(image) * blur.transfer(18, 20)[None]
  expected = blur.apply(image[..., None])[..., 0]
  np.testing.assert_allclose(jnp.fft.irfft2(spectrum, s=(18, 20)), expected, atol=1e-5)


def test_convolution_rejects_invalid_arguments():
  image = jnp.zeros((2, 8, 8, 3))
  with pytest.raises(ValueError, match="no boundary 'mirror'"):
    Convolution(kernels.delta(3), 'mirror').apply(image)
  with pytest.raises(ValueError, match='do not match images'):
    Convolution(jnp.zeros((3, 3, 3))).apply(image)
  with pytest.raises(ValueError, match="only boundary 'wrap'"):
    Convolution(kernels.delta(3)).transfer(8, 8)
  with pytest.raises(ValueError, match='9x9 does not fit an image of 8x8'):
    Convolution(kernels.delta(9), 'wrap').transfer(8, 8)


def test_fast_lengths():
  assert [operators.fast_length(n) for n in (1, 11, 97, 286, 317)] == [1, 12, 98, 288, 320]


def test_light_is_srgb():
  # IEC 61966-2-1: mid grey 0.5 is 21.404 % of the light, and 18 % grey is 0.46136.
  np.testing.assert_allclose(color.SRGB.to_linear(jnp.array([0.0, 0.04, 0.5, 1.0])),
                             [0, 0.04 / 12.92, 0.2140411, 1], atol=1e-6)  # fmt: skip
  assert color.SRGB.from_linear(jnp.array(0.18)) == pytest.approx(0.4613561, abs=1e-6)
  values = jnp.linspace(-0.1, 1.5, 101)
  np.testing.assert_allclose(
    color.SRGB.from_linear(color.SRGB.to_linear(values)), values, atol=1e-6
  )
  assert np.isfinite(jax.vmap(jax.grad(color.SRGB.to_linear))(values)).all()


def test_noise_has_its_standard_deviation(key):
  noisy = noise.gaussian(key, jnp.full((200, 200, 3), 0.5), sigma=0.03)
  assert noisy.std() == pytest.approx(0.03, rel=0.02)
  assert noisy.mean() == pytest.approx(0.5, abs=5e-4)


@pytest.fixture
def sharp(key):
  return jax.random.uniform(jax.random.fold_in(key, 99), (8, 24, 24, 3))


def test_a_mix_is_pure_and_images_draw_by_their_index(key, sharp):
  degrade = jax.jit(synthesis.parse('motion(3..9) | noise(0..0.02)'))
  first = degrade(key, sharp)
  np.testing.assert_array_equal(first, degrade(key, sharp))
  np.testing.assert_allclose(degrade(key, sharp[:3]), first[:3], atol=1e-6)
  assert np.abs(first - degrade(jax.random.key(1), sharp)).mean() > 0.01
  same = degrade(key, jnp.stack([sharp[0]] * 8))
  assert (np.abs(same[1:] - same[:1]).mean(axis=(1, 2, 3)) > 1e-3).all()
  assert first.shape == sharp.shape
  assert first.min() >= 0 and first.max() <= 1


def run(text, key, image):
  return jax.jit(synthesis.parse(text))(key, image)


def test_alternatives_are_equally_likely(key):
  impulse = jnp.zeros((600, 9, 9, 1)).at[:, 4, 4].set(1.0)
  middle = run('gaussian(2) or motion(5, 0) or sharp', key, impulse)
  middle = color.SRGB.to_linear(middle)[:, 4, 4, 0]
  peaks = [kernels.gaussian(2.0, 17)[8, 8], 0.2, 1.0]
  shares = [float(np.isclose(middle, peak, atol=0.01).mean()) for peak in peaks]
  np.testing.assert_allclose(shares, 1 / 3, atol=0.07)
  assert sum(shares) == pytest.approx(1)


def test_values_are_drawn_over_their_range(key):
  grey = jnp.full((200, 16, 16, 3), 0.5)
  spread = run('noise(0.01..0.05)', key, grey).std(axis=(1, 2, 3))
  assert spread.min() < 0.014 and spread.max() > 0.046
  assert spread.mean() == pytest.approx(0.03, abs=0.003)


def test_blur_acts_in_linear_light_and_steps_in_order(key):
  black_white = jnp.tile(jnp.array([0.0, 1.0]), 12)[None, None, :, None] * jnp.ones((1, 24, 24, 3))
  # Half the photons are 0.735 when encoded; the average of the code values would be 0.5.
  halved = run('motion(2, 0)', key, black_white)
  np.testing.assert_allclose(halved, color.SRGB.from_linear(jnp.array(0.5)), atol=1e-4)
  grey = jnp.full((1, 64, 64, 3), 0.5)
  assert run('gaussian(3) | noise(0.05)', key, grey).std() == pytest.approx(0.05, rel=0.05)
  assert run('noise(0.05) | gaussian(3)', key, grey).std() < 0.01


def test_a_mix_may_do_nothing(key, sharp):
  for text in ('', 'sharp', 'sharp or noise(0)'):
    np.testing.assert_array_equal(run(text, key, sharp), sharp)
  np.testing.assert_allclose(run('disk(0)', key, sharp), sharp, atol=1e-5)


def test_four_devices_agree_with_one(key, sharp):
  degrade = synthesis.parse('shake(5..11) or sharp | noise(0..0.02)')
  expected = jax.jit(degrade)(key, sharp)
  mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
  whole, split = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in ((), ('data',)))
  arguments = jax.device_put(key, whole), jax.device_put(sharp, split)
  step = jax.jit(degrade, in_shardings=(whole, split), out_shardings=split).lower(*arguments)
  found = step.compile()(*arguments)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  with jax.set_mesh(mesh):
    step = jax.jit(degrade, in_shardings=(whole, split), out_shardings=split).lower(*arguments)
    compiled = step.compile()
    np.testing.assert_allclose(compiled(*arguments), expected, atol=1e-5)
  assert 'all-gather' not in compiled.as_text()  # every device blurs only its own images


@pytest.mark.parametrize(
  'text, message',
  [
    ('shakes(9)', 'did you mean shake'),
    ('noise(0.1) | motion(-3..5)', r"step 'motion\(-3..5\)': length must be between 0 and inf"),
    ('disk(radius=true)', "step 'disk"),
    ("disk('big')", "radius must be a number or a range low..high, not 'big'"),
    ('disk(True)', 'radius must be a number'),
    ('shake(9, exposure=2)', 'exposure must be between 0.001 and 1, not 2..2'),
    ('shake(9, steps=1.5)', 'steps must be a whole number'),
    ('gaussian(1, 0.5, 3, 4)', 'too many positional arguments'),
    ('sharp(1)', 'too many positional arguments'),
  ],
)
def test_an_invalid_mix_names_the_step(text, message):
  with pytest.raises(ValueError, match=message):
    synthesis.parse(text)


@pytest.mark.parametrize('name', synthesis.STEPS)
def test_every_step_has_defaults_and_room_for_its_kernels(name, key):
  *_, (step,) = synthesis.parse(f'sharp | {name}').chain
  if isinstance(step, synthesis.KernelStep):
    keys = jax.random.split(key, 30)
    draw = jax.jit(
      lambda size: jax.vmap(lambda key: step.psf(size, **step.draw(key)))(keys), static_argnums=0
    )
    tight, roomy = draw(step.size), draw(step.size + 20)[:, 10:-10, 10:-10]
    np.testing.assert_allclose(tight, roomy, atol=1e-4)  # nothing is cut off
  else:
    assert np.isfinite(run(f'sharp | {name}', key, jnp.full((2, 8, 8, 3), 0.5))).all()
