"""Every network: size, shapes, gradients, precision, and what it says that it needs."""

import functools
import importlib

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest

from deblur_jax import models
from deblur_jax.nn import conv

PARAMETERS = {
  ('hinet', 'default'): 88_668_806,
  ('hinet', 'half'): 22_176_070,
  ('hinet', 'tiny'): 1_383_462,
  ('hinet', 'smoke'): 22_030,
  ('mprnet', 'default'): 20_127_073,
  ('mprnet', 'lite'): 6_376_449,
  ('mprnet', 'tiny'): 179_769,
  ('mprnet', 'smoke'): 25_015,
  ('nafnet', 'default'): 17_111_907,
  ('nafnet', 'w64'): 67_888_835,
  ('nafnet', 'small'): 4_390_155,
  ('nafnet', 'tiny'): 676_211,
  ('nafnet', 'smoke'): 5_759,
  ('srcnn', 'default'): 20_099,
  ('srcnn', '9-5-5'): 69_251,
  ('srcnn', '9-5-5-y'): 57_281,
}
SMALLEST = {'srcnn': 'default'}


def smallest(name, **overrides):
  return models.make(name, SMALLEST.get(name, 'smoke'), **overrides)


@functools.cache
def prepared(name, seed=0):
  """The smallest variant and random parameters for it, none of them zero."""
  model = smallest(name)
  side = 2 * model.needs.multiple
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))['params']
  rng = np.random.default_rng(seed)

  def draw(leaf):
    fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) == 4 else 4
    return (rng.standard_normal(leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

  return model, jax.tree.map(draw, shapes)


def image(model, rows=3, columns=5, batch=2):
  multiple = max(model.needs.multiple, 4)
  shape = (batch, rows * multiple, columns * multiple, 3)
  return np.random.default_rng(1).uniform(size=shape).astype(np.float32)


# Compiles in a fraction of the time.
quickly = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


@functools.partial(quickly, static_argnums=0)
def apply(model, params, blurred):
  return model.apply({'params': params}, blurred)


def restored(model, params, blurred):
  return apply(model, params, blurred)['restored']


def initial(model, key):
  image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
  return quickly(lambda key: model.lazy_init(key, image))(key)['params']


@pytest.mark.parametrize('name,variant', PARAMETERS)
def test_parameter_counts(name, variant):
  model = models.make(name, variant)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))['params']
  leaves = jax.tree.leaves(shapes)
  assert sum(leaf.size for leaf in leaves) == PARAMETERS[name, variant]
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype('float32')}


def test_every_variant_is_counted():
  modules = {name: importlib.import_module(f'deblur_jax.models.{name}') for name in models.names()}
  assert {(name, variant) for name in modules for variant in modules[name].VARIANTS} == set(
    PARAMETERS
  )


def test_small_networks_fit_their_files():
  assert 2 * PARAMETERS['nafnet', 'small'] < 10e6
  assert 2 * PARAMETERS['nafnet', 'tiny'] < 2e6


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


@pytest.mark.parametrize('name', models.names())
def test_gradients_reach_every_parameter(name):
  model, _params = prepared(name)
  blurred = image(model, 1, 2)

  @quickly
  def gradients(params):
    def loss(params):
      out = model.apply({'params': params}, blurred, train=True)
      return sum(jnp.mean(jnp.abs(stage)) for stage in out.get('stages', [out['restored']]))

    return jax.tree.map(lambda leaf: jnp.abs(leaf).max(), jax.grad(loss)(params))

  # A ReLU that has only a channel or two may be dead for some weights, but not for all.
  reached = [gradients(prepared(name, seed)[1]) for seed in range(6)]
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


def test_srcnn_sees_its_halo_and_no_more():
  model, params = prepared('srcnn')
  halo, blurred = model.needs.halo, np.zeros((1, 31, 31, 3), np.float32)

  def center(blurred):
    return model.apply({'params': params}, blurred)['restored'][0, 15, 15].sum()

  seen = quickly(jax.grad(center))(blurred)
  rows, columns = np.nonzero(np.abs(seen[0]).sum(-1))
  assert (rows.min(), rows.max()) == (columns.min(), columns.max()) == (15 - halo, 15 + halo)


def test_luminance_srcnn_keeps_the_chroma(key):
  model = models.make('srcnn', '9-5-5-y')
  params, blurred = initial(model, key), image(model)
  change = restored(model, params, blurred) - blurred
  np.testing.assert_allclose(change, change[..., :1].repeat(3, -1), atol=1e-6)
  # White is Y = 235 of 255, and what the network makes of that comes back at full range.
  white = np.ones_like(blurred)
  luma = restored(model, params, np.full_like(blurred[..., :1], 235 / 255))
  expected = 1 + (luma - 235 / 255) * 255 / 219
  np.testing.assert_allclose(restored(model, params, white)[..., :1], expected, atol=1e-5)


def test_untrained_nafnet_adds_only_its_ending_to_the_image(key):
  model = smallest('nafnet', enc_blk_nums=(1,), dec_blk_nums=(1,))
  params, blurred = initial(model, key), image(model)
  params['ending'] = jax.tree.map(jnp.zeros_like, params['ending'])
  np.testing.assert_array_equal(restored(model, params, blurred), blurred)


def test_mprnet_parts_come_back_in_place():
  from deblur_jax.models.mprnet import join, split

  x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  parts = split(x, 2, 2)
  np.testing.assert_array_equal(parts[1], x[0, :2, 3:])
  np.testing.assert_array_equal(parts[6], x[1, 2:, :3])
  np.testing.assert_array_equal(join(parts, 2, 2), x)
  np.testing.assert_array_equal(join(parts, 1, 2), split(x, 2, 1))


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
    (('nafnot',), {}, 'hinet, mprnet, nafnet, srcnn'),
    (('nafnet', 'huge'), {}, 'default, w64, small'),
    (('nafnet', 'smoke'), {'wide': 3}, 'wide; it has: width'),
  ],
)
def test_make_says_what_there_is(arguments, overrides, said):
  with pytest.raises(ValueError, match=said):
    models.make(*arguments, **overrides)
