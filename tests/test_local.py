"""Local statistics: windows against sums written out, and in the networks that have them."""

import functools

import jax
import jax.numpy as jnp
from jax.test_util import check_grads
import numpy as np
import pytest

from deblur_jax import models
from deblur_jax.models.restormer import Attention, starts, tiled
from deblur_jax.nn import local
from deblur_jax.nn.attention import ChannelAttention
from deblur_jax.nn.norm import InstanceNorm, LocalInstanceNorm

NETWORKS = ('hinet', 'mprnet', 'nafnet', 'restormer')

# Compiles in a fraction of the time.
quickly = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def random(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def around(x, rows, columns):
  """The window that each pixel's statistics are of: the middle one, moved into the image."""
  h, w = x.shape[1:3]
  for i, j in np.ndindex(h, w):
    top = min(max(i - (h - (h - rows + 1)) // 2, 0), h - rows)
    left = min(max(j - (w - (w - columns + 1)) // 2, 0), w - columns)
    yield i, j, x[:, top : top + rows, left : left + columns].astype(np.float64)


@pytest.mark.parametrize('window,rows,columns', [(8, 4, 4), (6, 3, 3), (11, 5, 5), (15, 7, 7)])
def test_means_of_windows(window, rows, columns):
  x, image = random(0, 2, 8, 7, 3), (2, 16, 14, 3)
  assert local.sides(x, image, window) == (rows, columns)
  found = local.mean(x, image, window)
  assert found.shape == (2, 9 - rows, 8 - columns, 3)
  spread = local.spread(found, x)
  for i, j, part in around(x, rows, columns):
    np.testing.assert_allclose(spread[:, i, j], part.mean((1, 2)), atol=1e-6)


def test_windows_are_never_empty_nor_larger_than_the_image():
  x = random(0, 1, 4, 6, 1)
  assert local.sides(x, (1, 64, 96, 1), 3) == (1, 1)
  assert local.sides(x, (1, 64, 96, 1), 80) == (4, 5)
  assert local.sides(x, (1, 64, 96, 1), 0) == local.sides(x, (1, 64, 96, 1), 96) == (4, 6)
  np.testing.assert_array_equal(local.mean(x, (1, 64, 96, 1), 3), x)


def test_means_of_all_are_one_a_channel():
  x = random(0, 2, 4, 6, 3)
  for found in (local.mean(x), local.mean(x, x.shape, 6)):
    assert local.spread(found, x).shape == (2, 1, 1, 3)
    np.testing.assert_allclose(found, x.mean((1, 2), keepdims=True), atol=1e-6)


def test_means_stay_exact_in_large_photographs():
  down, right = np.arange(4000, dtype=np.float32), np.arange(6000, dtype=np.float32)
  ramp = (1000 + down[:, None] + 0.5 * right[None])[None, ..., None]
  found = jax.jit(lambda x: local.mean(x, x.shape, 384))(ramp)
  # The mean of a ramp is what it is in the middle.
  middle = 1287.25 + np.arange(3617.0)[:, None] + 0.5 * np.arange(5617.0)[None]
  np.testing.assert_allclose(found[0, ..., 0], middle, rtol=3e-7)


def test_local_instance_norm_by_hand():
  x = 3 + 2 * random(0, 2, 8, 7, 3)
  params = {'scale': random(1, 3), 'bias': random(2, 3)}
  norm = LocalInstanceNorm(functools.partial(local.mean, image=(2, 16, 14, 3), window=10))
  found = norm.apply({'params': params}, x)
  for i, j, part in around(x, 5, 5):
    normal = (x[:, i, j] - part.mean((1, 2))) / np.sqrt(part.var((1, 2)) + 1e-5)
    np.testing.assert_allclose(found[:, i, j], normal * params['scale'] + params['bias'], atol=1e-5)


def test_local_instance_norm_of_a_bright_image_is_that_of_a_dark_one():
  x = np.round(64 * random(0, 1, 32, 32, 2)) / 64
  norm = LocalInstanceNorm(functools.partial(local.mean, image=x.shape, window=8))
  params = {'params': {'scale': np.ones(2), 'bias': np.zeros(2)}}
  np.testing.assert_allclose(norm.apply(params, x + 1024), norm.apply(params, x), atol=1e-4)


def test_local_instance_norm_over_all_is_instance_norm():
  x, params = random(0, 2, 8, 6, 3), {'params': {'scale': random(1, 3), 'bias': random(2, 3)}}
  norm = LocalInstanceNorm(functools.partial(local.mean, image=x.shape, window=8))
  expected = InstanceNorm(affine=True).apply(params, x)
  np.testing.assert_allclose(norm.apply(params, x), expected, atol=1e-5)


@pytest.mark.parametrize('size', [1, 4, 5])
@pytest.mark.parametrize('length', [5, 8, 9, 10, 11, 16, 23])
def test_tiles_begin_where_the_authors_do(length, size):
  # The grid of HINet's and TLC's code, in a line.
  count = (length - 1) // size + 1
  step = size if count == 1 else int(np.ceil((length - size) / (count - 1) - 1e-8))
  expected, start = [], 0
  while not expected or expected[-1] + size < length:
    expected.append(min(start, length - size))
    start += step
  assert starts(length, size) == expected


def test_tiles_are_averaged_where_they_overlap():
  x = random(0, 2, 9, 7, 2)
  total, count = np.zeros_like(x), np.zeros((9, 7, 1))
  for top in (0, 3, 5):
    for left in (0, 3):
      part = x[:, top : top + 4, left : left + 4]
      total[:, top : top + 4, left : left + 4] += part - part.mean((1, 2), keepdims=True)
      count[top : top + 4, left : left + 4] += 1
  found = tiled(lambda part: part - part.mean((1, 2), keepdims=True), x, 4, 4)
  np.testing.assert_allclose(found, total / count, atol=1e-6)


@functools.cache
def prepared(name):
  """Random parameters of the smallest variant, and a picture."""
  model = models.make(name, 'smoke')
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))['params']
  rng = np.random.default_rng(0)

  def draw(leaf):
    fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) == 4 else 4
    return (rng.standard_normal(leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

  return jax.tree.map(draw, shapes), rng.uniform(size=(1, 32, 48, 3)).astype(np.float32)


def restored(name, **overrides):
  params, blurred = prepared(name)
  model = models.make(name, 'smoke', **overrides)
  return quickly(lambda *a: model.apply({'params': a[0]}, a[1])['restored'])(params, blurred)


@pytest.mark.parametrize('name', NETWORKS)
def test_a_window_over_all_changes_nothing(name):
  whole = restored(name)
  np.testing.assert_allclose(restored(name, tlc=48), whole, atol=1e-5)
  assert np.abs(restored(name, tlc=16) - whole).max() > 1e-4


@pytest.mark.parametrize(
  'layer',
  [
    LocalInstanceNorm(functools.partial(local.mean, image=(1, 12, 16), window=6)),
    ChannelAttention(2, functools.partial(local.mean, image=(1, 12, 16), window=6)),
    Attention(2, functools.partial(local.sides, image=(1, 12, 16), window=8), jnp.float32),
  ],
)
def test_gradients_of_layers_with_windows(layer, key):
  x = random(0, 1, 6, 8, 4)
  params = jax.tree.map(lambda leaf: leaf + 0.3, jax.jit(layer.init)(key, x))
  check_grads(jax.jit(layer.apply), (params, x), order=1, modes='rev', rtol=0.02)


def level(down, height=512, width=768, window=(384, 384)):
  """Size of the features at a level, and of their windows."""
  return (height >> down, width >> down), (window[0] >> down, window[1] >> down)


@pytest.mark.parametrize(
  'name,expected',
  [
    ('hinet', {level(1), level(2)}),
    ('nafnet', {level(0), level(1)}),
    ('restormer', {level(0), level(1), level(2)}),
    # Quarters and halves of the image have quarters and halves of the window.
    (
      'mprnet',
      {level(i) for i in range(3)}
      | {level(i, 256, 384, (192, 192)) for i in range(3)}
      | {level(i, 256, 768, (192, 384)) for i in range(3)},
    ),
  ],
)
def test_windows_are_the_authors(name, expected, monkeypatch):
  sides, seen = local.sides, set()

  def spy(x, image, window):
    seen.add((x.shape[1:3], sides(x, image, window)))
    return sides(x, image, window)

  monkeypatch.setattr(local, 'sides', spy)
  model = models.make(name, 'smoke', tlc=384)
  jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 512, 768, 3)))
  assert seen == expected


@pytest.mark.parametrize('name', NETWORKS)
def test_needs_tell_of_the_window(name):
  assert models.make(name).needs.halo == 64
  assert models.make(name, tlc=384).needs.halo == 192
