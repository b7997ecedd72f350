"""Intervals that keep their promise, on data whose risk is known exactly."""

import json
import math

import flax.linen as nn
import jax
import numpy as np
from PIL import Image
import pytest
import safetensors.numpy
from scipy import stats

from deblur_jax import cli, models, tiling, weights, zoo
from deblur_jax.models import nafnet
from deblur_jax.nn.conv import Conv
from deblur_jax.photos import assessment, restorer
from deblur_jax.uncertainty import conformal, reliability, spread


def test_p_values_by_hand():
  # No loss in 50 pictures: Hoeffding's bound is (1 - risk)^n, Bentkus's e times that.
  assert conformal.p_value(0, 50, 0.1) == pytest.approx(0.9**50)
  # A mean of 0.1 against a risk of 0.2: exp(-n KL(0.1 || 0.2)), KL = 0.0366908 nats.
  divergence = 0.1 * math.log(0.5) + 0.9 * math.log(0.9 / 0.8)
  assert divergence == pytest.approx(0.0366908, abs=1e-6)
  hoeffding, bentkus = math.exp(-100 * divergence), math.e * stats.binom.cdf(10, 100, 0.2)
  assert conformal.p_value(0.1, 100, 0.2) == pytest.approx(min(hoeffding, bentkus))
  assert conformal.p_value(0.3, 100, 0.2) == pytest.approx(1)


def test_too_few_pictures_are_refused():
  # 0.9^22 = 0.0985 < 0.1 < 0.9^21.
  assert 0 < conformal.largest_loss(22, 0.1, 0.1) < 0.01
  with pytest.raises(ValueError, match='21 pictures are too few to calibrate with: at least 22'):
    conformal.calibrate([np.ones(4)] * 21)


def test_the_scale_is_the_smallest_that_loses_little_enough():
  ratios = [np.arange(1000.0) + i / 100 for i in range(100)]
  found = conformal.calibrate(ratios)
  loss = np.mean([np.mean(one > found.scale) for one in ratios])
  smaller = np.mean([np.mean(one > np.nextafter(found.scale, 0)) for one in ratios])
  allowed = conformal.largest_loss(100, 0.1, 0.1)
  assert loss <= allowed < smaller + 1e-5
  assert 0 < allowed < 0.1


def test_the_risk_is_kept_in_the_promised_share_of_repeats():
  # A picture's errors are c |normal| with c exponential: its loss at a scale s is 2 Q(s / c), whose
  # expectation is integrated over c numerically.
  random, broken, repeats = np.random.default_rng(0), 0, 200
  scales = stats.expon.ppf((np.arange(20000) + 0.5) / 20000)
  for _ in range(repeats):
    factors = random.exponential(size=60)
    ratios = [factor * np.abs(random.normal(size=400)) for factor in factors]
    found = conformal.calibrate(ratios, risk=0.2, delta=0.1)
    broken += np.mean(2 * stats.norm.sf(found.scale / scales)) > 0.2
  assert broken <= 0.1 * repeats
  assert found.scale < 10  # and not because the intervals hold everything


def test_spread_is_that_of_the_eight_turns():
  ramp = np.linspace(0, 1, 16, dtype=np.float32)
  image = np.broadcast_to(ramp[None, None, :, None], (1, 16, 16, 3)).copy()

  def left_to_right(images):  # what it adds depends on the orientation
    return images + ramp[None, None, :, None]

  found = spread.of_turns(left_to_right)(image) - spread.FLOOR
  # Of the eight turns two add x, two 15 - x, two y and two 15 - y.
  y, x = np.mgrid[:16, :16] / 15
  expected = np.std([x, 1 - x, y, 1 - y], axis=0)
  np.testing.assert_allclose(found[0, ..., 0], expected, atol=1e-5)
  np.testing.assert_allclose(tiling.self_ensemble(left_to_right)(image), image + 0.5, atol=1e-6)


class Stages(nn.Module):
  """Sixteen channels of the first color, each weighted, and their sum; in two stages."""

  @nn.compact
  def __call__(self, blurred, *, train=False):
    many = Conv(16, 1, use_bias=False, name='many')(blurred)
    restored = Conv(3, 1, use_bias=False, name='end')(many)
    return {'restored': restored, 'stages': (blurred, restored)}


def stages():
  """(the network, its parameters, the weights of its channels)"""
  weights_ = np.linspace(0.05, 0.2, 16, dtype=np.float32)
  many, end = np.zeros((1, 1, 3, 16), 'f'), np.ones((1, 1, 16, 3), 'f')
  many[0, 0, 0] = weights_
  return Stages(), {'many': {'kernel': many}, 'end': {'kernel': end}}, weights_


def test_spread_of_stages_and_of_members_that_agree():
  model, params, weights_ = stages()
  image = np.full((1, 4, 4, 3), 0.5, np.float32)
  # Two values spread by half of their difference.
  expected = abs(0.5 * weights_.sum() - 0.5) / 2 + spread.FLOOR
  np.testing.assert_allclose(spread.of_stages(model, params)(image), expected, rtol=1e-5)
  np.testing.assert_allclose(spread.of_results([image] * 5), spread.FLOOR, rtol=1e-5)
  with pytest.raises(ValueError, match='does not have several stages'):
    spread.of_stages(nafnet.Model('smoke'), zoo_params('smoke'))(image)
  with pytest.raises(ValueError, match='predicts no intervals'):
    spread.of_head(nafnet.Model('smoke'), zoo_params('smoke'))(image)


def test_spread_of_dropout_is_that_of_dropped_channels(monkeypatch):
  monkeypatch.setattr(spread, 'DRAWS', 1000)
  model, params, weights_ = stages()
  image = np.full((1, 2, 2, 3), 0.5, np.float32)
  # A channel that is kept with probability q and then divided by q has variance (1 - q) / q.
  expected = np.sqrt(0.2 / 0.8 * np.square(0.5 * weights_).sum())
  found = spread.of_dropout(model, params, share=0.2)(image) - spread.FLOOR
  np.testing.assert_allclose(found, expected, rtol=0.1)


def zoo_params(variant):
  return jax.tree.map(lambda one: np.zeros(one.shape, 'f'), models.shapes(nafnet.Model(variant)))


@pytest.fixture(scope='module')
def network(tmp_path_factory):
  """A NAFNet of random weights, stored as int8."""
  model = nafnet.Model('smoke')
  keys = iter(jax.random.split(jax.random.key(0), 100))
  params = jax.tree.map(
    lambda one: jax.random.normal(next(keys), one.shape) / 9, models.shapes(model)
  )
  path = tmp_path_factory.mktemp('network') / 'smoke.safetensors'
  manifest = {'network': 'nafnet', 'arguments': nafnet.VARIANTS['smoke']}
  weights.write(path, params, manifest, dtype='int8')
  return path


def test_calibrated_weights_restore_with_a_map(network, tmp_path, capsys):
  path, picture = tmp_path / 'calibrated.safetensors', tmp_path / 'p.png'
  flags = ['--pairs', 'builtin', '--blur', 'gaussian(1)', '--draws', '3', '--risk', '0.3']
  assert cli.main(['calibrate', str(network), '-o', str(path), *flags]) == 0
  said = capsys.readouterr().out
  assert 'at least 70% of those of new pictures' in said
  assert 'no reliability, which requires at least 44 pictures' in said
  manifest = weights.read(path)[1]
  found = conformal.Calibration(**manifest.pop('uncertainty'))
  assert (found.risk, found.delta) == (0.3, 0.1) and found.scale > 0 and found.data
  assert manifest | {'sha256': ''} == weights.read(network)[1] | {'sha256': ''}
  stored = [safetensors.numpy.load_file(file) for file in (network, path)]
  assert stored[0].keys() == stored[1].keys()  # int8 and steps, bit for bit
  assert all((stored[0][name] == stored[1][name]).all() for name in stored[0])

  score = reliability.Reliability(
    ('spread', 'clipped'), (0, 0), (1, 1), (1, 1, 0), (-3, 0), (0.25, 0.75), 50
  )
  weights.annotate(path, path, reliability=score._asdict())
  noise = Image.effect_noise((40, 48), 60).convert('RGB')
  for name in ('blur', 'sharp'):
    (tmp_path / 'pairs' / name).mkdir(parents=True)
    noise.save(tmp_path / 'pairs' / name / '1.png')
  sets = {'small': {'source': 'pairs', 'split': 'all', 'directory': str(tmp_path / 'pairs')}}
  assessment.run({'it': str(path), 'not': str(network)}, sets, tmp_path, print)
  assessed = json.loads((tmp_path / 'uncertainty.json').read_text())['small']
  assert assessed.keys() == {'it'} and assessed['it']['pictures'] == 1
  assert 0 < assessed['it']['coverage'] <= 1 and 0.25 <= assessed['it']['reliability'] <= 0.75
  assert (tmp_path / 'uncertainty.png').is_file()
  assert 'not: no uncertainty, as it has no calibration' in capsys.readouterr().out

  pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
  Image.fromarray(pixels).save(picture)
  out = tmp_path / 'out.png'
  flags = ['--weights', str(path), '--uncertainty', '-o', str(out)]
  spreads = spread.of_turns(zoo.load(network).restore)(pixels[None] / np.float32(255))[0].mean(-1)
  # Half of the intervals would be wider than any error can be.
  known = conformal.Calibration(float(1 / np.median(spreads)), 0.1, 0.1, 50, '', 'turns')
  weights.annotate(path, path, uncertainty=known._asdict())
  report = tmp_path / 'report.json'
  assert cli.main(['restore', str(picture), *flags, '--report', str(report)]) == 0
  (entry,) = json.loads(report.read_text())['files']
  expected = np.minimum(known.scale * spreads, 1)
  with Image.open(tmp_path / 'out.png.uncertainty.png') as image:
    plane = np.asarray(image, np.float64)
  np.testing.assert_allclose(plane / 65535, expected / expected.max(), atol=1e-4)
  # The logarithm of the mean spread counts, and what became black or white.
  with Image.open(out) as image:
    ends = np.isin(after := np.asarray(image), (0, 255)) & (after != pixels)
  total = np.log10(spreads.mean()) + np.sqrt(ends.mean())
  assert entry['reliability'] == pytest.approx(np.interp(total, (-3, 0), (0.25, 0.75)), abs=1e-3)
  said = capsys.readouterr().out
  assert f'; reliability {entry["reliability"]:.2f} (' in said
  assert f'within {255 * expected.mean():.1f} of 255 levels on average' in said


def test_an_ensemble_spreads_between_its_members(network, brighter):
  image = np.random.default_rng(0).random((1, 12, 16, 3), np.float32)
  members = [np.asarray(zoo.load(name).restore(image)) for name in (network, brighter)]
  expected = abs(members[0] - members[1]) / 2 + spread.FLOOR
  ((_, found),) = restorer.load(network, spread_of=str(brighter)).spreads(image)
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['calibrate', 'mobile', '-o', 'a.onnx', '--pairs', 'builtin'], 'name it .safetensors'),
    (['calibrate', 'mobile', '-o', 'no/a.safetensors', '--pairs', 'builtin'], 'no such folder'),
    (['calibrate', 'mobile', '-o', 'a.safetensors', '--pairs', 'builtin'], 'too few'),
    (['restore', 'p.png', '--weights', 'wiener', '--psf', 'disk:2'], 'requires a network'),
    (['restore', 'p.png', '--weights', 'maxim'], 'has no calibration'),
    (['restore', 'p.png', '--strength', '0.5'], 'is for plain results'),
  ],
)
def test_wrong_use_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
  monkeypatch.chdir(tmp_path)
  Image.new('RGB', (40, 40)).save('p.png')
  flags = ['--uncertainty'] if arguments[0] == 'restore' else []
  assert cli.main([*arguments, *flags]) == 2
  error = capsys.readouterr().err
  assert message in error and error.count('\n') == 1
