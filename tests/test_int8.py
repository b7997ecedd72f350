"""Training for INT8: which layers round, how they round, and what a run leaves."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import models, train, weights, zoo
from deblur_jax.configs import srcnn
from deblur_jax.nn import int8
from deblur_jax.nn.conv import Conv
from deblur_jax.types import Needs

pytest.importorskip('qwix', reason='the extra quantize is not installed')


class ThreeLayers(nn.Module):
  """Three 1x1 convolutions without biases."""

  needs = Needs()

  @nn.compact
  def __call__(self, x, *, train=False):
    for name in ('first', 'middle', 'last'):
      x = Conv(3, 1, use_bias=False, name=name)(x)
    return {'restored': x}


def rounded(values, axis):
  """To 256 steps, from the largest size along `axis` down to its negative."""
  step = np.abs(values).max(axis=axis, keepdims=True) / 127.5
  return np.clip(np.rint(values / step), -128, 127) * step


def test_the_middle_rounds_as_calculated_by_hand():
  random = np.random.default_rng(0)
  kernels = {name: random.uniform(size=(3, 3)) for name in ('first', 'middle', 'last')}
  kernels['middle'][1:] -= 0.9  # Largest values are positive: a negative one would lie halfway.
  kernels['middle'][0] = 1
  image = random.uniform(size=(1, 8, 8, 3))
  features = image @ kernels['first']
  features = rounded(features, (0, 1, 2, 3)) @ rounded(kernels['middle'], 0)
  expected = features @ kernels['last']
  params = {name: {'kernel': jnp.asarray(one[None, None], 'f4')} for name, one in kernels.items()}
  model = int8.rounding(ThreeLayers())
  result = model.apply({'params': params}, jnp.asarray(image, 'f4'))['restored']
  np.testing.assert_allclose(result, expected, atol=1e-5)
  plain = ThreeLayers().apply({'params': params}, jnp.asarray(image, 'f4'))['restored']
  assert np.abs(plain - expected).max() > 1e-3


def test_gradients_pass_as_if_nothing_was_rounded():
  # Of the sum of outputs, the gradient of the last kernel is the sum of the rounded features, and
  # that of the first is exact: both factors behind it are linear.
  params = ThreeLayers().init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))['params']
  params['middle']['kernel'] = params['middle']['kernel'].at[..., 0, :].set(1)
  image = jax.random.uniform(jax.random.key(1), (1, 8, 8, 3))

  def total(params, model):
    return model.apply({'params': params}, image)['restored'].sum()

  found = jax.grad(total)(params, int8.rounding(ThreeLayers()))['first']['kernel'][0, 0]
  kernel = rounded(np.asarray(params['middle']['kernel'][0, 0]), 0)
  behind = kernel @ np.asarray(params['last']['kernel'][0, 0]).sum(1)
  expected = np.outer(np.asarray(image).sum((0, 1, 2)), behind)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
  ('name', 'first', 'last'),
  [('nafnet', 'intro', 'ending'), ('srcnn', 'conv1', 'conv3')],
)
def test_first_and_last_layer_are_found(name, first, last):
  layers = int8.layers_in_order(models.make(name))
  assert (layers[0], layers[-1]) == (first, last)


def test_a_run_leaves_a_plain_network(tmp_path):
  config = srcnn.get_config('smoke')
  config.steps, config.quantize = 2, 'int8'
  train.train(config, tmp_path / 'run')
  model, params, manifest = zoo.network(tmp_path / 'run')
  assert manifest['network'] == 'srcnn'
  weights.check_fit(params, models.shapes(models.make('srcnn')), what='int8')
  assert type(model) is type(models.make('srcnn'))


def test_another_word_is_refused(tmp_path):
  config = srcnn.get_config('smoke')
  config.quantize = 'int4'
  with pytest.raises(ValueError, match=r"config\.quantize is 'int4'; it can be 'int8'"):
    train.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
