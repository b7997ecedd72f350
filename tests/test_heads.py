"""Heads learn what is known: quantiles and variances of errors that were made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from configs import nafnet
from deblur_jax import models, train, trainers, weights
from deblur_jax.losses import interval
from deblur_jax.photos import restorer
from deblur_jax.uncertainty import head

pytestmark = pytest.mark.optimized


def test_pinball_by_hand_and_least_at_the_quantile():
  sharp = jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1)
  half = jnp.full_like(sharp, 0.5)
  # 0.9 * 0.5 for the value above, 0.1 * 0.5 for the one below.
  assert interval.pinball(half, sharp, quantile=0.9) == pytest.approx((0.45 + 0.05) / 2)
  values = jnp.linspace(0, 1, 1001).reshape(1, 1, -1, 1)
  tried = jnp.linspace(0, 1, 41)
  losses = [interval.pinball(jnp.full_like(values, one), values, quantile=0.3)[0] for one in tried]
  assert tried[int(np.argmin(losses))] == pytest.approx(0.3)


def test_beta_nll_without_beta_is_the_likelihood():
  random = np.random.default_rng(0)
  logs, restored, sharp = random.normal(size=(3, 2, 4, 5, 3)).astype(np.float32)
  density = stats.norm.logpdf(sharp, restored, np.exp(logs / 2)) + np.log(2 * np.pi) / 2
  found = interval.beta_nll(logs, restored, sharp, beta=0)
  np.testing.assert_allclose(found, -density.mean((1, 2, 3)), rtol=1e-5)
  # With 1, the gradient by the prediction is that of the mean squared error.
  slope = jax.grad(lambda x: interval.beta_nll(logs, x, sharp, beta=1).sum())(jnp.asarray(restored))
  np.testing.assert_allclose(slope, (restored - sharp) / 60, rtol=1e-4, atol=1e-7)


def settings(kind, steps):
  config = nafnet.get_config('smoke')
  config.head.kind = kind
  config.optim.name, config.optim.weight_decay, config.optim.learning_rate = 'adamw', 0.1, 0.01
  config.optim.warmup, config.steps, config.ema = 0, steps, 0.9
  return config


@pytest.mark.parametrize('kind', head.KINDS)
def test_a_head_learns_the_errors_that_were_made(kind, key):
  config = settings(kind, 300)
  model = models.make(head.NAME, kind=kind)
  trainer = trainers.TRAINERS['supervised'](config, model)

  levels = np.array([0.2, 0.5, 0.8], np.float32)
  blurred = np.broadcast_to(levels[:, None, None, None], (3, 16, 16, 3))

  def batch(step):
    # Uniform, in a range that grows with the brightness.
    noise = np.random.default_rng(step).uniform(-1, 1, blurred.shape).astype(np.float32)
    return {'blurred': blurred, 'sharp': blurred + (0.02 + 0.2 * blurred) * noise}

  state = jax.jit(trainer.init)(key, batch(0))
  # Without its last layer a NAFNet returns its input.
  last = jax.tree.map(jnp.zeros_like, state.params['base']['ending'])
  base = {**state.params['base'], 'ending': last}
  state = state.replace(params={**state.params, 'base': base})
  step = jax.jit(trainer.step)
  for number in range(config.steps):
    state, metrics = step(state, batch(number))
  assert metrics.keys() >= {'loss', 'psnr'}
  jax.tree.map(np.testing.assert_array_equal, state.params['base'], base)
  out = jax.jit(model.apply)({'params': state.params}, blurred)
  out = {name: np.asarray(one)[:, 8, 8] for name, one in out.items()}  # [3 3]
  most = 0.02 + 0.2 * levels[:, None]
  np.testing.assert_array_equal(out['restored'], blurred[:, 8, 8])
  if kind == 'quantiles':  # of 5 % and 95 %
    np.testing.assert_allclose((out['low'] - levels[:, None]) / most, -0.9, atol=0.12)
    np.testing.assert_allclose((out['high'] - levels[:, None]) / most, 0.9, atol=0.12)
  else:
    np.testing.assert_allclose(out['half_width'] / most, 1 / np.sqrt(3), rtol=0.12)


def test_a_run_trains_the_head_of_given_weights(tmp_path):
  base = models.make('nafnet', 'smoke')
  random = np.random.default_rng(0)
  params = jax.tree.map(
    lambda one: random.normal(0, 0.1, one.shape).astype('f'), models.shapes(base)
  )
  manifest = {'network': 'nafnet', 'arguments': nafnet.get_config('smoke').model.to_dict()}
  manifest['arguments'].pop('name')
  weights.write(tmp_path / 'base.safetensors', params, manifest)
  for steps in (2, 4):  # the second resumes the first
    config = settings('quantiles', steps)
    config.model.width = 8  # replaced by that of the weights
    config.start = str(tmp_path / 'base.safetensors')
    train.train(config, tmp_path / 'run')
  found, manifest = weights.read(tmp_path / 'run/weights.safetensors')
  assert manifest['network'] == head.NAME and manifest['step'] == 4
  jax.tree.map(np.testing.assert_array_equal, found['base'], params)
  image = random.random((20, 24, 3)).astype('f')
  plain, headed = (
    restorer.load(tmp_path / name, spread_of=of)
    for name, of in (('base.safetensors', 'turns'), ('run', 'head'))
  )
  np.testing.assert_array_equal(plain(image), headed(image))
  ((_, spreads),) = headed.spreads(image[None])
  assert spreads.shape == (1, 20, 24, 3) and (spreads > 0).all()


def test_a_frozen_network_without_weights_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'config\.head\.frozen trains the head alone'):
    train.train(settings('variance', 1), tmp_path)
  assert not list(tmp_path.iterdir())
