"""Pruned networks: plain, of the wanted size, equal to the masked original, the best channels."""

import pathlib

from flax import linen as nn
from flax import traverse_util
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from deblur_jax import cli, models, train, weights, zoo
from deblur_jax.blur import synthesis
from deblur_jax.compress import groups, prune
from deblur_jax.configs import nafnet as nafnet_config
from deblur_jax.data import sources
from deblur_jax.metrics import fidelity
from deblur_jax.nn.norm import LayerNorm
from deblur_jax.types import as_float


def random_params(model, seed=0):
  """Random parameters, none of them 0."""
  generator = np.random.default_rng(seed)

  def draw(leaf):
    spread = 0.3 if leaf.ndim == 1 else 1 / np.sqrt(np.prod(leaf.shape[:-1]))
    return (spread * generator.normal(size=leaf.shape)).astype(np.float32)

  return jax.tree.map(draw, models.shapes(model))


def arguments(model):
  names = (name for name in model.__dataclass_fields__ if name not in ('parent', 'name', 'dtype'))
  return {name: getattr(model, name) for name in names}


def flat(params):
  return traverse_util.flatten_dict(params, sep='/')


def magnitude(params):
  return [{name: np.abs(value) for name, value in flat(params).items()}]


def image(side, seed=1):
  return np.random.default_rng(seed).uniform(size=(1, side, side, 3)).astype(np.float32)


@jax.numpy_rank_promotion('allow')
def masked_nafnet(model, params, kept, x):
  """What a NAFNet of full width computes if only the `kept` channels of each group are not 0."""
  depth, eps = len(model.enc_blk_nums), 1e-6

  def mask(group, size):
    return np.isin(np.arange(size), kept[group]).astype(np.float32)

  def conv(p, x, stride=1, **options):
    size = p['kernel'].shape[0]
    padding = [(size // 2, size // 2)] * 2 if stride == 1 else [(0, 0)] * 2
    numbers = ('NHWC', 'HWIO', 'NHWC')
    out = lax.conv_general_dilated(
      x, p['kernel'], (stride, stride), padding, dimension_numbers=numbers, **options
    )
    return out + p['bias'][None, None, None] if 'bias' in p else out

  def norm(p, x, m):
    mean = (x * m).sum(-1, keepdims=True) / m.sum()
    variance = (m * (x - mean) ** 2).sum(-1, keepdims=True) / m.sum()
    return m * ((x - mean) / np.sqrt(variance + eps) * p['scale'] + p['bias'])

  def gate(x):
    half = x.shape[-1] // 2
    return x[..., :half] * x[..., half:]

  def block(name, x, m):
    p, c = params[name], x.shape[-1]
    inner, hidden = mask(f'{name}/gate', c), mask(f'{name}/hidden', c)
    out = conv(p['conv1'], norm(p['norm1'], x, m)) * np.tile(inner, 2)
    out = gate(conv(p['conv2'], out, feature_group_count=2 * c) * np.tile(inner, 2))
    out = out * conv(p['sca'], out.mean((1, 2), keepdims=True)) * inner
    x = x + conv(p['conv3'], out) * p['beta'] * m
    out = gate(conv(p['conv4'], norm(p['norm2'], x, m)) * np.tile(hidden, 2))
    return x + conv(p['conv5'], out) * p['gamma'] * m

  ms = [mask(f'level_{level}', model.width << level) for level in range(depth + 1)]
  blurred, skips = x, []
  x = conv(params['intro'], x) * ms[0]
  for level, count in enumerate(model.enc_blk_nums):
    for i in range(count):
      x = block(f'encoders_{level}_{i}', x, ms[level])
    skips.append(x)
    x = conv(params[f'downs_{level}'], x, stride=2) * ms[level + 1]
  for i in range(model.middle_blk_num):
    x = block(f'middle_blks_{i}', x, ms[depth])
  for i, count in enumerate(model.dec_blk_nums):
    level = depth - 1 - i
    x = conv(params[f'ups_{i}'], x)  # channels (c, row, column)
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, -1)
    x = x * ms[level] + skips[level]
    for j in range(count):
      x = block(f'decoders_{i}_{j}', x, ms[level])
  return blurred + conv(params['ending'], x)


def test_a_pruned_nafnet_equals_the_masked_one():
  model = models.make('nafnet', 'smoke', width=6, enc_blk_nums=(1, 1), dec_blk_nums=(1, 1))
  params, x = random_params(model), image(16)
  pruned = prune.prune('nafnet', model, params, magnitude(params), keep=0.5)
  assert type(pruned.model) is type(model) and pruned.model.width == 4
  found = pruned.model.apply({'params': pruned.params}, x)['restored']
  expected = masked_nafnet(model, params, pruned.kept, x)
  full = model.apply({'params': params}, x)['restored']
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert np.abs(found - full).max() > 1e-2
  every = {group: np.arange(200) for group in pruned.kept}
  np.testing.assert_allclose(masked_nafnet(model, params, every, x), full, atol=1e-5)


def masked(model, params, masks, x):
  """What a network computes if the parameters where `masks` are 0 are 0, and its layer norms take
  their statistics over the channels whose scale is not masked.
  """
  masks = traverse_util.unflatten_dict(masks, sep='/')
  params = jax.tree.map(np.multiply, params, masks)

  def norms(call, args, options, context):
    module = context.module
    if not isinstance(module, LayerNorm):
      return call(*args, **options)
    p, m = params, masks
    for part in module.path:
      p, m = p[part], m[part]
    m, x = m['scale'], args[0]
    m = m.reshape((1,) * (x.ndim - 1) + (-1,))
    mean = (x * m).sum(-1, keepdims=True) / m.sum()
    variance = (m * (x - mean) ** 2).sum(-1, keepdims=True) / m.sum()
    normal = (x - mean) * lax.rsqrt(variance + module.eps)
    return normal * p['scale'].reshape(m.shape) + p['bias'].reshape(m.shape)

  with nn.intercept_methods(norms):
    return jax.jit(lambda x: model.apply({'params': params}, x)['stages'])(x)


def parameter_masks(tied, shapes, kept):
  """1 for each value of each parameter that belongs only to `kept` channels."""
  sizes, masks = tied.sizes(), {}
  for name, shape in shapes.items():
    mask = np.ones(shape, np.float32)
    for number, axis in enumerate(tied.axes.get(name, ())):
      if axis.groups:
        parts = [np.isin(np.arange(sizes[group]), kept[group]) for group in axis.groups]
        along = np.repeat(np.concatenate(parts), axis.repeat)
        mask = mask * np.expand_dims(along, [i for i in range(len(shape)) if i != number])
    masks[name] = mask
  return masks


def test_a_pruned_maxim_equals_the_masked_one():
  model = models.make('maxim', 'smoke', features=8)
  params, x = random_params(model), image(model.needs.square(16))
  pruned = prune.prune('maxim', model, params, magnitude(params), keep=0.6)
  assert 4 < pruned.model.features < 8
  found = jax.jit(lambda x: pruned.model.apply({'params': pruned.params}, x)['stages'])(x)
  shapes = {name: value.shape for name, value in flat(params).items()}
  tied = groups.Tied(shapes)
  groups.maxim(model, tied)
  expected = masked(model, params, parameter_masks(tied, shapes, pruned.kept), x)
  for one, other in zip(found, expected, strict=True):
    # Random weights make values of up to 25, not those of a picture.
    np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(other).max()))
  assert np.abs(found[0] - x).max() > 1e-2


@pytest.mark.parametrize('keep', [0.25, 0.5, 0.7])
def test_the_wanted_share_is_kept(keep):
  model = models.make('nafnet', 'tiny')
  params = random_params(model)
  pruned = prune.prune('nafnet', model, params, magnitude(params), keep=keep)
  assert pruned.before == 676_211
  assert pruned.after == sum(leaf.size for leaf in jax.tree.leaves(pruned.params))
  assert abs(pruned.after / pruned.before - keep) < 0.05


@pytest.mark.parametrize('keep', [0, 1, 0.001])
def test_a_share_that_cannot_be_kept_is_refused(keep):
  model = models.make('nafnet', 'smoke')
  params = random_params(model)
  with pytest.raises(ValueError, match=r'between 0 and 1|smallest nafnet .* of width 1'):
    prune.prune('nafnet', model, params, magnitude(params), keep=keep)


class Noise:
  """Eight sharp pictures of noise."""

  paired, aligned, files = False, True, {}

  def __len__(self):
    return 8

  def __getitem__(self, index):
    pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8)
    return {'name': str(index), 'sharp': pixels}

  def size(self, index):
    return 32, 32


def test_useless_channels_are_removed_and_only_taylor_sees_through_large_weights(monkeypatch):
  monkeypatch.setattr(prune, 'BATCHES', 2)
  monkeypatch.setattr(prune, 'CROP', 32)
  model = models.make('nafnet', 'smoke')
  params = random_params(model)
  silent, block = 2, params['middle_blks_0']
  for layer in ('conv1', 'conv2'):  # Channel 2 of the gate is large, but nothing reads it.
    block[layer]['kernel'][..., silent :: model.width * 2] *= 100
  block['sca']['kernel'][:, :, silent] = 0
  block['conv3']['kernel'][:, :, silent] = 0
  useless = 1  # Channel 1 of the finest level is 0 wherever it is made, and where it is read.
  for name, value in flat(params).items():
    top = name.startswith(('encoders', 'decoders'))
    last = name.split('/', 1)[1] in (
      *(f'{n}/{p}' for n in ('norm1', 'norm2') for p in ('scale', 'bias')),
      *('conv3/kernel', 'conv3/bias', 'conv5/kernel', 'conv5/bias', 'beta', 'gamma'),
    )
    if (top and last) or name.startswith('intro'):
      value[..., useless] = 0
    if (top and name.endswith(('conv1/kernel', 'conv4/kernel'))) or name in (
      'downs_0/kernel',
      'ending/kernel',
    ):
      value[:, :, useless] = 0
  params['ups_0']['kernel'][..., 4 * useless : 4 * useless + 4] = 0
  by_taylor = list(prune.taylor(model, params, Noise(), 'gaussian(1..2)'))
  assert len(by_taylor) == 2
  for importance, keeps_silent in ((by_taylor, False), (magnitude(params), True)):
    pruned = prune.prune('nafnet', model, params, importance, keep=0.65)
    assert pruned.model.width == 3
    assert pruned.kept['level_0'].tolist() == [0, 2, 3]
    assert (silent in pruned.kept['middle_blks_0/gate']) == keeps_silent


def test_taylor_is_better_than_chance_on_trained_weights(shared, monkeypatch):
  monkeypatch.setattr(prune, 'BATCHES', 3)
  photos = shared('data/photos')
  model, params, _ = zoo.network('mobile')
  source = sources.open('sharp', 'all', directory=photos / 'train')
  blur = 'gaussian(1..2.5)'
  best = list(prune.taylor(model, params, source, blur))
  kodak = sources.open('sharp', 'all', directory=photos / 'val')
  sharp = as_float(jnp.stack([kodak[i]['sharp'][100:228, 100:228] for i in range(8)]))
  blurred = jax.jit(synthesis.parse(blur))(jax.random.key(1), sharp)
  smaller = model.clone(width=13)

  @jax.jit
  def restore(params):
    return smaller.apply({'params': params}, blurred)['restored']

  def psnr(importance):
    pruned = prune.prune('nafnet', model, params, importance, keep=0.65)
    assert pruned.model == smaller
    return float(fidelity.psnr(restore(pruned.params), sharp).mean())

  generator = np.random.default_rng(0)
  chance = [
    psnr([{name: generator.uniform(size=v.shape) for name, v in flat(params).items()}])
    for _ in range(3)
  ]
  assert psnr(best) > max(chance) + 0.1


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A file of smoke weights with a license."""
  path = tmp_path_factory.mktemp('trained') / 'w.safetensors'
  model = models.make('nafnet', 'smoke')
  manifest = {'network': 'nafnet', 'arguments': arguments(model), 'license': 'CC0', 'step': 7}
  weights.write(path, random_params(model), manifest)
  return path


@pytest.fixture
def pictures(tmp_path):
  folder = tmp_path / 'pictures'
  folder.mkdir()
  for index in range(2):
    pixels = np.random.default_rng(index).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'{index}.png')
  return folder


def test_the_command_writes_weights_that_restore(trained, pictures, tmp_path, capsys):
  out = tmp_path / 'small.safetensors'
  blur = 'gaussian(1..2)'
  flags = ['--keep', '0.6', '--pictures', str(pictures), '--blur', blur]
  assert cli.main(['prune', str(trained), '-o', str(out), *flags]) == 0
  assert '1,092 of 1,687 parameters (64.7%), width 4 to 3' in capsys.readouterr().out
  _, params, manifest = zoo.network(out)
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1092
  assert manifest['arguments']['width'] == 3 and manifest['license'] == 'CC0'
  assert 'step' not in manifest and manifest['changes'] == 'pruned from width 4 to 3'
  record = manifest['pruned']
  assert record['sha256'] == weights.digest(trained) and record['parameters'] == [1687, 1092]
  assert record['scores']['by'] == 'taylor' and record['scores']['blur'] == blur
  picture = str(pictures / '0.png')
  restored = tmp_path / 'restored.png'
  assert cli.main(['restore', picture, '-o', str(restored), '--weights', str(out)]) == 0
  with Image.open(restored) as opened:
    assert opened.size == (48, 40)


def test_wrong_use_is_one_line(trained, brighter, tmp_path, capsys):
  out = str(tmp_path / 'small.safetensors')
  wrong = [
    ([brighter, '-o', out, '--keep', '0.5'], 'srcnn cannot be pruned, only nafnet and maxim'),
    (['wiener', '-o', out, '--keep', '0.5'], 'no weights to prune'),
    ([str(trained), '-o', 'small.onnx', '--keep', '0.5'], 'name it .safetensors'),
    ([str(trained), '-o', out, '--keep', '1'], 'must be between 0 and 1'),
    ([str(trained), '-o', out, '--keep', '0.5', '--blur', 'disk(2)'], 'requires --pictures'),
    ([str(trained), '-o', out, '--keep', '0.5', '--pictures', 'nowhere'], 'nowhere'),
  ]
  for flags, expected in wrong:
    assert cli.main(['prune', *flags]) == cli.WRONG_USE
    error = capsys.readouterr().err
    assert expected in error and error.count('\n') == 1
  assert not pathlib.Path(out).exists()


def test_training_starts_from_pruned_weights(trained, tmp_path):
  out = tmp_path / 'small.safetensors'
  prune.file(str(trained), out, keep=0.6)
  run = tmp_path / 'run'

  def settings(start, steps):
    config = nafnet_config.get_config('smoke')
    assert config.model.width == 4
    config.start, config.steps, config.evaluate = str(start), steps, {}
    config.optim.learning_rate = 1e-12
    return config

  train.train(settings(out, 1), run)
  params, manifest = weights.read(run / 'weights.safetensors')
  expected, before = weights.read(out)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, expected)
  assert manifest['arguments']['width'] == 3
  assert manifest['provenance']['start']['pruned'] == before['pruned']

  out.unlink()  # The run resumes without them, and another starts from the run.
  train.train(settings(out, 2), run)
  assert weights.read(run / 'weights.safetensors')[1]['step'] == 2
  train.train(settings(run, 1), tmp_path / 'next')
  assert weights.read(tmp_path / 'next' / 'weights.safetensors')[1]['arguments']['width'] == 3
