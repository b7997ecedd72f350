"""Every network: size, shapes, gradients, precision, and what it says that it needs."""

import functools
import importlib
import importlib.util
import pathlib
import re

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest
import skimage

from deblur_jax import models
from deblur_jax.evaluation import costs
from deblur_jax.models import bgan
from deblur_jax.nn import conv
from deblur_jax.tiling import round_up

PARAMETERS = {
  ('autoencoder', 'default'): 34_951_683,
  ('autoencoder', 'convolutional'): 1_331_459,
  ('autoencoder', 'tiny'): 84_035,
  ('autoencoder', 'smoke'): 28_025,
  ('bgan', 'default'): 670_531,
  ('bgan', 'tiny'): 29_299,
  ('bgan', 'smoke'): 663,
  ('dbcnn', 'default'): 49_562,
  ('dbcnn', 'shared'): 30_222,
  ('dbcnn', 'smoke'): 5_172,
  ('dbgan', 'default'): 11_588_163,
  ('dbgan', 'tiny'): 214_347,
  ('dbgan', 'smoke'): 3_363,
  ('deblurgan', 'default'): 11_378_179,
  ('deblurgan', 'tiny'): 346_371,
  ('deblurgan', 'smoke'): 8_739,
  ('deepdeblur', 'default'): 11_721_321,
  ('deepdeblur', 'tiny'): 165_465,
  ('deepdeblur', 'smoke'): 6_669,
  ('dmphn', 'default'): 7_232_524,
  ('dmphn', '1-2-4'): 5_424_393,
  ('dmphn', 'tiny'): 341_193,
  ('dmphn', 'smoke'): 21_873,
  ('hinet', 'default'): 88_668_806,
  ('hinet', 'half'): 22_176_070,
  ('hinet', 'three_stage'): 19_160_577,
  ('hinet', 'tiny'): 1_383_462,
  ('hinet', 'smoke'): 22_030,
  # NAFNet's variants, 2,112 that see the time and 130 for each channel of each block
  ('indi', 'default'): 1_627_507 + 2_112 + 130 * 1_824,
  ('indi', 'tiny'): 676_211 + 2_112 + 130 * 800,
  ('indi', 'smoke'): 1_687 + 2_112 + 130 * 16,
  # a NAFNet; for c of 16, 32, 64 channels on both sides, a block, 64 words -> c, two scales; a mask
  ('instructir', 'default'): 1_627_507 + 2 * sum(7 * c * c + 100 * c for c in (16, 32, 64)) + 144,
  # five pictures, a mix, two convolutions and a block of 2c channels on one side
  ('instructir', 'bank'): 1_627_507 + sum(39 * c * c + 1353 * c + 5 for c in (16, 32, 64)) + 144,
  ('instructir', 'smoke'): 1_687 + 2 * 512 + 36,
  ('maxim', 'default'): 22_212_795,
  ('maxim', 's2'): 14_176_178,
  ('maxim', 's1'): 6_139_561,
  ('maxim', 'm3'): 66_991_707,
  ('maxim', 'm2'): 43_227_986,
  ('maxim', 'm1'): 19_464_265,
  ('maxim', 'tiny'): 598_482,
  ('maxim', 'smoke'): 28_328,
  ('mprnet', 'default'): 20_127_073,
  ('mprnet', 'lite'): 6_376_449,
  ('mprnet', 'tiny'): 179_769,
  ('mprnet', 'smoke'): 25_015,
  ('nafnet', 'default'): 17_111_907,
  ('nafnet', 'w64'): 67_888_835,
  ('nafnet', 'small'): 4_390_155,
  ('nafnet', 'mobile'): 1_627_507,
  ('nafnet', 'tiny'): 676_211,
  ('nafnet', 'smoke'): 1_687,
  # a restorer, and an InDI that also sees six channels
  ('refine', 'default'): 6_139_561 - 5_190 + 782_323 + 9 * 6 * 16,
  ('refine', 'tiny'): 1_627_507 + 782_323 + 9 * 6 * 16,
  ('refine', 'smoke'): 1_687 + 5_879 + 9 * 6 * 4,
  ('restormer', 'default'): 26_126_644,
  ('restormer', 'small'): 4_725_942,
  ('restormer', 'tiny'): 272_819,
  ('restormer', 'smoke'): 16_905,
  ('srcnn', 'default'): 20_099,
  ('srcnn', '9-5-5'): 69_251,
  ('srcnn', '9-5-5-y'): 57_281,
  ('swinir', 'default'): 11_504_163,
  ('swinir', 'small'): 905_283,
  ('swinir', 'tiny'): 59_619,
  ('swinir', 'smoke'): 3_039,
  ('srn', 'default'): 6_881_251,
  ('srn', 'gray'): 6_876_449,
  ('srn', 'lstm'): 8_056_609,
  ('srn', 'tiny'): 236_603,
  ('srn', 'smoke'): 15_209,
  ('unet_gan', 'default'): 18_737_859,
  ('unet_gan', 'tiny'): 167_283,
  ('unet_gan', 'smoke'): 10_719,
}
SMALLEST = {'srcnn': 'default'}
# Billions of multiply-adds at 256x256 as counted by hand from the authors' layers.
MAXIM_GMACS = {'default': 152.1, 's2': 96.7, 's1': 41.2, 'm3': 519.3, 'm2': 331.7, 'm1': 144.1}


def smallest(name, **overrides):
  return models.make(name, SMALLEST.get(name, 'smoke'), **overrides)


@functools.cache
def prepared(name, seed=0, **overrides):
  """The smallest variant and random parameters for it, none of them zero."""
  model = smallest(name, **overrides)
  rng = np.random.default_rng(seed)

  def draw(leaf):
    fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) == 4 else 4
    return (rng.standard_normal(leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

  return model, jax.tree.map(draw, models.shapes(model))


def image(model, rows=3, columns=5, batch=2):
  multiple = model.needs.multiple if model.needs.multiple > 2 else 6
  side = model.needs.side
  shape = (batch, side or rows * multiple, side or columns * multiple, 3)
  return np.random.default_rng(1).uniform(size=shape).astype(np.float32)


# Compiles in a fraction of the time.
quickly = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


@functools.partial(quickly, static_argnums=0)
def applied(model, params, blurred):
  return model.apply({'params': params}, blurred)


def apply(model, params, blurred):
  # As NumPy's arrays, since JAX compiles each comparison of its own.
  return jax.device_get(applied(model, params, blurred))


def restored(model, params, blurred):
  return apply(model, params, blurred)['restored']


def initial(model, key):
  image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
  return quickly(lambda key: model.lazy_init(key, image))(key)['params']


@pytest.mark.parametrize('name,variant', PARAMETERS)
def test_parameter_counts(name, variant):
  leaves = jax.tree.leaves(models.shapes(models.make(name, variant)))
  assert sum(leaf.size for leaf in leaves) == PARAMETERS[name, variant]
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype('float32')}


@pytest.mark.parametrize('variant', MAXIM_GMACS)
def test_multiply_adds_of_maxim_are_the_published(variant):
  model = models.make('maxim', variant)
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), np.float32)
  macs = costs.count_macs(
    lambda p, x: model.apply({'params': p}, x)['restored'], models.shapes(model), image
  )
  # The authors enlarge before the 1x1 convolution; here they have fewer pixels to multiply.
  saved = sum(
    2
    * model.stages
    * (model.features << source)
    * (model.features << level)
    * ((256 >> level) ** 2 - (256 >> source) ** 2)
    for level in range(3)
    for source in range(level + 1, 3)
  )
  assert (macs + saved) / 1e9 == pytest.approx(MAXIM_GMACS[variant], rel=0.01)


def test_the_list_of_models_is_up_to_date():
  """All but the multiply-adds, which take half a minute to count and are so for the smallest."""
  spec = importlib.util.spec_from_file_location(
    'list_models', pathlib.Path(__file__).parents[1] / 'tools/list_models.py'
  )
  tool = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(tool)
  tool.gmacs = lambda *_: 0.0

  def without_gmacs(lines):
    return [re.sub(r'(\w) +[\d.]+( += \d+| +\d+)(?= +\w+  \w+$)', r'\1\2', line) for line in lines]

  listed = tool.LIST.read_text().splitlines()
  assert without_gmacs(listed) == without_gmacs(tool.lines())
  counted = {tuple(line.split()[:2]): line.split()[3] for line in listed if '  exact' in line}
  assert counted['srcnn', 'default'] == '1.31'  # 20,099 weights without biases, 256 x 256


def test_shapes_are_the_callers_own_and_may_be_of_lists():
  model = models.make('nafnet', 'smoke')
  found = models.shapes(model)
  found['intro'].clear()
  listed = model.clone(enc_blk_nums=list(model.enc_blk_nums))  # cannot be hashed
  assert models.shapes(listed) == models.shapes(model)
  drawn = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))['params']
  assert models.shapes(model) == drawn
  gray = models.shapes(models.make('srcnn', channels=1), 1)
  assert gray['conv1']['kernel'].shape[2] == 1


def test_every_variant_is_counted():
  modules = {name: importlib.import_module(f'deblur_jax.models.{name}') for name in models.names()}
  assert {(name, variant) for name in modules for variant in modules[name].VARIANTS} == set(
    PARAMETERS
  )


def test_small_networks_fit_their_files():
  assert 2 * PARAMETERS['nafnet', 'small'] < 10e6
  assert PARAMETERS['nafnet', 'mobile'] < 1.8e6  # int8
  assert 2 * PARAMETERS['restormer', 'small'] < 10e6
  assert 2 * PARAMETERS['swinir', 'small'] < 2e6


@pytest.mark.parametrize('name', models.names())
def test_outputs(name):
  model, params = prepared(name)
  blurred = image(model)
  assert (blurred.shape[1] // model.needs.multiple) % 2 or model.needs.multiple == 1
  out = apply(model, params, blurred)
  assert out['restored'].shape == blurred.shape
  assert out['restored'].dtype == jnp.float32
  assert np.isfinite(out['restored']).all()
  if 'stages' in out:
    assert [stage.shape for stage in out['stages']] == [blurred.shape] * len(out['stages'])
    np.testing.assert_array_equal(out['stages'][-1], out['restored'])
    assert np.abs(out['stages'][0] - out['restored']).max() > 1e-3
  if 'scales' in out:
    targets = model.pyramid(blurred)
    assert [scale.shape for scale in out['scales']] == [target.shape for target in targets]
    np.testing.assert_array_equal(out['scales'][0], out['restored'])
    np.testing.assert_array_equal(targets[0], blurred)


def outputs(out):
  """Every result that training compares with a target: of all stages or all scales."""
  return out.get('scales') or out.get('stages') or [out['restored']]


@functools.partial(quickly, static_argnums=0)
def largest_gradients(model, params, blurred, key):
  """The largest magnitude in the gradient of every parameter, of a loss on all `outputs`."""
  more = {'spared': blurred[..., :1]} if getattr(model, 'reads_masks', False) else {}

  def loss(params):
    out = model.apply({'params': params}, blurred, train=True, rngs={'dropout': key}, **more)
    return sum(jnp.mean(jnp.abs(one)) for one in outputs(out))

  return jax.tree.map(lambda leaf: jnp.abs(leaf).max(), jax.grad(loss)(params))


class Heads(nn.Module):
  """Coarse to fine, each scale with a head of its own: nothing of the coarse head is used again."""

  @nn.compact
  def __call__(self, blurred, *, train=False):
    coarse = nn.Conv(4, (1, 1), name='coarse')(blurred[:, ::2, ::2])
    fine = nn.Conv(3, (1, 1), name='fine')(blurred) + coarse.mean()
    scales = fine, nn.Conv(3, (1, 1), name='head')(coarse)
    return {'restored': fine, 'scales': scales}


def test_heads_of_coarse_scales_get_gradients(key):
  blurred = jax.random.uniform(key, (1, 4, 4, 3))
  model = Heads()
  largest = largest_gradients(model, model.init(key, blurred)['params'], blurred, key)
  assert all(value > 0 for value in jax.tree.leaves(largest))


@pytest.mark.parametrize('name', models.names())
def test_gradients_reach_every_parameter(name, key):
  model, _params = prepared(name)
  blurred = image(model, 1, 2)
  # A ReLU that has only a channel or two may be dead for some weights, but not for all.
  reached = [largest_gradients(model, prepared(name, seed)[1], blurred, key) for seed in range(6)]
  reached = jax.device_get(reached)
  for path, *largest in jax.tree.leaves_with_path(jax.tree.map(lambda *a: np.stack(a), *reached)):
    assert np.isfinite(largest).all(), path
    assert np.max(largest) > 0, path


@pytest.mark.parametrize('name', models.names())
def test_forms_agree(name):
  model, params = prepared(name)
  blurred = image(model)
  with conv.plain():
    plain = quickly(lambda *a: model.apply({'params': a[0]}, a[1]))(params, blurred)['restored']
  fast = restored(model, params, blurred)
  np.testing.assert_allclose(fast, plain, atol=2e-5 * np.abs(plain).max())


@pytest.mark.parametrize('name', models.names())
def test_bfloat16_comes_close(name):
  model, params = prepared(name)
  half, blurred = smallest(name, dtype='bfloat16'), image(model)
  expected = restored(model, params, blurred)
  found = restored(half, params, blurred)
  assert found.dtype == jnp.float32
  change = np.abs(expected - blurred).mean()
  assert 0 < np.abs(found - expected).mean() < 0.05 * change


@pytest.mark.parametrize(
  'name,overrides',
  [
    ('srcnn', {}),
    ('bgan', {}),
    ('bgan', {'blocks': 2}),
    ('dbcnn', {}),
    ('dbcnn', {'units': 1, 'kernel_sizes': (5, 3, 1)}),
    ('dbgan', {}),
    ('dbgan', {'nb': 2}),
    ('autoencoder', {'latent': 0}),
    ('autoencoder', {'latent': 0, 'features': (2, 2, 2)}),
    ('unet_gan', {}),
    ('unet_gan', {'depth': 2, 'blocks': 2, 'width': 2}),
  ],
)
def test_exact_networks_see_their_halo_and_no_more(name, overrides):
  model = smallest(name, **overrides)
  multiple, halo = model.needs.multiple, model.needs.halo
  assert model.needs.tiling == 'exact'
  start = round_up(halo, multiple)
  side = round_up(start + multiple + halo + 1, multiple)
  # A lit pixel at each place of the coarsest grid; through ones no path to it is off or cancels.
  lit = np.zeros((multiple, side, side, 3), np.float32)
  for i in range(multiple):
    lit[i, start + i, start + i] = 1
  params = jax.tree.map(
    lambda leaf: np.full(leaf.shape, float(leaf.ndim == 4), 'f'), models.shapes(model)
  )
  changed = restored(model, params, lit) != restored(model, params, np.zeros_like(lit))
  for axis in (1, 2):
    pixel, place = np.nonzero(changed.any((axis, 3)))
    assert (place - start - pixel).min() == -halo
    assert (place - start - pixel).max() == halo


@pytest.mark.parametrize(
  'name,overrides',
  [
    ('deepdeblur', {}),
    ('deepdeblur', {'n_resblocks': 3, 'kernel_size': 3}),
    ('srn', {}),
    ('srn', {'lstm': False, 'blocks': 2}),
    ('dmphn', {}),
    ('dmphn', {'levels': 4}),
    ('swinir', {}),
    ('swinir', {'depths': (2, 2), 'num_heads': (1, 1)}),
    ('swinir', {'depths': (3, 2), 'num_heads': (1, 1)}),
  ],
)
def test_receptive_fields_are_as_documented(name, overrides):
  model, params = prepared(name, **overrides)
  multiple, reach = model.needs.multiple, model.needs.field // 2
  start = round_up(reach + 1, multiple)
  shape = (multiple, 2 * multiple, round_up(2 * start + multiple, multiple), 3)
  # Through ones no path is off or cancels, but layer norms take all from what is the same.
  gray = 0.5 if name in ('deepdeblur', 'dmphn') else 0.0  # which these see as zero
  if name != 'swinir':
    params = jax.tree.map(lambda leaf: np.full_like(leaf, leaf.ndim == 4), params)
  lit = np.full(shape, gray, np.float32)
  for i in range(multiple):
    lit[i, :, start + i] = 1
  changed = restored(model, params, lit) != restored(model, params, np.full_like(lit, gray))
  pixel, place = np.nonzero(changed.any((1, 3)))
  assert 0.9 * reach <= abs(place - start - pixel).max() <= reach


@pytest.mark.parametrize(
  'name', [name for name in models.names() if smallest(name).needs.field is None]
)
def test_global_networks_see_the_whole_image(name):
  model, params = prepared(name)
  blurred = image(model, rows=16, columns=16, batch=1)
  other = blurred.copy()
  other[:, 0, 0] = 1 - other[:, 0, 0]
  changed = restored(model, params, blurred) != restored(model, params, other)
  assert changed.any(-1)[0, -1, -1]


def test_bgan_blurs_as_the_noise_says(key):
  model, params = prepared('bgan')
  sharp = image(model)
  run = quickly(lambda key: model.apply({'params': params}, sharp, rngs={'noise': key})['restored'])
  one, other, still = run(key), run(jax.random.key(1)), restored(model, params, sharp)
  assert np.abs(one - other).max() > 1e-3 and np.abs(one - still).max() > 1e-3
  np.testing.assert_array_equal(one, run(key))
  noise = bgan.noise_map(key, jnp.zeros((2000, 2, 3, 3)), channels=2)
  assert noise.shape == (2000, 2, 3, 2)
  np.testing.assert_array_equal(noise, jnp.broadcast_to(noise[:, :1, :1], noise.shape))
  assert np.abs(noise.mean((0, 1, 2))).max() < 0.1
  assert noise[:, 0, 0].std(0) == pytest.approx([1, 1], abs=0.1)


def test_bgan_with_cycle_comes_back_to_the_sharp_image(key):
  model, params = prepared('bgan', cycle=True)
  sharp = image(model)
  (back,) = apply(model, params, sharp)['stages']
  # What it adds last, taken away: both halves then leave the image alone.
  for half in params.values():
    half['last'] = jax.tree.map(jnp.zeros_like, half['last'])
  assert np.abs(back - sharp).max() > 1e-3
  np.testing.assert_array_equal(apply(model, params, sharp)['stages'][0], sharp)


@pytest.mark.parametrize('name', ['hinet', 'mprnet', 'nafnet', 'restormer', 'swinir'])
def test_blocks_can_be_computed_again_instead_of_kept(name):
  (kept, params), again = prepared(name), smallest(name, remat=True)
  blurred = image(kept, 1, 2)

  def gradients(model):
    def loss(params):
      out = model.apply({'params': params}, blurred, train=True, rngs={'dropout': key})
      return jnp.square(out['restored']).mean()

    key = jax.random.key(0)
    return jax.grad(loss)

  assert 'remat' not in str(jax.make_jaxpr(gradients(kept))(params))
  assert 'remat' in str(jax.make_jaxpr(gradients(again))(params))
  if name not in ('nafnet', 'swinir'):  # The others would tell no more, and take long to compile.
    return
  expected, found = (quickly(gradients(model))(params) for model in (kept, again))
  scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * scale), found, expected
  )


def test_luminance_srcnn_keeps_the_chroma(key):
  model = models.make('srcnn', '9-5-5-y')
  params, blurred = initial(model, key), image(model)
  change = restored(model, params, blurred) - blurred
  np.testing.assert_allclose(change, change[..., :1].repeat(3, -1), atol=1e-6)
  # White is Y = 16 + 218.859 * 255 / 256, and what the network makes of that comes back at full
  # range.
  white, y = np.ones_like(blurred), 234.004 / 255
  luma = restored(model, params, np.full_like(blurred[..., :1], y))
  expected = 1 + (luma - y) * 255 / 219
  np.testing.assert_allclose(restored(model, params, white)[..., :1], expected, atol=1e-5)


def test_untrained_nafnet_adds_only_its_ending_to_the_image(key):
  model = smallest('nafnet', enc_blk_nums=(1,), dec_blk_nums=(1,))
  params, blurred = initial(model, key), image(model)
  params['ending'] = jax.tree.map(jnp.zeros_like, params['ending'])
  np.testing.assert_array_equal(restored(model, params, blurred), blurred)


def test_the_third_stage_of_hinet_is_fed_by_the_second():
  shallow = {'depth': 2, 'hin_position_left': 0}
  (two, few), (three, params) = prepared('hinet', **shallow), prepared('hinet', stages=3, **shallow)
  blurred = image(three)
  new = {'conv_03', 'cat23', 'sam23', 'up_path_3_0', 'skip_conv_3_0', 'down_path_3_0'}
  assert params.keys() - few.keys() == new | {'down_path_3_1'}
  assert 'csff_dec' in params['down_path_3_0'] and 'csff_dec' not in params['down_path_3_1']
  first, second, _ = apply(three, params, blurred)['stages']
  # The same two networks, but for how the second ends.
  pair = {**{name: params[name] for name in few}, 'last': params['sam23']['conv2']}
  pair = apply(two, pair, blurred)['stages']
  np.testing.assert_allclose(first, pair[0], atol=1e-5)
  np.testing.assert_allclose(second, pair[1], atol=1e-5)


def test_windows_of_swinir_do_not_wrap_around():
  model, params = prepared('swinir')
  blurred = np.zeros((1, 32, 24, 3), np.float32)
  lit = blurred.copy()
  lit[:, -1] = lit[:, :, -1] = 1
  change = np.abs(restored(model, params, lit) - restored(model, params, blurred)).max(-1)[0]
  assert change[-4:].min() > 0 and change[:, -4:].min() > 0
  assert change[:12, :4].max() == 0


def test_swinir_leaves_blocks_out_only_in_training(key):
  model, params = smallest('swinir', drop_path_rate=1.0), prepared('swinir')[1]
  blurred, both = image(model), restored(model, params, image(model))
  training = quickly(
    lambda: model.apply({'params': params}, blurred, train=True, rngs={'dropout': key})
  )
  # Of two blocks the second is always left out, the first never.
  alone = smallest('swinir', depths=(1,))
  first = {name: params[name] for name in params if name != 'layers_0_blocks_1'}
  np.testing.assert_allclose(training()['restored'], restored(alone, first, blurred), atol=1e-5)
  assert np.abs(both - training()['restored']).max() > 1e-3


def test_parts_come_back_in_place():
  from deblur_jax.nn.parts import join, split

  x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  parts = split(x, 2, 2)
  np.testing.assert_array_equal(parts[1], x[0, :2, 3:])
  np.testing.assert_array_equal(parts[6], x[1, 2:, :3])
  np.testing.assert_array_equal(join(parts, 2, 2), x)
  np.testing.assert_array_equal(join(parts, 1, 2), split(x, 2, 1))


def test_autoencoder_is_the_table(key):
  model = models.make('autoencoder')
  image = jnp.zeros((1, 128, 128, 3))
  _, state = jax.eval_shape(lambda: model.init_with_output(key, image, capture_intermediates=True))
  params, outputs = state['params'], state['intermediates']
  sizes = {
    part: {name: sum(leaf.size for leaf in layer.values()) for name, layer in params[part].items()}
    for part in params
  }
  assert sizes == {
    'encoder': {'conv1': 1_792, 'conv2': 73_856, 'conv3': 295_168, 'latent': 16_777_472},
    'decoder': {
      'dense': 16_842_752,
      'conv1': 590_080,
      'conv2': 295_040,
      'conv3': 73_792,
      'last': 1_731,
    },
  }
  assert sum(sizes['encoder'].values()) == 17_148_288
  assert sum(sizes['decoder'].values()) == 17_803_395
  shapes = {
    part: {
      name: layer['__call__'][0].shape[1:]
      for name, layer in outputs[part].items()
      if name != '__call__'
    }
    for part in ('encoder', 'decoder')
  }
  assert shapes == {
    'encoder': {
      'conv1': (64, 64, 64),
      'conv2': (32, 32, 128),
      'conv3': (16, 16, 256),
      'latent': (256,),
    },
    'decoder': {
      'dense': (65_536,),
      'conv1': (32, 32, 256),
      'conv2': (64, 64, 128),
      'conv3': (128, 128, 64),
      'last': (128, 128, 3),
    },
  }


def test_autoencoder_pads_as_keras(key):
  model = models.make('autoencoder', 'tiny', features=(2,))
  params = jax.tree.map(jnp.zeros_like, initial(model, key))
  # Every layer passes on channel 0: the first shifts it by what is padded below, the second, whose
  # kernel is flipped, puts every value where Keras begins with it, the third leaves it there.
  for layer, tap in (('encoder/conv1', 2), ('decoder/conv1', 2), ('decoder/last', 1)):
    part, name = layer.split('/')
    params[part][name]['kernel'] = params[part][name]['kernel'].at[tap, tap, 0, 0].set(1)
  blurred = image(model)
  expected = np.zeros_like(blurred)
  expected[:, :-2:2, :-2:2, 0] = blurred[:, 2::2, 2::2, 0]
  found = restored(model, params, blurred)
  np.testing.assert_allclose(found, 1 / (1 + np.exp(-expected)), atol=1e-6)


def test_dense_autoencoder_says_which_size_it_takes(key):
  with pytest.raises(ValueError, match=r'requires 64x64 pixels, got 32x16: .*crop\(64\)'):
    smallest('autoencoder').init(key, jnp.zeros((1, 16, 32, 3)))


def test_deblurgan_drops_out_only_in_training(key):
  model, params = prepared('deblurgan')
  blurred = image(model)

  @quickly
  def training(key):
    return model.apply({'params': params}, blurred, train=True, rngs={'dropout': key})['restored']

  a, b = map(training, jax.random.split(key))
  assert np.abs(a - b).max() > 1e-3
  np.testing.assert_array_equal(*(restored(model, params, blurred) for _ in range(2)))


def test_deblurgan_stays_in_range_and_starts_from_the_image():
  model, params = prepared('deblurgan')
  blurred = image(model)
  out = restored(model, params, blurred)
  assert (out.min(), out.max()) == (0, 1)
  zeros = jax.tree.map(jnp.zeros_like, params)
  np.testing.assert_allclose(restored(model, zeros, blurred), blurred, atol=1e-6)
  alone = smallest('deblurgan', learn_residual=False)
  np.testing.assert_allclose(restored(alone, zeros, blurred), 0.5)


@pytest.mark.parametrize('shape', [(32, 48), (12, 20), (4, 8)])
def test_pyramid_of_deepdeblur_is_scikit_images(shape):
  image = np.random.default_rng(0).uniform(size=(*shape, 3)).astype(np.float32)
  expected = skimage.transform.pyramid_gaussian(image, 2, channel_axis=-1)
  for ours, theirs in zip(smallest('deepdeblur').pyramid(image), expected, strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_srn_goes_from_coarse_to_fine():
  from deblur_jax.models.srn import GNet, upsample2

  model, params = prepared('srn')
  model = model.clone(lstm=False)
  params = {'g_net': {k: v for k, v in params['g_net'].items() if k != 'convLSTM'}}
  g_net, blurred = GNet(3, False, model.width, model.blocks, jnp.float32), image(model, 1, 2)

  def step(params, image, before):
    return g_net.apply({'params': params['g_net']}, jnp.concatenate([image, before], -1))[0]

  quick = quickly(step)
  coarse = quick(params, blurred[:, ::4, ::4], blurred[:, ::4, ::4])
  middle = quick(params, blurred[:, ::2, ::2], upsample2(coarse))
  fine = quick(params, blurred, upsample2(middle))
  found = apply(model, params, blurred)['scales']
  for ours, expected in zip(found, (fine, middle, coarse), strict=True):
    np.testing.assert_allclose(ours, expected, atol=1e-5)

  # What a scale asks of its parameters does not go back by way of the scale before.
  def whole(params):
    return model.apply({'params': params}, blurred)['restored'].sum()

  def last(params):
    return step(params, blurred, upsample2(middle)).sum()

  found, expected = (quickly(jax.grad(function))(params) for function in (whole, last))
  for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_srn_resizes_as_tensorflow_1():
  from deblur_jax.models.srn import upsample2

  x = np.asarray([[0.0, 1.0, 4.0], [8.0, 8.0, 8.0]])[None, ..., None]
  rows = [[0, 0.5, 1, 2.5, 4, 4], [4, 4.25, 4.5, 5.25, 6, 6], [8] * 6, [8] * 6]
  np.testing.assert_array_equal(upsample2(x)[0, ..., 0], rows)
  finest, half, quarter = smallest('srn').pyramid(np.arange(32.0).reshape(4, 8, 1))
  np.testing.assert_array_equal(half[..., 0], [[0, 2, 4, 6], [16, 18, 20, 22]])
  np.testing.assert_array_equal(quarter[..., 0], [[0, 4]])
  assert finest.shape == (4, 8, 1)


def test_srn_of_one_channel_restores_each_by_itself(key):
  model = smallest('srn', channels=1, lstm=False)
  params, blurred = initial(model, key), image(model, 1, 2)
  found = apply(model, params, blurred)['scales']
  alone = [apply(model, params, blurred[..., i : i + 1])['scales'] for i in range(3)]
  for ours, *expected in zip(found, *alone, strict=True):
    np.testing.assert_allclose(ours, np.concatenate(expected, -1), atol=1e-6)


def test_dmphn_is_the_composition_of_the_paper():
  from deblur_jax.models.dmphn import Decoder, Encoder

  model, params = smallest('dmphn', levels=4), prepared('dmphn')[1]
  params = {**params, 'encoder_lv4': params['encoder_lv1'], 'decoder_lv4': params['decoder_lv2']}
  blurred = image(model, 1, 2)
  encoder, decoder = Encoder(model.width, jnp.float32), Decoder(model.width, 3, jnp.float32)
  run_encoder, run_decoder = quickly(encoder.apply), quickly(decoder.apply)

  def encode(level, x):
    return run_encoder({'params': params[f'encoder_lv{level}']}, x)

  def decode(level, x):
    return run_decoder({'params': params[f'decoder_lv{level}']}, x)

  def join(parts, axis):
    return [jnp.concatenate(pair, axis) for pair in zip(parts[::2], parts[1::2], strict=True)]

  halves = jnp.split(blurred - 0.5, 2, axis=1)
  quarters = [part for half in halves for part in jnp.split(half, 2, axis=2)]
  eighths = [part for quarter in quarters for part in jnp.split(quarter, 2, axis=1)]
  four = join([encode(4, x) for x in eighths], 1)
  three = [encode(3, x + decode(4, f)) for x, f in zip(quarters, four, strict=True)]
  three = [a + b for a, b in zip(join(three, 2), join(four, 2), strict=True)]
  two = [encode(2, x + decode(3, f)) for x, f in zip(halves, three, strict=True)]
  two = join(two, 1)[0] + join(three, 1)[0]
  expected = decode(1, encode(1, blurred - 0.5 + decode(2, two)) + two) + 0.5
  found = restored(model, params, blurred)
  np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_dbgan_clips_but_in_training():
  model, params = prepared('dbgan')
  params = {**params, 'model_4': jax.tree.map(lambda leaf: 3 * leaf, params['model_4'])}
  blurred = image(model)
  training = model.apply({'params': params}, blurred, train=True)['restored']
  assert training.min() < 0 and training.max() > 1
  np.testing.assert_array_equal(restored(model, params, blurred), training.clip(0, 1))


def test_dbgan_of_slope_1_is_linear():
  model, params = prepared('dbgan', relu_slope=1.0)
  a, b = image(model), image(model)[:, ::-1]
  run = quickly(lambda x: model.apply({'params': params}, x, train=True)['restored'])
  np.testing.assert_allclose(run(a) + run(b), run(a + b) + run(0 * a), atol=1e-4)


@pytest.mark.parametrize('name', ['restormer', 'swinir'])
def test_gelu_may_be_that_of_tanh(name):
  (exact, params), near = prepared(name), smallest(name, gelu_tanh=True)
  blurred = image(exact)
  expected, found = (restored(model, params, blurred) for model in (exact, near))
  change = np.abs(expected - blurred).mean()
  assert 0 < np.abs(found - expected).max() < 0.01 * change


def test_dbcnn_units_share_their_weights_or_not():
  blurred, (model, params) = image(smallest('dbcnn')), prepared('dbcnn')
  shared = model.clone(shared=True)
  once = {name: leaf for name, leaf in params.items() if name != 'unit_1'}
  twice = {**params, 'unit_1': params['unit_0']}
  expected = restored(model, twice, blurred)
  np.testing.assert_allclose(restored(shared, once, blurred), expected, atol=1e-5)
  assert np.abs(restored(model, params, blurred) - expected).max() > 1e-3


def test_dbcnn_with_a_blur_for_weights_is_van_cittert_iteration(key):
  model = smallest('dbcnn', features=(3, 3), width=6, shared=True)
  params, blurred = jax.tree.map(jnp.zeros_like, initial(model, key)), image(model)
  eye = np.eye(3)

  def center(kernel, matrix, column=0):
    size = kernel.shape[0] // 2
    return kernel.at[size, size + column].set(matrix)

  def put(layer, *arguments):
    layer['kernel'] = center(layer['kernel'], *arguments)

  for i in (1, 2, 3):
    put(params['front'][f'conv{i}'], eye)
  for name, share in (('down', 0.5), ('up', 1)):
    projection = params['unit_0'][name]
    # x by way of x and -x, as leaky(x) - leaky(-x) is 1.2 x.
    put(projection['conv1'], share * np.concatenate([eye, -eye], 1))
    put(projection['conv2'], np.concatenate([eye, -eye]) / 1.2)
  put(params['unit_0']['down']['conv1'], 0.5 * np.concatenate([eye, -eye], 1), 1)
  put(params['join'], np.concatenate([-eye, eye]))  # the estimate less the input: the residual

  estimate = blurred
  for _ in range(model.units):
    right = np.pad(estimate[:, :, 1:], ((0, 0), (0, 0), (0, 1), (0, 0)))
    estimate = estimate + blurred - (estimate + right) / 2
  np.testing.assert_allclose(restored(model, params, blurred), estimate, atol=1e-5)


def test_gradients_on_four_devices(key):
  model = smallest('nafnet', enc_blk_nums=(1,), dec_blk_nums=(1,))
  params = jax.tree.map(lambda leaf: leaf + 0.1, initial(model, key))
  blurred = image(model, 2, 2, batch=4)

  def loss(params, blurred):
    return jnp.mean(jnp.square(model.apply({'params': params}, blurred)['restored']))

  step = quickly(jax.grad(loss))
  mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
  spread = jax.device_put(blurred, NamedSharding(mesh, PartitionSpec('data')))
  copied = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))

  def compare(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())

  jax.tree.map(compare, step(copied, spread), step(params, blurred))


def test_make_takes_lists_as_configs_hold_them():
  model = models.make('nafnet', 'smoke', enc_blk_nums=[1, 2])
  assert model.enc_blk_nums == (1, 2)
  assert model == models.make('nafnet', 'smoke', enc_blk_nums=(1, 2))
  assert model.needs.multiple == 4


@pytest.mark.parametrize(
  'arguments,overrides,said',
  [
    (('nafnot',), {}, 'hinet, indi, instructir, maxim, mprnet, nafnet'),
    (('nafnet', 'huge'), {}, 'default, w64, small'),
    (('nafnet', 'smoke'), {'wide': 3}, 'wide; available: width'),
  ],
)
def test_make_says_what_there_is(arguments, overrides, said):
  with pytest.raises(ValueError, match=said):
    models.make(*arguments, **overrides)
