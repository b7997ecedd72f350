"""A network that takes prompts: its blocks, its training data, and its use in restore."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from configs import instructir
from deblur_jax import cli, models, trainers, weights, zoo
from deblur_jax.guidance import encoder, sentences, words
from deblur_jax.models import instructir as network
from deblur_jax.photos import guided, restorer
from deblur_jax.trainers.guided import pairing, regions
from deblur_jax.types import Needs

NOISE, BLUR = (encoder.embed(text)[None] for text in ('remove the noise', 'it is out of focus'))


@functools.cache
def random_params(**overrides):
  shapes = models.shapes(models.make('instructir', 'smoke', **overrides))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape).astype('f'), shapes)


def images(count=1, side=16):
  return np.random.default_rng(1).random((count, side, side, 3)).astype('f')


@pytest.mark.parametrize('overrides', [{}, {'bank': 3}])
def test_training_starts_as_the_network_that_it_is_built_on(tmp_path, key, overrides):
  shapes = models.shapes(models.make('nafnet', 'smoke'))
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape).astype('f'), shapes)
  path = tmp_path / 'nafnet.safetensors'
  weights.write(path, params, {'network': 'nafnet', 'arguments': {'variant': 'smoke'}})
  config = instructir.smoke()
  config.first = str(path)
  model = models.make('instructir', 'smoke', **overrides)
  trainer = trainers.guided.make(config, model)
  state = jax.jit(trainer.init)(key, {'sharp': np.zeros((1, 16, 16, 3), np.uint8)})
  expected = zoo.load(path).restore(images(2))
  found = jax.jit(trainer.predict)(state, images(2))
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_instruction_chooses_channels():
  """By hand: blocks that change nothing leave x + f, f = sigmoid(W w) * (gamma x + beta)."""
  block = network.Instruction(jnp.float32)
  x, w = images()[..., :2], np.array([[[[1.0, -2.0]]]], 'f')
  params = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, 'f'),
    jax.eval_shape(block.init, jax.random.key(0), x, w)['params'],
  )
  kernel = np.array([[[[3.0, 0.0], [0.0, 1.0]]]], 'f')
  params['choose'] = {'kernel': kernel, 'bias': np.ones(2, 'f')}
  params['gamma'], params['beta'] = np.array([2.0, 0.0], 'f'), np.array([0.5, 1.0], 'f')
  chosen = 1 / (1 + np.exp([-4.0, 1.0]))
  expected = np.stack([chosen[0] * (2 * x[..., 0] + 0.5), np.full(x.shape[:3], chosen[1])], -1)
  np.testing.assert_allclose(block.apply({'params': params}, x, w), x + expected, rtol=1e-5)


def test_words_and_masks_change_the_result():
  model, params = models.make('instructir', 'smoke'), {'params': random_params()}
  plain = model.apply(params, images(), NOISE)['restored']
  assert np.abs(plain - model.apply(params, images(), BLUR)['restored']).max() > 1e-3
  asked = models.make('instructir', 'smoke', prompt='remove the noise')
  np.testing.assert_array_equal(asked.apply(params, images())['restored'], plain)
  spared = np.zeros((1, 16, 16, 1), 'f')
  np.testing.assert_array_equal(model.apply(params, images(), NOISE, spared)['restored'], plain)
  spared[:, :8] = 1
  masked = model.apply(params, images(), NOISE, spared)['restored']
  assert np.abs(masked - plain)[:, :8].max() > 1e-3


def test_a_bank_reads_the_picture_and_no_words():
  model, params = models.make('instructir', 'smoke', bank=3), random_params(bank=3)
  assert not model.reads_words and models.make('instructir', 'smoke').reads_words

  def restored(words, params=params):
    return model.apply({'params': params}, images(), words)['restored']

  np.testing.assert_array_equal(restored(NOISE), restored(BLUR))
  other = {**params, 'decoders_0_0_bank': dict(params['decoders_0_0_bank'])}
  other['decoders_0_0_bank']['pictures'] = -other['decoders_0_0_bank']['pictures']
  assert np.abs(restored(NOISE) - restored(NOISE, other)).max() > 1e-3


def faults(**changes):
  config = instructir.smoke()
  config.faults = {'noise': 'noise(0.05)', 'dark': 'gamma(2)'}
  config.update(fault_probability=1.0, mask_probability=0.0, **changes)
  return config


def test_a_picture_becomes_what_it_would_have_been_without_the_fault(key):
  """Known in closed form: a flat picture, squared by low light, plus noise."""
  sharp = np.full((64, 8, 8, 3), 0.5, 'f')
  made = jax.jit(pairing(faults()))({'sharp': sharp}, key)
  given, wanted, asked, spared = map(np.asarray, made)
  noise = given - 0.25
  assert noise.std() == pytest.approx(0.05, rel=0.02) and not spared.any()
  expected = {'noise': np.full_like(given, 0.25), 'dark': 0.5 + noise, 'all': sharp}
  seen = set()
  for i in range(len(sharp)):
    known = {kind: sentences.embeddings(kind, 256) for kind in expected}
    kind = next(one for one in known if (np.abs(known[one] - asked[i]).max(-1) < 1e-6).any())
    np.testing.assert_allclose(wanted[i], expected[kind][i], atol=1e-5)
    seen.add(kind)
  assert seen == set(expected)


def test_most_of_what_is_said_is_true_and_spared_regions_stay(key):
  sharp = images(64)
  rare = faults()
  rare.fault_probability = 0.0
  given, wanted, _, _ = jax.jit(pairing(rare))({'sharp': sharp}, key)
  np.testing.assert_array_equal(wanted, sharp)
  given, wanted, _, _ = jax.jit(pairing(faults(), reads_words=False))({'sharp': sharp}, key)
  np.testing.assert_array_equal(wanted, sharp)
  assert (np.asarray(given) != sharp).any((1, 2, 3)).all()
  given = jax.jit(pairing(rare))({'sharp': sharp}, key)[0]
  untouched = np.asarray(given == sharp).all((1, 2, 3)).mean()
  assert 0.05 < untouched < 0.4
  config = faults()
  config.mask_probability = 0.5
  given, wanted, _, spared = jax.jit(pairing(config))({'sharp': sharp}, key)
  inside = np.broadcast_to(spared == 1, given.shape)
  np.testing.assert_allclose(wanted[inside], given[inside], atol=1e-6)
  assert np.abs(wanted - given)[~inside].max() > 0.1
  share = np.mean(np.asarray(regions(key, (1000, 8, 8), 0.5)).any((1, 2, 3)))
  assert share == pytest.approx(0.5, abs=0.05)


def test_training_moves_what_sees_the_words(key):
  config = faults()
  config.loss.charbonnier = 1.0
  config.optim.warmup = 0
  trainer = trainers.guided.make(config, models.make(**config.model))
  batch = {'sharp': np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)}
  state = jax.jit(trainer.init)(key, batch)
  before = jax.tree.map(np.array, state.params)
  state, metrics = jax.jit(trainer.step)(state, batch)
  assert np.isfinite(metrics['loss'])
  block = 'decoders_0_words'
  for name in ('gamma', 'beta'):
    assert np.abs(state.params[block][name] - before[block][name]).max() > 0


@pytest.mark.parametrize(
  'changes,message',
  [
    ({'faults': {'haze': 'gamma(2)'}}, r'no fault haze \(known: motion, defocus'),
    ({'faults': {}}, 'name at least one fault'),
    ({'mixup': 1.2}, 'supports neither mixup'),
    ({'first': 'maxim'}, 'first maxim'),
    ({'model': {'name': 'nafnet', 'variant': 'smoke'}}, 'takes prompts: instructir'),
  ],
)
def test_what_does_not_fit_is_one_line(changes, message, key):
  config = instructir.smoke()
  for name, value in changes.items():
    config[name] = value
  with pytest.raises((ValueError, weights.DoesNotFit), match=message):
    trainer = trainers.guided.make(config, models.make(**config.model))
    trainer.init(key, {'sharp': np.zeros((1, 16, 16, 3), np.uint8)})
  with pytest.raises(ValueError, match='use sharp pictures'):
    both = dict.fromkeys(('sharp', 'blurred'), images())
    pairing(instructir.smoke())(both, key)


# In use.


@pytest.fixture
def picture(tmp_path, monkeypatch):
  """Weights of a network that takes prompts, and a picture."""
  monkeypatch.chdir(tmp_path)
  manifest = {'network': 'instructir', 'arguments': {'variant': 'smoke', 'prompt': 'fix it'}}
  weights.write('asked.safetensors', random_params(), manifest)
  picture = np.rint(255 * images(1, 40)[0]).astype(np.uint8)
  PIL.Image.fromarray(picture).save('a.png')
  return picture


def test_the_network_gets_the_prompt(picture):
  picture = picture / np.float32(255)  # floats are not clipped

  def restored(prompt):
    return guided.load(words.parse(prompt), weights='asked.safetensors')(picture)

  expected = restorer.load('asked.safetensors', settings={'prompt': 'noise'})(picture)
  np.testing.assert_array_equal(restored('denoise it, please'), expected)
  assert (restored('it is too dark') != expected).any()
  np.testing.assert_allclose(restored('denoise 50%'), (picture + expected) / 2, atol=1e-5)
  # One fault after the other: noise came last.
  both = restored('remove the motion blur and 50% of the noise')
  half = (picture + expected) / 2
  blurred = restorer.load('asked.safetensors', settings={'prompt': 'motion blur'})(half)
  np.testing.assert_allclose(both, blurred, atol=1e-4)
  weights.write('bare.safetensors', random_params(), {'network': 'instructir'})
  with pytest.raises(weights.WeightsError, match="the manifest has no 'arguments' entry"):
    guided.load(words.parse('sharpen'), weights='bare.safetensors')
  with pytest.raises(ValueError, match='needs a --prompt'):
    guided.load(like='a.png', weights='asked.safetensors')


def test_the_command_keeps_what_is_outside_the_region(picture, capsys):
  options = ['--weights', 'asked.safetensors', '--prompt', 'denoise the left half']
  assert cli.main(['restore', 'a.png', *options, '-o', 'b.png']) == 0
  after = np.asarray(PIL.Image.open('b.png'))
  np.testing.assert_array_equal(after[:, 20:], picture[:, 20:])
  assert (after[:, :10] != picture[:, :10]).any()
  assert 'understood: noise in the left half' in capsys.readouterr().out


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_a_network_that_reads_masks_gets_them_tile_by_tile(channels):
  """One that adds 0.25 to what it is to change, and 0.5 to what it is to leave alone."""
  seen = []

  def restore(images, **known):
    seen.append(images.shape)
    assert images.shape[-1] == 4
    return images + 0.25 + 0.25 * images[..., 3:]

  method = zoo.Method('stub', restore, Needs(tiling='exact', halo=4), reads_masks=True)
  image = np.full((70, 90, channels), 0.25, np.float32)
  mask = np.zeros((70, 90), np.uint8)
  mask[:, :40], mask[:, 40:50] = 255, 51
  result = restorer.Restorer(method, tile=32)(image, mask=mask)
  colors = channels - (channels in (2, 4))
  np.testing.assert_allclose(result[:, :40, :colors], 0.5, atol=1e-6)
  expected = 0.25 + 0.2 * (0.25 + 0.25 * 0.8)
  np.testing.assert_allclose(result[:, 40:50, :colors], expected, atol=1e-6)
  np.testing.assert_array_equal(result[:, 50:], image[:, 50:])
  np.testing.assert_array_equal(result[..., colors:], image[..., colors:])
  assert len(seen) > 4
