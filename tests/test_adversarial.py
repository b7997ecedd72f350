"""Adversarial losses by hand, the gradient penalty, and the features of VGG-19."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deblur_jax import models, weights
from deblur_jax.configs import bgan, deblurgan, nafnet
from deblur_jax.convert import vgg19
from deblur_jax.data import builtin
from deblur_jax.losses.adversarial import GAN_LOSSES, gradient_penalty
from deblur_jax.losses.perceptual import load, perceptual
from deblur_jax.nn import vgg
from deblur_jax.nn.patchgan import PatchGAN
from deblur_jax.trainers import adversarial, supervised
from deblur_jax.weights import DoesNotFit

# Compiles in a fraction of the time.
quickly = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})

REAL = np.float32([[2.0, 0.0], [1.0, -1.0]])  # means 1 and 0, of all 0.5
MADE = np.float32([[0.5, -0.5], [3.0, 1.0]])  # means 0 and 2, of all 1


def log1pexp(x):
  return np.log1p(np.exp(x))


BY_HAND = {
  'wasserstein': ([0 - 1, 2 - 0], [0, -2]),
  'least_squares': (
    # ((1 + 1) / 2 + 0.25) / 2, ((0 + 4) / 2 + (9 + 1) / 2) / 2
    [0.625, 3.5],
    # ((0.25 + 2.25) / 2) / 2, ((4 + 0) / 2) / 2
    [0.625, 1.0],
  ),
  'hinge': (
    # (0 + 1) / 2 + (1.5 + 0.5) / 2, (0 + 2) / 2 + (4 + 2) / 2
    [1.5, 4.0],
    [0, -2],
  ),
  'relativistic_least_squares': (
    # real less 1: 1, -1 and 0, -2; made less 0.5: 0, -1 and 2.5, 0.5
    [((0 + 4) / 2 + (1 + 0) / 2) / 2, ((1 + 9) / 2 + (3.5**2 + 1.5**2) / 2) / 2],
    [((4 + 0) / 2 + (1 + 4) / 2) / 2, ((1 + 1) / 2 + (1.5**2 + 0.5**2) / 2) / 2],
  ),
  'relativistic': (
    [
      (log1pexp(np.array([-1, 1])).mean() + log1pexp(np.array([0, -1])).mean()) / 2,
      (log1pexp(np.array([0, 2])).mean() + log1pexp(np.array([2.5, 0.5])).mean()) / 2,
    ],
    [
      (log1pexp(np.array([1, -1])).mean() + log1pexp(np.array([0, 1])).mean()) / 2,
      (log1pexp(np.array([0, -2])).mean() + log1pexp(np.array([-2.5, -0.5])).mean()) / 2,
    ],
  ),
}


@pytest.mark.parametrize('name', GAN_LOSSES)
def test_gan_losses_by_hand(name):
  for side, expected in zip(GAN_LOSSES[name], BY_HAND[name], strict=True):
    np.testing.assert_allclose(side(REAL, MADE), expected, rtol=1e-6)
    shaped = side(REAL.reshape(2, 2, 1, 1), MADE.reshape(2, 1, 2, 1))
    np.testing.assert_allclose(shaped, expected, rtol=1e-6)


def test_the_penalty_of_a_linear_critic_is_that_of_its_slope(key):
  slope = np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32)
  images = np.random.default_rng(1).uniform(size=(2, 2, 4, 5, 3)).astype(np.float32)

  def critic(image):
    return (image * slope[None]).sum((1, 2, 3))

  penalty, norm = gradient_penalty(key, critic, *images)
  length = np.linalg.norm(slope)
  np.testing.assert_allclose(norm, [length] * 2, rtol=1e-5)
  np.testing.assert_allclose(penalty, [(length - 1) ** 2] * 2, rtol=1e-5)
  penalty, norm = gradient_penalty(key, critic, *images, per_pixel=True)
  lengths = np.linalg.norm(slope, axis=-1)
  np.testing.assert_allclose(norm, [lengths.mean()] * 2, rtol=1e-5)
  np.testing.assert_allclose(penalty, [((lengths - 1) ** 2).mean()] * 2, rtol=1e-5)


def test_the_penalty_pulls_the_critics_slope_to_one(key):
  # Real and made differ by two: unpenalized, the critic's slope would grow forever.
  rng = np.random.default_rng(0)
  direction = rng.standard_normal((1, 4, 4, 3)).astype(np.float32)
  direction /= np.linalg.norm(direction)
  params = {
    'first': 0.1 * rng.standard_normal((48, 32)).astype(np.float32),
    'last': 0.1 * rng.standard_normal(32).astype(np.float32),
  }

  def critic(params, images):
    return jnp.tanh(images.reshape(images.shape[0], -1) @ params['first']) @ params['last']

  optimizer = optax.adam(1e-2)

  @jax.jit
  def train(params):
    def step(carry, key):
      params, state = carry
      keys = jax.random.split(key, 3)
      made = 0.1 * jax.random.normal(keys[0], (16, 4, 4, 3)) - direction
      real = 0.1 * jax.random.normal(keys[1], (16, 4, 4, 3)) + direction

      def loss(params):
        def judge(images):
          return critic(params, images)

        penalty, norm = gradient_penalty(keys[2], judge, real, made)
        loss = GAN_LOSSES['wasserstein'].critic(judge(real), judge(made))
        return (loss + 10 * penalty).mean(), norm.mean()

      gradient, norm = jax.grad(loss, has_aux=True)(params)
      updates, state = optimizer.update(gradient, state, params)
      return (optax.apply_updates(params, updates), state), norm

    return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, 600))[1]

  norms = train(params)
  assert norms[0] < 0.5
  assert abs(norms[-100:].mean() - 1) < 0.2


@pytest.mark.parametrize('loss', ['wasserstein', 'relativistic'])
def test_a_step_of_both_sides(loss, key):
  config = deblurgan.get_config('smoke')
  config.critic.loss, config.ema = loss, 0.9
  config.critic.penalty = 10.0 if loss == 'wasserstein' else 0.0
  model = models.make(**config.model)
  trainer = adversarial.make(config, model)
  batch = {'sharp': np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)}
  step = quickly(trainer.step)
  first = quickly(trainer.init)(key, batch)
  state, metrics = step(first, batch)
  said = {'loss/charbonnier', 'loss/adversarial', 'critic/loss', 'critic/accuracy', 'psnr'}
  assert said <= metrics.keys() and all(np.isfinite(value) for value in metrics.values())
  assert ('critic/penalty' in metrics) == (loss == 'wasserstein')
  total = metrics['loss/charbonnier'] + config.critic.weight * metrics['loss/adversarial']
  np.testing.assert_allclose(metrics['loss'], total, rtol=1e-5)
  # The critic took its two steps, the network one, and neither moved the other.
  assert state.critic[1][0].count == config.critic.steps and state.step == 1
  for before, after in ((first.params, state.params), (first.critic[0], state.critic[0])):
    moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - b).max(), before, after)
    assert max(jax.tree.leaves(moved)) > 0
  again, _ = step(first, batch)
  jax.tree.map(np.testing.assert_array_equal, again, state)
  assert quickly(trainer.predict)(state, jnp.zeros((1, 16, 20, 3))).shape == (1, 16, 20, 3)


def test_without_pairs_the_critic_sees_what_a_camera_blurred(key):
  config = bgan.get_config('smoke')
  config.critic.loss, config.critic.optim.schedule = 'wasserstein', 'constant'
  config.critic.optim.learning_rate = 1e-12  # it does not change
  config.critic.penalty = 1.0
  model = models.make(**config.model)
  trainer = adversarial.make_unpaired(config, model)
  images = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), np.uint8)
  batch = {'sharp': images[0], 'blurred': images[1]}
  first = quickly(trainer.init)(key, batch)
  # A critic of which every logit is a weighted mean of what it sees.
  critic = jax.tree.map(lambda leaf: np.full_like(leaf, 0.02 * (leaf.ndim > 1)), first.critic[0])
  last = jax.tree.map(np.zeros_like, first.params['blur']['last'])
  params = {'blur': {**first.params['blur'], 'last': last}}  # leaves the sharp images unchanged
  state = first.replace(params=params, critic=(critic, first.critic[1]))
  step = quickly(trainer.step)
  _, metrics = step(state, batch)
  assert metrics['loss/l1'] == 0  # content loss: its result against the sharp images
  _, same = step(state, {'sharp': images[0], 'blurred': images[0]})
  assert abs(same['critic/loss']) < 1e-6 < abs(metrics['critic/loss'])
  np.testing.assert_allclose(same['loss/adversarial'], metrics['loss/adversarial'], rtol=1e-6)
  # The penalized slope is that for images in [-1, 1], half of that in [0, 1].
  judge = PatchGAN(config.critic.ndf, config.critic.n_layers)
  slope = quickly(jax.grad(lambda images: judge.apply({'params': critic}, images).sum()))
  norms = np.sqrt(np.square(slope(images[0] / np.float32(255))).sum((1, 2, 3)))
  np.testing.assert_allclose(same['critic/gradient_norm'], norms.mean() / 2, rtol=1e-4)


def test_networks_train_on_the_blur_of_bgan(tmp_path, key):
  model = models.make('bgan', 'smoke')
  sharp = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), np.uint8)
  params = quickly(model.init)(key, jnp.zeros((1, 8, 8, 3)))['params']
  path = tmp_path / 'weights.safetensors'
  arguments = {'width': 4, 'blocks': 1}
  weights.write(path, params, {'network': 'bgan', 'arguments': arguments})
  config = nafnet.get_config('smoke')
  config.bgan, config.blur = str(path), 'sharp'
  blurred, target = supervised.pairing(config)({'sharp': sharp}, key)
  np.testing.assert_array_equal(target, sharp.astype(np.float32) / 255)
  expected = model.apply({'params': params}, target, rngs={'noise': jax.random.split(key)[0]})
  np.testing.assert_allclose(blurred, np.clip(expected['restored'], 0, 1), atol=1e-6)
  weights.write(path, params, {'network': 'nafnet', 'arguments': {}})
  with pytest.raises(ValueError, match='weights of nafnet, not of bgan'):
    supervised.pairing(config)


@pytest.mark.optimized
def test_a_critic_learns_to_distinguish_a_fixed_network():
  # If the network cannot learn, the critic soon distinguishes its images from sharp ones.
  config = deblurgan.get_config('smoke')
  config.optim.learning_rate, config.optim.final = 1e-12, 0.0
  config.critic.loss, config.critic.penalty, config.critic.steps = 'hinge', 0.0, 40
  config.critic.optim.learning_rate, config.critic.optim.schedule = 2e-3, 'constant'
  config.blur = 'gaussian(3)'
  trainer = adversarial.make(config, models.make(**config.model))
  batch = {'sharp': builtin.photograph('coffee.png')[None, 100:164, 200:264]}
  step = jax.jit(trainer.step)
  state, first = step(quickly(trainer.init)(jax.random.key(0), batch), batch)
  for _ in range(4):
    state, last = step(state, batch)
  assert last['critic/loss'] < first['critic/loss'] and last['critic/accuracy'] > 0.9


@pytest.mark.parametrize(
  'change,message',
  [
    ({'loss': 'chess'}, "unknown GAN loss 'chess'"),
    ({'steps': 0}, 'steps must be at least 1, not 0'),
  ],
)
def test_invalid_critics_are_reported(change, message):
  config = deblurgan.get_config('smoke')
  config.critic.update(change)
  with pytest.raises(ValueError, match=message):
    adversarial.make(config, models.make(**config.model))


def test_a_config_without_a_critic_is_reported():
  config = nafnet.get_config('smoke')
  with pytest.raises(ValueError, match=r'start from configs/deblurgan\.py'):
    adversarial.make(config, models.make(**config.model))


def test_perceptual_losses_require_a_file(tmp_path):
  config = deblurgan.get_config('gopro')
  model = models.make('deblurgan', 'smoke')
  with pytest.raises(ValueError, match='a perceptual loss requires VGG-19: convert'):
    adversarial.make(config, model)
  path = tmp_path / 'vgg.safetensors'
  params, options = vgg19.parameters(small_vgg())
  weights.write(path, params, {'network': 'vgg19', 'arguments': options})
  config.perceptual.weights, config.perceptual.layer = str(path), 'conv3_1'
  adversarial.make(config, model)
  image = np.random.default_rng(0).uniform(size=(2, 1, 16, 16, 3)).astype(np.float32)
  compare = load(path, 'relu2_1', colors='signed')
  expected = [vgg.features(params, one, 'relu2_1', colors='signed') for one in image]
  np.testing.assert_allclose(compare(*image), np.mean((expected[0] - expected[1]) ** 2), rtol=1e-5)
  with pytest.raises(ValueError, match="no layer 'relu5_4'; it has conv1_1"):
    load(path, 'relu5_4')
  weights.write(path, params, {'network': 'srcnn', 'arguments': {}})
  with pytest.raises(ValueError, match='weights of srcnn, not of vgg19'):
    load(path, 'conv1_1')


def small_vgg(prefix='features.', indices=vgg19.TORCHVISION, depth=5):
  """A state dict of the first layers, with fewer channels than VGG-19 has."""
  rng, width, state = np.random.default_rng(0), 3, {}
  for index, wide in zip(indices[:depth], (4, 4, 6, 6, 8), strict=True):
    scale = np.sqrt(2 / (9 * width))
    state[f'{prefix}{index}.weight'] = scale * rng.standard_normal((wide, width, 3, 3))
    state[f'{prefix}{index}.bias'] = 0.1 * rng.standard_normal(wide)
    width = wide
  return state


def by_hand(state, image, upto):
  """torchvision's sequence in float64 numpy, `[h w c]`; index `upto` is the last layer."""
  pools = (4, 9, 18, 27)
  for index in range(upto + 1):
    if f'features.{index}.weight' in state:
      kernel, bias = state[f'features.{index}.weight'], state[f'features.{index}.bias']
      padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
      windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))
      image = np.einsum('hwcij,ocij->hwo', windows, kernel) + bias
    elif index in pools:
      h, w, c = image.shape
      image = image[: h // 2 * 2, : w // 2 * 2].reshape(h // 2, 2, w // 2, 2, c).max((1, 3))
    else:
      image = np.maximum(image, 0)
  return image


@pytest.mark.parametrize('layer,index', [('conv1_2', 2), ('relu1_2', 3), ('conv3_1', 10)])
def test_features_are_those_of_torchvisions_sequence(layer, index):
  state = small_vgg()
  params, options = vgg19.parameters(state)
  image = np.random.default_rng(1).uniform(size=(18, 23, 3))
  scaled = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  found = vgg.features(params, image[None], layer, **options)[0]
  np.testing.assert_allclose(found, by_hand(state, scaled, index), atol=1e-5)
  signed = vgg.features(params, image[None], layer, colors='signed')[0]
  np.testing.assert_allclose(signed, by_hand(state, 2 * image - 1, index), atol=1e-5)


def test_the_shared_weights(shared):
  with np.load(shared('data/weights/vgg19_conv1_1_to_conv3_1.npz')) as file:
    params, options = vgg19.parameters(dict(file))
  assert list(params) == ['color', 'conv1_1', 'conv1_2', 'conv2_1', 'conv2_2', 'conv3_1']
  assert options == {'colors': 'unit', 'padding': 'reflect'}
  from skimage import data, filters

  sharp = data.astronaut()[None, 64:192, 128:256].astype(np.float32) / 255
  soft, softer = (filters.gaussian(sharp[0], s, channel_axis=-1)[None] for s in (1, 2))
  near, far = (
    perceptual(one, sharp, params=params, layer='relu3_1', **options) for one in (soft, softer)
  )
  assert 0 < near < far
  assert perceptual(sharp, sharp, params=params, layer='relu3_1', **options) == 0
  # A color shift that a pixelwise loss penalizes as much as the blur hardly changes the features.
  error = np.sqrt(np.mean((soft - sharp) ** 2))
  assert perceptual(sharp + error, sharp, params=params, layer='relu3_1', **options) < near / 2


def test_keras_names_are_read():
  state = small_vgg()
  names = ['block1_conv1', 'block1_conv2', 'block2_conv1', 'block2_conv2', 'block3_conv1']
  keras = {}
  for name, index in zip(names, vgg19.TORCHVISION[:5], strict=True):
    keras[f'{name}/{name}_W_1:0'] = state[f'features.{index}.weight'].transpose(2, 3, 1, 0)
    keras[f'{name}/{name}_b_1:0'] = state[f'features.{index}.bias']
  newer = {
    key.replace('_W_1:0', '/kernel:0').replace('_b_1:0', '/bias:0'): v for key, v in keras.items()
  }
  expected, _ = vgg19.parameters(state)
  for one in (keras, newer):
    found, options = vgg19.parameters(one)
    assert options == {}
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_weights_of_another_network_are_reported():
  with pytest.raises(DoesNotFit, match=r'not VGG-19: no features\.0\.weight'):
    vgg19.parameters({'conv1.weight': np.zeros(3)})
  params, _ = vgg19.parameters(small_vgg())
  with pytest.raises(
    ValueError, match="these VGG-19 weights have no layer 'conv4_1'; available: conv1_1"
  ):
    vgg.features(params, np.zeros((1, 16, 16, 3)), 'conv4_1')
  with pytest.raises(ValueError, match="got 'rgb'"):
    vgg.features(params, np.zeros((1, 16, 16, 3)), 'conv1_1', colors='rgb')
