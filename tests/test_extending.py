"""Networks, losses, metrics, steps, optimizers, trainers and writers out of an outside module."""

import json
import re
import sys

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deblur_jax import losses, metrics, models, optim, spec, train, weights, writers, zoo
from deblur_jax.blur import synthesis
from deblur_jax.configs import common, srcnn
from deblur_jax.evaluation import blurred_set
from deblur_jax.trainers import supervised

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

OUTSIDE = """
import dataclasses
import json

import flax.linen as nn
import jax.numpy as jnp
import optax

from deblur_jax.blur import steps
from deblur_jax.trainers import supervised
from deblur_jax.types import Needs

VARIANTS = {'default': {'features': 3}, 'wide': {'features': 6}}


class Gain(nn.Module):
  features: int = 3
  dtype: type = jnp.float32
  needs = Needs()

  @nn.compact
  def __call__(self, blurred, *, train=False):
    x = nn.Conv(self.features, (1, 1), name='mix')(blurred)
    return {'restored': blurred + nn.Conv(3, (1, 1), name='out')(x)}


def Model(variant='default', **overrides):
  return Gain(**{**VARIANTS[variant], **overrides})


def power(restored, sharp, *, order=2):
  return (jnp.abs(restored - sharp) ** order).mean(axis=(-3, -2, -1))


def total(restored, sharp):
  return jnp.abs(restored - sharp).mean()


def nothing(restored, sharp):
  pass


def concrete(restored, sharp):
  return restored if restored.sum() > 0 else sharp


def largest(restored, sharp):
  return jnp.abs(restored - sharp).max(axis=(-3, -2, -1))


@dataclasses.dataclass(frozen=True)
class Darker(steps.PixelStep):
  linear = False
  amount: steps.Annotated[steps.Value, steps.Within(0, 1)] = 0.5

  def __call__(self, image, *, amount):
    return image * (1 - amount)


def descent(learning_rate, scale=1.0):
  return optax.chain(optax.sgd(learning_rate), optax.scale(scale))


def trainer(config, model):
  return supervised.make(config, model)


class Writer:
  def __init__(self, workdir, config):
    self._path = workdir / 'hook.jsonl'
    self._lines = [{'seed': config['seed']}]

  def scalars(self, step, values):
    self._lines.append({'step': step, 'names': sorted(values)})

  def pictures(self, step, name, image):
    self._lines.append({'step': step, 'picture': name, 'shape': image.shape})

  def close(self):
    self._path.write_text(json.dumps(self._lines))


def number():
  return 3
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
  """The name of a module in a folder on Python's path; gone again after the test."""
  (tmp_path / 'my_package').mkdir()
  (tmp_path / 'my_package' / 'parts.py').write_text(OUTSIDE)
  (tmp_path / 'my_package' / 'plain.py').write_text('def number():\n  return 3\n')
  monkeypatch.syspath_prepend(tmp_path)
  yield 'my_package.parts'
  for name in [name for name in sys.modules if name.partition('.')[0] == 'my_package']:
    del sys.modules[name]


def test_networks(outside, key):
  assert models.variants(f'{outside}:Model') == ['default', 'wide']
  wide = models.make(f'{outside}:Model', 'wide')
  assert wide.features == 6 and models.make(f'{outside}:Gain', features=6) == wide
  assert wide.init(key, jnp.zeros((1, 4, 4, 3)))['params']['mix']['kernel'].shape == (1, 1, 3, 6)
  with pytest.raises(ValueError, match=r'has no variant .*; available: default, wide'):
    models.make(f'{outside}:Model', 'small')
  with pytest.raises(ValueError, match=r'has no argument depth; available: features, dtype'):
    models.make(f'{outside}:Gain', depth=3)


@pytest.mark.parametrize('name', ['my_package.plain:number', 'os:getcwd', 'subprocess:run'])
def test_only_networks_are_called_by_the_name_of_a_network(outside, name):
  # The name may stand in the manifest of somebody's weights.
  with pytest.raises(ValueError, match='neither the class of a network nor a Model'):
    models.make(name)


def test_losses(outside):
  found = losses.parse(f'0.5*{outside}:power(order=4) + 2*edge')
  assert list(found) == ['power', 'edge'] and [weight for weight, _ in found.values()] == [0.5, 2]
  ones, zeros = jnp.full((2, 4, 4, 3), 0.5), jnp.zeros((2, 4, 4, 3))
  np.testing.assert_allclose(found['power'][1](ones, zeros), 0.5**4)
  config = srcnn.get_config('smoke')
  config.loss.update(dict.fromkeys(config.loss, 0.0))
  config.loss.mse, config.more_loss = 1.0, f'3*{outside}:power(order=1)'
  judge = supervised.content(config, models.make(**config.model))
  loss, terms = judge({'restored': ones}, zeros)
  assert loss == pytest.approx(0.25 + 3 * 0.5) and set(terms) == {'mse', 'power'}
  config.more_loss = '1*mse'
  with pytest.raises(ValueError, match=r'mse is in both config\.loss and config\.more_loss'):
    supervised.content(config, models.make(**config.model))
  with pytest.raises(ValueError, match=r"cannot read 'edge' .*: write WEIGHT\*NAME"):
    losses.parse('0.5*l1 + edge')


def test_metrics(outside):
  assert metrics.parse('ssim')['ssim'] is metrics.METRICS['ssim']
  settings = common.evaluation('builtin', blur='gaussian(1)', limit=1)
  pictures = blurred_set.open_set(**settings | {'metrics': f'{outside}:largest | psnr_uint8'})
  scores = pictures.score(pictures[0]['sharp'], pictures[0])
  assert scores['largest'] == 0 and list(scores) == ['psnr', 'ssim', 'largest', 'psnr_uint8']
  with pytest.raises(ValueError, match='no sharp pictures to compare with'):
    blurred_set.open_set(**settings | {'metrics': 'ssim', 'protocol': 'sharpness'})


def test_blur_steps(outside, key):
  degrade = synthesis.parse(f'sharp | {outside}:Darker(0.25)')
  sharp = jnp.full((2, 8, 8, 3), 0.8)
  np.testing.assert_allclose(degrade(key, sharp), 0.6, atol=1e-6)
  assert [drawn.step for drawn in degrade.drawn(key)] == ['sharp', f'{outside}:Darker']


@pytest.mark.parametrize(
  'name, expected',
  [
    ('optax:sgd', -0.1 * 2.0),
    ('optax:sign_sgd', -0.1),
    ('optax:lion(b1=0.9, weight_decay=0.5)', -0.1 * (1 + 0.5 * 3)),
    ('{outside}:descent(scale=10.0)', -0.1 * 2.0 * 10),
  ],
)
def test_optimizers(outside, name, expected):
  settings = {**PLAIN, 'name': name.format(outside=outside)}
  optimizer = optim.make(settings, 10).transform
  params = jnp.array([3.0])
  updates, _ = optimizer.update(jnp.array([2.0]), optimizer.init(params), params)
  np.testing.assert_allclose(updates, expected, rtol=1e-5)


def test_muon_takes_the_schedule_too():
  optimizer = optim.make({**PLAIN, 'name': 'optax.contrib:muon'}, 10).transform
  params = {'kernel': jnp.eye(4)}
  updates, _ = optimizer.update(params, optimizer.init(params), params)
  assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
  assert np.isfinite(updates['kernel']).all() and abs(updates['kernel']).max() > 0


def test_a_run_with_parts_from_outside(outside, tmp_path):
  config = srcnn.get_config('smoke')
  config.model = common.network(f'{outside}:Model', 'wide')
  config.trainer, config.writer = f'{outside}:trainer', f'{outside}:Writer'
  config.more_loss, config.optim.name = f'0.5*{outside}:power', f'{outside}:descent(scale=0.5)'
  config.blur = f'gaussian(1) | {outside}:Darker(0..0.2)'
  config.evaluate.builtin.metrics = f'{outside}:largest'
  config.evaluate.builtin.blur = config.blur
  train.train(config, tmp_path / 'run')
  manifest = weights.read(tmp_path / 'run' / 'weights.safetensors')[1]
  assert manifest['network'] == f'{outside}:Model' and 'builtin/largest' in manifest['scores']
  lines = json.loads((tmp_path / 'run' / 'hook.jsonl').read_text())
  assert lines[0] == {'seed': config.seed}
  assert any(line.get('picture') == 'gallery' for line in lines)
  assert any('loss/power' in line.get('names', ()) for line in lines)
  restored = zoo.load(tmp_path / 'run').restore(jnp.zeros((1, 8, 8, 3)))
  assert restored.shape == (1, 8, 8, 3)
  # The same again is the same run, and another loss from outside is not.
  train.train(config, tmp_path / 'run')
  config.more_loss = ''
  with pytest.raises(ValueError, match=r'more_loss 0\.5\*my_package\.parts:power -> '):
    train.train(config, tmp_path / 'run')


@pytest.mark.parametrize(
  'loss, told',
  [
    ('power(ordr=1)', r"loss 'my_package\.parts:power\(ordr=1\)': .*unexpected .* 'ordr'"),
    ('total', r"parts:total' must return one value per image: shape \[2\] .*, not shape \[\]"),
    ('nothing', 'not NoneType'),
    ('concrete', "parts:concrete': .*conversion of traced array"),
  ],
)
def test_a_loss_that_cannot_work_is_refused_before_the_run_begins(outside, tmp_path, loss, told):
  config = srcnn.get_config('smoke')
  config.more_loss = f'0.5*{outside}:{loss}'
  with pytest.raises(ValueError, match=told) as error:
    train.train(config, tmp_path / 'run')
  assert not re.search('\n', str(error.value)) and not (tmp_path / 'run').exists()


def test_a_writer_without_its_option_is_refused_before_the_run_begins(outside, tmp_path):
  config = srcnn.get_config('smoke')
  config.writer = f'{outside}:Writer(project=1)'
  with pytest.raises(ValueError, match=r"Writer\(project=1\)': .*argument 'project'"):
    train.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'find, told',
  [
    (lambda: models.make('no_such_package:Model'), 'cannot import no_such_package'),
    (lambda: losses.parse('1*no_such_package.losses:a'), "loss 'no_such_package.losses:a': cannot"),
    (lambda: losses.parse('1*math:a'), "loss 'math:a': the module has no a"),
    (lambda: losses.parse('1*math:pi'), "loss 'math:pi': not a function"),
    (lambda: losses.parse('1*edge(2)'), r"loss 'edge\(2\)': write options as name=value"),
    (lambda: losses.parse('1*egde'), 'known: l1, .*package.module:name.; did you mean edge'),
    (lambda: metrics.parse('pnsr'), 'no metric .*did you mean psnr'),
    (lambda: metrics.parse('ssim | ssim'), "'ssim' is given twice"),
    (lambda: metrics.parse('ssim(size=3)'), r"metric 'ssim\(size=3\)': .*argument 'size'"),
    (
      lambda: optim.make({**PLAIN, 'name': 'optax:sgd(speed=1)'}, 9),
      r"optim\.name 'optax:sgd\(speed=1\)': .*argument 'speed'",
    ),
    (lambda: synthesis.parse('math:nothing(3)'), "step 'math:nothing': the module has no nothing"),
    (lambda: optim.make({**PLAIN, 'name': 'adan'}, 9), r'no optim\.name .*did you mean adam'),
    (lambda: optim.make({**PLAIN, 'name': 'optax:sgd', 'weight_decay': 1.0}, 9), 'for adamw only'),
    (
      lambda: writers.open_hooks('wandb', None, {}),
      "no writer 'wandb' .known: package.module:name",
    ),
    (lambda: spec.find('trainer', 'supervise', {'supervised': 1}), 'did you mean supervised'),
  ],
)
def test_what_cannot_be_found_is_named_in_a_line(find, told):
  with pytest.raises(ValueError, match=told) as error:
    find()
  assert not re.search('\n', str(error.value))
