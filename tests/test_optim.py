"""Schedules and optimizers against hand calculation."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import optim

PLAIN = {
  'name': 'adam',
  'b1': 0.9,
  'b2': 0.999,
  'weight_decay': 0.0,
  'clip': 0.0,
  'learning_rate': 0.1,
  'schedule': 'constant',
  'patience': 5,
}


def test_mprnet_schedule_rises_over_three_epochs_and_falls_by_a_cosine():
  epoch = 132
  rate = optim.schedule('cosine', 2e-4, 3000 * epoch, warmup=3 * epoch, final=1e-6, stair=epoch)
  by_epoch = [float(rate(one * epoch + 57)) for one in (0, 1, 2, 3)]
  np.testing.assert_allclose(by_epoch, [2e-4 / 3, 4e-4 / 3, 2e-4, 2e-4], rtol=1e-5)
  assert rate(5 * epoch) == rate(6 * epoch - 1) > rate(6 * epoch)  # held within an epoch
  half = 3 + 2997 / 2
  expected = 1e-6 + (2e-4 - 1e-6) / 2 * (1 + math.cos(math.pi * (1501 - 3) / 2997))
  np.testing.assert_allclose(rate(int(half) * epoch), expected, rtol=1e-3)
  np.testing.assert_allclose(rate(3000 * epoch), 1e-6, rtol=1e-3)


def test_step_decay_halves_at_its_boundaries():
  rate = optim.schedule('step', 1e-4, 100, boundaries=(50, 75))
  rates = [float(rate(step)) for step in (0, 49, 51, 76)]
  np.testing.assert_allclose(rates, [1e-4, 1e-4, 5e-5, 2.5e-5], rtol=1e-6)


def test_step_decay_counts_boundaries_from_the_start_of_training():
  rate = optim.schedule('step', 1e-4, 100, boundaries=(50,), warmup=10)
  rates = [float(rate(step)) for step in (0, 9, 49, 51)]
  np.testing.assert_allclose(rates, [1e-5, 1e-4, 1e-4, 5e-5], rtol=1e-6)


@pytest.mark.parametrize('warmup, hold, stair', [(0, 10, 1), (10, 10, 1), (0, 20, 5), (5, 60, 5)])
def test_holding_does_not_move_the_boundaries(warmup, hold, stair):
  rate = optim.schedule(
    'step', 1e-4, 100, boundaries=(50, 75), warmup=warmup, hold=hold, stair=stair
  )
  rates = [float(rate(step)) for step in (49, 50, 74, 75)]
  np.testing.assert_allclose(rates, [1e-4, 5e-5, 5e-5, 2.5e-5], rtol=1e-6)


def test_first_adam_step_is_the_learning_rate_whatever_the_gradient():
  optimizer = optim.make(PLAIN, 10).transform
  params = jnp.array([1.0, -2.0])
  updates, _ = optimizer.update(jnp.array([3e-3, -7.0]), optimizer.init(params), params)
  np.testing.assert_allclose(updates, [-0.1, 0.1], rtol=1e-4)


def test_adamw_pulls_weights_to_zero_where_there_is_no_gradient():
  optimizer = optim.make({**PLAIN, 'name': 'adamw', 'weight_decay': 0.5}, 10).transform
  params = jnp.array([2.0])
  updates, _ = optimizer.update(jnp.zeros(1), optimizer.init(params), params)
  np.testing.assert_allclose(updates, [-0.1 * 0.5 * 2.0], rtol=1e-6)


def test_clipping_limits_the_effect_of_an_outlier():
  # Adam alone forgets the scale of a constant gradient; after a normal one, an outlier shows.
  def second_step(clip, outlier):
    optimizer = optim.make({**PLAIN, 'clip': clip}, 10).transform
    params = jnp.ones(1)
    _, state = optimizer.update(jnp.ones(1), optimizer.init(params), params)
    return optimizer.update(jnp.full(1, outlier), state, params)[0]

  np.testing.assert_allclose(second_step(1.0, 10.0), second_step(1.0, 1000.0), rtol=1e-6)
  assert abs(second_step(0.0, 10.0) - second_step(0.0, 1.0)) > 1e-3


def test_moving_average():
  average = optim.moving_average({'w': jnp.ones(2)}, {'w': jnp.zeros(2)}, 0.9)
  np.testing.assert_allclose(average['w'], 0.9, rtol=1e-6)


@pytest.mark.parametrize(
  'kind,options,expected',
  [
    # Restormer: 92,000 steps at 3e-4, then a cosine over 208,000 to 1e-6
    (
      'cosine',
      {'learning_rate': 3e-4, 'steps': 300_000, 'hold': 92_000, 'final': 1e-6},
      {0: 3e-4, 92_000: 3e-4, 196_000: (3e-4 + 1e-6) / 2, 300_000: 1e-6},
    ),
    # SRN: (1 - step / steps)^0.3
    (
      'polynomial',
      {'learning_rate': 1e-4, 'steps': 524_000, 'power': 0.3},
      {0: 1e-4, 262_000: 1e-4 * 0.5**0.3, 524_000: 0},
    ),
    # DeblurGAN: 150 epochs, then a straight line to 0 over 150 more
    (
      'polynomial',
      {'learning_rate': 1e-4, 'steps': 300, 'hold': 150},
      {150: 1e-4, 200: 1e-4 * 2 / 3, 300: 0},
    ),
    (
      'exponential',
      {'learning_rate': 1e-2, 'steps': 90, 'final': 1e-5, 'warmup': 10},
      {4: 5e-3, 10: 1e-2, 50: 1e-2 * 10**-1.5, 90: 1e-5},
    ),
  ],
)
def test_rates_decay_as_published(kind, options, expected):
  rate = optim.schedule(kind, **options)
  for step, value in expected.items():
    assert float(rate(step)) == pytest.approx(value, rel=1e-4, abs=1e-12)


def test_the_rate_falls_when_the_loss_plateaus():
  settings = {'schedule': 'plateau', 'factor': 0.5, 'patience': 2, 'stair': 3, 'warmup': 0}
  optimizer, rate = optim.make({**PLAIN, **settings, 'final': 0.02}, 100)
  params = jnp.ones(1)
  state, rates = optimizer.init(params), []
  # Epochs of three steps; noise within them is averaged away.
  for mean in (1.0, 0.8, 0.9, 0.8, 0.5, 0.6, 0.49992, 0.5, 0.5, 0.5, 0.5):
    for noise in (-0.3, 0.0, 0.3):
      _, state = optimizer.update(jnp.ones(1), state, params, value=mean + noise)
    rates.append(float(rate(0, state)))
  # The best is 0.8, then two epochs without a fall; then 0.5, not improved enough by 0.49992,
  # and twice two epochs without; 0.0125 would be below the final rate.
  expected = [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.02, 0.02, 0.02]
  np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_an_exponential_never_reaches_zero():
  with pytest.raises(ValueError, match=r'set optim\.final above 0'):
    optim.schedule('exponential', 1e-3, 10)


@pytest.mark.parametrize('change', [{'name': 'sgd'}, {'schedule': 'linear'}, {'weight_decay': 0.1}])
def test_invalid_settings_are_named(change):
  with pytest.raises(ValueError, match=r'optim\.'):
    optim.make({**PLAIN, **change}, 10)
