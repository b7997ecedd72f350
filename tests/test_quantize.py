"""INT8 files: little is lost, outliers do not spoil the rest, and a bad file is never written."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import cli, exported, models, weights, zoo
from deblur_jax.models import nafnet
from deblur_jax.types import Needs

onnx = pytest.importorskip('onnx', reason='the extra export is not installed')
pytest.importorskip('onnxruntime', reason='the extra export is not installed')
pytest.importorskip('jax2onnx', reason='the extra export is not installed')

from deblur_jax import export  # noqa: E402  # needs the extra
from deblur_jax.compress import quantize  # noqa: E402

SIDE = 256


def exported_file(path, apply, *, size=None, layout='nhwc'):
  """An ONNX file of a function."""
  manifest = {'network': 'test', 'needs': dataclasses.asdict(Needs()), 'sha256': ''}
  export.onnx.write(path, export.Request(apply, Needs(), manifest, size), layout=layout)
  return path


def mixed(x, kernel):
  """A 1x1 convolution, a layer to quantize."""
  dimensions = ('NHWC', 'HWIO', 'NHWC')
  return jax.lax.conv_general_dilated(
    x, kernel[None, None], (1, 1), 'SAME', dimension_numbers=dimensions
  )


def clipping_layers(x):
  """The identity, which in its fourth layer turns white into 51; that is clipped in the end."""
  rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
  rotation = jnp.asarray(rotation, jnp.float32)
  x = mixed(x, jnp.eye(3))  # the first layer
  x = mixed(mixed(x, rotation), rotation.T)  # layers 2 and 3 lose nothing
  x = mixed(x + 1e3 * jax.nn.relu(x - 0.95), jnp.eye(3))  # layer 4 has outliers
  return mixed(x, jnp.eye(3))  # the last layer


@pytest.fixture(scope='module')
def clipping(tmp_path_factory):
  return exported_file(tmp_path_factory.mktemp('clipping') / 'clipping.onnx', clipping_layers)


def pictures(count, seed):
  """(input, sharp): random pictures with one white value; `sharp` has noise of 0.03."""
  random, pairs = np.random.default_rng(seed), []
  for _ in range(count):
    given = random.uniform(0.1, 0.9, (SIDE, SIDE, 3)).astype(np.float32)
    given[0, seed, 0] = 1
    pairs.append((given, (given + 0.03 * random.normal(size=given.shape)).astype(np.float32)))
  return pairs


def test_a_rare_product_does_not_spoil_all_others(clipping, tmp_path, monkeypatch):
  sets = pictures(4, seed=0), pictures(2, seed=1)
  # Noise of 0.03: -20 log10(0.03) dB.
  found = quantize.write(clipping, tmp_path / 'percentile.onnx', *sets, max_loss=30)
  assert found.psnr_before == pytest.approx(30.46, abs=0.02)
  assert found.loss < 0.2
  # Up to the largest value, 51, a step is 0.2.
  monkeypatch.setattr(quantize, 'PERCENTILE', 100)
  assert quantize.write(clipping, tmp_path / 'largest.onnx', *sets, max_loss=30).loss > 1


def test_what_is_accepted_at_once_is_written_once(clipping, tmp_path, monkeypatch):
  written, write = [], quantize._Trials.write
  monkeypatch.setattr(
    quantize._Trials,
    'write',
    lambda self, in_float: written.append(in_float) or write(self, in_float),
  )
  quantize.write(clipping, tmp_path / 'a.onnx', pictures(4, seed=0), pictures(1, seed=1))
  assert len(written) == 1


def test_only_the_layers_that_cost_most_stay_in_float(clipping, tmp_path, monkeypatch):
  monkeypatch.setattr(quantize, 'PERCENTILE', 100)
  sets, lines = (pictures(4, seed=0), pictures(2, seed=1)), []
  found = quantize.write(clipping, tmp_path / 'mixed.onnx', *sets, say=lines.append)
  names = [node.name for node in onnx.load(clipping).graph.node if node.op_type == 'Conv']
  assert found.in_float == [names[0], names[3], names[4]]
  assert found.loss < 0.2 and found.layers == 5
  assert 'looking for the layers that cost most' in lines[0]
  kinds = {}
  for node in onnx.load(tmp_path / 'mixed.onnx').graph.node:
    kinds.setdefault(node.op_type, []).append(node.name)
  assert len(kinds['Conv']) == 5 and 'QuantizeLinear' in kinds


def test_a_fixed_size_and_planes_make_no_difference(clipping, tmp_path):
  sets = pictures(4, seed=0), pictures(2, seed=1)
  fixed = exported_file(tmp_path / 'fixed.onnx', clipping_layers, size=(288, 272), layout='nchw')
  found, expected = (
    quantize.write(file, tmp_path / 'int8.onnx', *sets, max_loss=1) for file in (fixed, clipping)
  )
  assert found.psnr == pytest.approx(expected.psnr, abs=0.01)  # it sees reflected margins, too


def test_a_file_that_loses_too_much_is_not_written(clipping, tmp_path):
  sets = pictures(1, seed=0), pictures(1, seed=1)
  with pytest.raises(ValueError, match=r'INT8 loses .* dB, and still more than -1 .*not written'):
    quantize.write(clipping, tmp_path / 'never.onnx', *sets, max_loss=-1, say=lambda text: None)
  assert not list(tmp_path.iterdir())


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  """Random weights, none of them zero."""
  model = models.make('nafnet', 'smoke')
  keys = iter(jax.random.split(jax.random.key(0), 100))
  params = jax.tree.map(
    lambda one: jax.random.normal(next(keys), one.shape) / 9, models.shapes(model)
  )
  path = tmp_path_factory.mktemp('nafnet') / 'smoke.safetensors'
  manifest = {'network': 'nafnet', 'arguments': nafnet.VARIANTS['smoke'], 'license': 'CC0'}
  weights.write(path, params, manifest)
  return path


def test_the_command_quantizes_weights_on_pictures(smoke, tmp_path, capsys):
  path = tmp_path / 'int8.onnx'
  flags = ['--calibrate', 'builtin', '--blur', 'gaussian(1)', '--crops', '3']
  assert cli.main(['quantize', str(smoke), '-o', str(path), *flags, '--max-loss', '1']) == 0
  output = capsys.readouterr().out
  assert 'calibrating with 3 crops of 256x256' in output and '3 held-out crops: ' in output
  file = exported.open_file(path)
  assert file.manifest['sha256'] == weights.read(smoke)[1]['sha256']
  record = file.manifest['quantized']
  assert file.manifest['dtype'] == 'int8' and record['layers_in_float'] == 2
  given = np.random.default_rng(1).uniform(size=(1, 64, 48, 3)).astype(np.float32)
  float_result, result = zoo.load(smoke).restore(given), file.restore(given)
  error = np.sqrt(np.mean((float_result - result) ** 2)) / np.std(float_result - given)
  assert 0 < error < 0.1  # steps of 1/255 in each of a dozen layers
  assert [one.name for one in tmp_path.iterdir()] == ['int8.onnx']


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['mobile', '-o', 'a.safetensors', '--calibrate', 'builtin'], 'a.safetensors: name it .onnx'),
    (['mobile', '-o', 'no/a.onnx', '--calibrate', 'builtin'], 'no: no such folder'),
    (['a.stablehlo', '-o', 'a.onnx', '--calibrate', 'builtin'], 'only ONNX files and weights'),
    (['cut.onnx', '-o', 'a.onnx', '--calibrate', 'builtin'], 'onnxruntime cannot load this file'),
    (['whole.onnx', '-o', 'a.onnx', '--calibrate', 'nowhere'], 'nowhere: no such folder'),
    (['whole.onnx', '-o', 'a.onnx', '--calibrate', '/no/where'], '/no/where: no such folder'),
    (['whole.onnx', '-o', 'a.onnx', '--calibrate', 'pairs'], 'add its folder, pairs:FOLDER'),
    (['whole.onnx', '-o', 'a.onnx', '--calibrate', 'pairs:no'], 'no: no such folder'),
    (['whole.onnx', '-o', 'a.onnx', '--calibrate', 'empty'], 'empty: '),
  ],
)
def test_wrong_use_is_one_line(clipping, tmp_path, monkeypatch, capsys, arguments, message):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'a.stablehlo').touch()
  (tmp_path / 'whole.onnx').write_bytes(clipping.read_bytes())
  (tmp_path / 'cut.onnx').write_bytes(clipping.read_bytes()[:200])
  assert cli.main(['quantize', *arguments]) == 2
  error = capsys.readouterr().err
  assert message in error and error.count('\n') == 1
  assert not (tmp_path / 'a.onnx').exists()


@pytest.mark.parametrize('missing', ['onnx', 'onnxruntime', 'jax2onnx'])
def test_a_missing_extra_is_one_line(clipping, tmp_path, monkeypatch, capsys, missing):
  monkeypatch.setitem(sys.modules, missing, None)
  path = tmp_path / 'a.onnx'
  assert cli.main(['quantize', str(clipping), '-o', str(path), '--calibrate', 'builtin']) == 2
  error = capsys.readouterr().err
  assert "pip install 'deblur-jax[export]'" in error and error.count('\n') == 1
  assert cli.main(['export', 'mobile', '-o', str(path)]) == 2
  error = capsys.readouterr().err
  assert "pip install 'deblur-jax[export]'" in error and error.count('\n') == 1
  assert not path.exists()
