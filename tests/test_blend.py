"""The blend of two networks: its weights by hand, and that no part of it can do harm alone."""

import jax
import numpy as np
import pytest

from deblur_jax import models, zoo


class Fixed:
  """Stands in for a network: adds a constant."""

  def __init__(self, amount):
    self._amount = amount

  def __call__(self, blurred, *, train):
    return {'restored': blurred + np.float32(self._amount)}


@pytest.mark.parametrize('motion,other,share', [(0.3, 0.1, 9 / 10.5), (0.1, 0.1, 0.4), (0, 0.2, 0)])
def test_the_network_that_changes_more_counts_for_more(monkeypatch, motion, other, share):
  monkeypatch.setattr('deblur_jax.models.blend.Blend.setup', lambda self: None)
  model = models.make('blend', 'smoke')
  bound = model.bind({'params': {}})
  object.__setattr__(bound, 'maxim', Fixed(motion))
  object.__setattr__(bound, 'nafnet', Fixed(other))
  blurred = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype(np.float32)
  expected = blurred + share * motion + (1 - share) * other
  np.testing.assert_allclose(bound(blurred)['restored'], expected, atol=1e-5)


def test_each_picture_of_a_batch_has_its_own_share():
  model = models.make('blend', 'smoke')
  params = jax.tree.map(
    lambda leaf: np.random.default_rng(0).standard_normal(leaf.shape).astype(np.float32) / 4,
    zoo.shapes(model),
  )
  images = np.random.default_rng(1).uniform(size=(2, 16, 8, 3)).astype(np.float32)
  apply = jax.jit(model.apply, compiler_options={'xla_backend_optimization_level': 0})
  both = apply({'params': params}, images)['restored']
  for image, expected in zip(images, both, strict=True):
    alone = apply({'params': params}, image[None])['restored'][0]
    np.testing.assert_allclose(alone, expected, atol=1e-4)
