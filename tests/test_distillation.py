"""Training against the result of a larger network, next to the sharp pictures."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import models, weights, zoo
from deblur_jax.configs import deblurgan, srcnn
from deblur_jax.models import nafnet
from deblur_jax.trainers import TRAINERS, supervised


class Offset(nn.Module):
  """Adds a trained constant, 0 in the beginning."""

  @nn.compact
  def __call__(self, blurred, *, train=False):
    return {'restored': blurred + self.param('offset', nn.initializers.zeros, (1, 1, 1, 1))}


def settings(teacher='', weight=0.0):
  config = srcnn.get_config('smoke')
  config.blur, config.loss = 'sharp', {'mse': 1.0}
  config.teacher.weights, config.teacher.weight = teacher, weight
  return config


@pytest.mark.parametrize('parts', [1, 2])
def test_the_losses_against_a_teacher_are_added(brighter, key, parts):
  config = settings(brighter, 0.5)  # a teacher that adds a quarter
  config.accumulate = parts
  trainer = supervised.make(config, Offset())
  batch = {'sharp': np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)}
  _, metrics = jax.jit(trainer.step)(trainer.init(key, batch), batch)
  # Sharp pictures are given back as they are, so that only the teacher counts.
  assert metrics['loss/teacher'] == pytest.approx(0.25**2, rel=1e-4)
  assert metrics['loss'] == pytest.approx(0.5 * 0.25**2, rel=1e-4)
  assert metrics['gradient_norm'] == pytest.approx(0.5 * 2 * 0.25, rel=1e-4)


def test_a_teacher_sees_images_padded_to_its_multiple(tmp_path, key):
  model = models.make('nafnet', 'smoke')
  drawn = np.random.default_rng(0)
  params = jax.tree.map(lambda one: drawn.normal(size=one.shape) / 9, models.shapes(model))
  params = jax.tree.map(np.float32, params)
  path = tmp_path / 'teacher.safetensors'
  weights.write(path, params, {'network': 'nafnet', 'arguments': nafnet.VARIANTS['smoke']})
  assert model.needs.multiple == 2
  image = jax.random.uniform(key, (1, 15, 16, 3))
  taught = supervised.teacher(settings(str(path), 1.0))
  assert taught is not None
  below = image[:, -1:]  # the last row again
  expected = zoo.load(path).restore(jnp.concatenate([image, below], axis=1))[:, :-1]
  np.testing.assert_allclose(jax.jit(taught)(image), expected, atol=1e-5)


def test_a_teacher_needs_weights_and_a_weight(brighter):
  assert supervised.teacher(settings()) is None
  for config in (settings(brighter), settings(weight=1.0), settings(brighter, -1.0)):
    with pytest.raises(ValueError, match='requires both weights and a weight above 0'):
      supervised.make(config, Offset())
  config = deblurgan.get_config('smoke')
  config.teacher.weights, config.teacher.weight = brighter, 1.0
  with pytest.raises(ValueError, match='adversarial training does not support'):
    TRAINERS[config.trainer](config, models.make(**config.model))
