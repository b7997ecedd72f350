"""Restoring in steps: the walk from source to picture, and how its networks are trained."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from configs import common, indi, refine
from deblur_jax import cli, models, trainers, weights, zoo
from deblur_jax.nn import bridge
from deblur_jax.photos import restorer
from deblur_jax.uncertainty import spread


class Known(nn.Module):
  """Estimates `factor` times what it sees, or with `std` the mean of a normal picture."""

  factor: float = 0.0
  std: float = 0.0

  def __call__(self, source, steps):
    return bridge.walk(self, source, None, steps)

  def estimate(self, z, t, condition):
    if not self.std:
      return self.factor * z
    t = bridge.spread(t)
    variance = (1 - t) ** 2 * self.std**2 + t**2
    return self.std**2 * (1 - t) / variance * z


@pytest.mark.parametrize(
  'steps,expected',
  [
    (1, 0.5),  # the estimate itself
    (2, 0.75 * 0.5),  # half of the way to it, then all of the way
    (4, 0.875 * (5 / 6) * 0.75 * 0.5),
  ],
)
def test_steps_go_where_the_formula_says(steps, expected):
  z = Known(factor=0.5).apply({}, jnp.ones((1, 2, 2, 3)), steps)
  np.testing.assert_allclose(z, expected, rtol=1e-6)


def test_many_steps_sample_what_the_estimate_is_the_mean_of(key):
  """The exact mean of a normal picture, given z_t, leads from noise to that distribution."""
  source = jax.random.normal(key, (1, 100, 100, 3))
  walk = jax.jit(lambda z, steps: Known(std=0.3).apply({}, z, steps), static_argnums=1)
  assert walk(source, 200).std() == pytest.approx(0.3 * float(source.std()), rel=0.02)
  assert walk(source, 1).std() == 0  # one step is the mean
  assert walk(source, 4).std() < 0.3 * source.std()


def params_of(model, seed=0):
  """Random parameters, none of them zero."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))['params']
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape).astype('f'), shapes)


def test_one_step_of_indi_is_regression():
  model = models.make('indi', 'smoke')
  params = params_of(model)
  blurred = np.random.default_rng(0).random((2, 8, 8, 3)).astype('f')
  found = model.apply({'params': params}, blurred)['restored']
  expected = model.apply({'params': params}, blurred, jnp.ones(2), method='estimate')
  np.testing.assert_array_equal(found, expected)
  other = model.apply({'params': params}, blurred, jnp.full(2, 0.5), method='estimate')
  assert np.abs(other - expected).max() > 1e-3  # it sees the time


@pytest.mark.parametrize('name,settings', [('indi', {'noise': 0.1}), ('refine', {'steps': 2})])
def test_a_key_decides_the_sample(name, settings, key):
  model = models.make(name, 'smoke', **settings)
  params, blurred = params_of(model), np.full((1, 8, 8, 3), 0.5, 'f')

  def sample(**rngs):
    return model.apply({'params': params}, blurred, rngs=rngs)['restored']

  np.testing.assert_array_equal(sample(noise=key), sample(noise=key))
  assert np.abs(sample(noise=key) - sample(noise=jax.random.key(1))).max() > 1e-3
  np.testing.assert_array_equal(sample(), sample())


def test_velocity_is_what_leads_from_the_picture_to_its_source(key):
  model = models.make('indi', 'smoke', velocity=True, noise=0.1)
  params = params_of(model)
  rng = np.random.default_rng(0)
  blurred, sharp = rng.random((2, 2, 8, 8, 3)).astype('f')
  t = jnp.array([0.25, 1.0])
  restored, target, found = model.apply(
    {'params': params}, blurred, sharp, t, rngs={'noise': key}, method='exercise'
  )
  source = sharp + target
  assert (source - blurred).std() == pytest.approx(0.1, rel=0.1)
  z = sharp + bridge.spread(t) * target
  np.testing.assert_allclose(z - bridge.spread(t) * found, restored, atol=1e-5)


def settings(recipe, **changes):
  config = recipe.smoke()
  config.ema = 0.5
  config.update(changes)
  return config


def batch():
  sharp = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
  return {'sharp': sharp, 'blurred': sharp[:, ::-1]}


def test_the_restorer_of_refine_is_not_trained(tmp_path):
  first = params_of(models.make('nafnet', 'smoke'))
  weights.write(tmp_path / 'first.safetensors', first, {'network': 'nafnet', 'arguments': {}})
  config = settings(refine, first=str(tmp_path / 'first.safetensors'))
  config.model.restorer = (('name', 'nafnet'), ('variant', 'smoke'))
  config.optim.update(name='adamw', weight_decay=0.1, warmup=0)
  trainer = trainers.generative.make(config, models.make(**config.model))
  state = jax.jit(trainer.init)(jax.random.key(0), batch())
  before = jax.tree.map(np.array, state.params)
  state, metrics = jax.jit(trainer.step)(state, batch())
  assert np.isfinite(metrics['loss'])
  for params in (state.params, state.ema):
    jax.tree.map(np.testing.assert_array_equal, params['first'], first)
  changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before['net'], state.params['net'])
  assert all(jax.tree.leaves(changed['ending']))
  held = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state))
  assert held < 3 * sum(leaf.size for leaf in jax.tree.leaves(state.params['net']))


def test_what_does_not_fit_is_one_line():
  config = settings(indi, first='mobile')
  with pytest.raises(ValueError, match=r'config\.first is for networks with a frozen restorer'):
    trainers.generative.make(config, models.make(**config.model))
  config = settings(indi, accumulate=2)
  with pytest.raises(ValueError, match='set accumulate to 1'):
    trainers.generative.make(config, models.make(**config.model))
  config = settings(indi)
  config.teacher.update(weights='general', weight=1.0)
  with pytest.raises(ValueError, match=r'does not support config\.teacher'):
    trainers.generative.make(config, models.make(**config.model))
  config = settings(refine, first='', trainer='supervised')
  config.first = 'mobile'
  with pytest.raises(ValueError, match='for the generative and the guided trainer'):
    trainers.supervised.make(config, models.make(**config.model))
  config = settings(refine, first='')
  with pytest.raises(ValueError, match='must name the weights of the restorer'):
    trainers.generative.make(config, models.make(**config.model))
  config = settings(refine, first='maxim')
  with pytest.raises(weights.DoesNotFit, match='first maxim'):
    trainers.generative.make(config, models.make(**config.model))
  config = settings(indi)
  with pytest.raises(ValueError, match='restores in steps'):
    trainers.generative.make(config, models.make('nafnet', 'smoke'))
  assert common.base().first == ''


def test_weights_sample_by_seed(tmp_path):
  shape = models.make('refine', 'smoke')
  arguments = {'variant': 'smoke', 'restorer': shape.restorer}
  path = tmp_path / 'refine.safetensors'
  weights.write(path, params_of(shape), {'network': 'refine', 'arguments': arguments})
  method = zoo.load(path, settings={'steps': 2})
  assert method.samples
  blurred = np.full((1, 8, 8, 3), 0.5, 'f')
  first, other = (np.asarray(method.restore(blurred, seed=seed)) for seed in (0, 1))
  assert np.abs(first - other).max() > 1e-3
  np.testing.assert_array_equal(first, method.restore(blurred))  # 0 is what is used without
  assert np.abs(first - zoo.load(path, settings={'steps': 3}).restore(blurred)).max() > 1e-3
  assert not zoo.load('mobile').samples


def test_samples_are_averaged(tmp_path):
  shape = models.make('refine', 'smoke')
  params = jax.tree.map(lambda leaf: leaf / 9, params_of(shape))
  path = tmp_path / 'refine.safetensors'
  arguments = {'variant': 'smoke', 'restorer': shape.restorer}
  weights.write(path, params, {'network': 'refine', 'arguments': arguments})
  image = np.random.default_rng(0).random((12, 9, 3)).astype('f')
  restore = restorer.load(path).method.restore
  padded = np.pad(image, ((0, 0), (0, 1), (0, 0)), 'reflect')[None]
  expected = np.mean([restore(padded, seed=seed)[0, :, :9] for seed in range(3)], axis=0)
  np.testing.assert_allclose(restorer.load(path, samples=3)(image), expected, atol=1e-5)
  expected = np.mean([restore(padded, seed=seed)[0, :, :9] for seed in (4, 5)], axis=0)
  np.testing.assert_allclose(restorer.load(path, samples=2, seed=4)(image), expected, atol=1e-5)
  for options in ({'samples': 3}, {'seed': 1}):
    with pytest.raises(ValueError, match='there are no samples'):
      restorer.load('mobile', **options)


def test_samples_spread(tmp_path):
  model = models.make('refine', 'smoke')
  params = params_of(model)
  image = np.random.default_rng(0).random((1, 8, 8, 3)).astype('f')
  keys = jax.random.split(jax.random.key(0), spread.DRAWS)
  results = [model.apply({'params': params}, image, rngs={'noise': key}) for key in keys]
  expected = np.std([one['restored'] for one in results], axis=0) + spread.FLOOR
  np.testing.assert_allclose(spread.of_samples(model, params)(image), expected, atol=1e-5)
  with pytest.raises(ValueError, match='in one way only'):
    spread.of_samples(models.make('nafnet', 'smoke'), {})


def test_candidates_of_a_network_that_samples_are_samples(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  shape = models.make('refine', 'smoke')
  arguments = {'variant': 'smoke', 'restorer': shape.restorer}
  weights.write(
    'refine.safetensors', params_of(shape), {'network': 'refine', 'arguments': arguments}
  )
  image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
  PIL.Image.fromarray(image).save('a.png')
  flags = ['--weights', 'refine.safetensors', '-o']
  assert cli.main(['restore', 'a.png', '--candidates', '3', *flags, 'out/']) == 0
  assert 'candidate 2: sample 2' in capsys.readouterr().out
  assert cli.main(['restore', 'a.png', '--choose', 'out/a.candidate2.png', *flags, 'b.png']) == 0
  assert cli.main(['restore', 'a.png', '--seed', '2', *flags, 'c.png']) == 0
  names = ('b.png', 'c.png', 'out/a.candidate2.png', 'out/a.candidate3.png')
  chosen, seeded, same, other = (np.asarray(PIL.Image.open(name)) for name in names)
  np.testing.assert_array_equal(chosen, same)
  np.testing.assert_array_equal(chosen, seeded)
  assert (chosen != other).any()
  for wrong in ('-1', str(2**31), 'x'):
    with pytest.raises(SystemExit):
      cli.main(['restore', 'a.png', '--seed', wrong, *flags, 'd.png'])
    assert 'is not a whole number from 0 to 2147483647' in capsys.readouterr().err
  assert cli.main(['restore', 'a.png', '--choose', 'out/a.candidate2.png', '-o', 'd.png']) == 2
  assert 'add --weights refine.safetensors' in capsys.readouterr().err
