"""Exported networks: the same pictures as JAX, any size, and plain words for what cannot work."""

import contextlib
import json
import pathlib
import re
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import cli, convert, export, exported, models, weights, zoo
from deblur_jax.types import Needs

onnx = pytest.importorskip('onnx', reason='the extra export is not installed')
pytest.importorskip('onnxruntime', reason='the extra export is not installed')
pytest.importorskip('jax2onnx', reason='the extra export is not installed')

# Network -> what keeps it from being exported to ONNX for any size. All can be for a fixed one.
FIXED_ONLY = {
  'deblurgan': 'reflection padding',
  'deepdeblur': 'its pyramid is a matrix of the size of the image',
  'srn': 'bilinear resizing of its recurrent state',
  'swinir': 'masks of shifted windows',
}


# Network -> what keeps it from being exported to ONNX at all.
NOT_AT_ALL = {'refine': 'its steps are a loop around a network, which begins from noise'}

# Where the fixtures are beside the repository, networks are exported with the goldens' weights, on
# which test_convert.py has the authors' own outputs; otherwise with weights drawn here.
FIXTURES = pathlib.Path(__file__).resolve().parents[2] / 'shared/goldens'
GOLDENS = dict.fromkeys(('deepdeblur', 'hinet', 'maxim', 'mprnet', 'nafnet', 'restormer'))
GOLDENS |= dict.fromkeys(('srcnn', 'swinir')) | {
  'dbgan': 'dbgan_generator',
  'deblurgan': 'deblurgan_generator',
}


def shipped_like(path: pathlib.Path, name: str, **overrides) -> pathlib.Path:
  """Random weights of a network's smallest variant, none of them zero."""
  variants = models.variants(name)
  model = models.make(name, 'smoke' if 'smoke' in variants else 'default', **overrides)
  rng = np.random.default_rng(0)

  def draw(leaf):
    scale = 0.3 / max(leaf.shape[-2:-1] or (1,))
    return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)

  return written(path, name, model, jax.tree.map(draw, models.shapes(model)))


def written(path: pathlib.Path, name: str, model, params) -> pathlib.Path:
  """A weights file of a network."""
  arguments = {
    field: getattr(model, field)
    for field in model.__dataclass_fields__
    if field not in ('parent', 'name', 'dtype')
  }
  weights.write(path, params, {'network': name, 'arguments': arguments, 'license': 'CC0'})
  return path


def golden(name: str):
  """The network and the parameters of a golden; of MAXIM the first stage, which takes long."""
  with np.load(FIXTURES / f'{GOLDENS[name] or name}.npz') as file:
    state = {key.removeprefix('param/'): file[key] for key in file if key.startswith('param/')}
  model, params = convert.from_torch(name, state)
  if name == 'maxim':
    model = model.clone(stages=1)
    params = weights.shared(params, models.shapes(model))
  return model, params


@pytest.fixture(scope='module')
def nafnet(tmp_path_factory):
  return shipped_like(tmp_path_factory.mktemp('nafnet') / 'w.safetensors', 'nafnet')


@pytest.fixture(scope='module')
def nafnet_onnx(nafnet):
  path = nafnet.with_name('any.onnx')
  assert cli.main(['export', str(nafnet), '-o', str(path), '--batch', 'any']) == 0
  return path


def images(*shape):
  return np.random.default_rng(1).uniform(size=(*shape, 3)).astype(np.float32)


def test_an_onnx_file_restores_as_its_network(nafnet, nafnet_onnx):
  network, file = zoo.load(nafnet), zoo.load(nafnet_onnx)
  assert file.needs == network.needs and file.name == 'any'
  for shape in ((1, 32, 48), (3, 48, 16)):
    given = images(*shape)
    np.testing.assert_allclose(file.restore(given), network.restore(given), atol=1e-5)


def test_the_file_says_what_it_is(nafnet, nafnet_onnx):
  manifest = exported.open_file(nafnet_onnx).manifest
  assert manifest['sha256'] == weights.read(nafnet)[1]['sha256']
  assert (manifest['network'], manifest['license']) == ('nafnet', 'CC0')
  opset = {one.domain: one.version for one in onnx.load(nafnet_onnx).opset_import}
  assert opset[''] == 17


def test_quick_lookups_change_nothing_but_the_time(nafnet, monkeypatch):
  from jax2onnx.converter import conv_transpose_bias_folding, ir_optimizations, output_binding

  searches = []
  for module, name in (
    (ir_optimizations, '_producer_node'),
    (ir_optimizations, '_consumer_nodes'),
    (ir_optimizations, '_has_named_consumer'),
    (conv_transpose_bias_folding, '_producer_node'),
    (output_binding, '_value_is_graph_connected'),
  ):
    search = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, of=search: searches.append(of) or of(*args))
  request = export.of_weights(str(nafnet), size=(32, 32))
  quick, few = export.onnx._model(request, 'nhwc', 17).SerializeToString(), len(searches)
  monkeypatch.setattr(export.onnx, '_quick_lookups', contextlib.nullcontext)
  assert export.onnx._model(request, 'nhwc', 17).SerializeToString() == quick
  assert few < len(searches) / 20


@pytest.mark.parametrize('layout', ['nhwc', 'nchw'])
def test_a_fixed_size_takes_smaller_pictures_too(nafnet, tmp_path, layout, capsys):
  path = tmp_path / 'fixed.onnx'
  flags = ['--size', '32x48', '--layout', layout]
  assert cli.main(['export', str(nafnet), '-o', str(path), *flags]) == 0
  assert 'differs from JAX by at most' in capsys.readouterr().out
  shape = [32, 48, 3] if layout == 'nhwc' else [3, 32, 48]
  (inside,) = onnx.load(path).graph.input
  assert [dim.dim_value for dim in inside.type.tensor_type.shape.dim] == [1, *shape]
  file = zoo.load(path)
  assert file.needs.side == 32
  given = images(2, 32, 32)
  wide = np.concatenate([given, given[:, :, :15:-1]], axis=2)  # continued by reflection
  expected = zoo.load(nafnet).restore(wide)[:, :, :32]
  np.testing.assert_allclose(file.restore(given), expected, atol=1e-5)


def test_float16_is_close(nafnet, tmp_path):
  path = tmp_path / 'half.onnx'
  flags = ['--size', '32x32', '--dtype', 'float16']
  assert cli.main(['export', str(nafnet), '-o', str(path), *flags]) == 0
  kinds = {one.data_type for one in onnx.load(path).graph.initializer if len(one.dims) == 4}
  assert kinds == {onnx.TensorProto.FLOAT16}
  given = images(1, 32, 32)
  np.testing.assert_allclose(
    zoo.load(path).restore(given), zoo.load(nafnet).restore(given), atol=0.01
  )


def test_stablehlo_runs_without_this_package(nafnet, tmp_path):
  path, given = tmp_path / 'w.stablehlo', images(2, 16, 40)
  assert cli.main(['export', str(nafnet), '-o', str(path), '--batch', 'any']) == 0
  np.save(tmp_path / 'given.npy', given)
  code = (
    'import sys, zipfile, numpy as np\nfrom jax import export\n'
    f'program = export.deserialize(bytearray(zipfile.ZipFile({str(path)!r}).read("exported")))\n'
    f'given = np.load({str(tmp_path / "given.npy")!r})\n'
    f'np.save({str(tmp_path / "out.npy")!r}, program.call(given))\n'
    'assert not [name for name in sys.modules if name.startswith("deblur_jax.")]\n'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
  expected = zoo.load(nafnet).restore(given)
  np.testing.assert_allclose(np.load(tmp_path / 'out.npy'), expected, atol=1e-5)
  np.testing.assert_allclose(zoo.load(path).restore(given), expected, atol=1e-5)
  assert zoo.load(path).needs == zoo.load(nafnet).needs


def test_darktable_gets_a_model_with_its_card(nafnet, tmp_path):
  path = tmp_path / 'small.dtmodel'
  assert cli.main(['export', str(nafnet), '-o', str(path)]) == 0
  with zipfile.ZipFile(path) as archive:
    config = json.loads(archive.read('denoise-small/config.json'))
    card = archive.read('denoise-small/README.md').decode()
    model = onnx.load_from_string(archive.read('denoise-small/model.onnx'))
  assert (config['id'], config['task'], config['num_inputs']) == ('denoise-small', 'denoise', 1)
  assert 'CC0' in card
  (given,), (result,) = model.graph.input, model.graph.output
  assert (given.name, result.name) == ('input', 'output')
  assert [dim.dim_value or dim.dim_param for dim in given.type.tensor_type.shape.dim] == [
    *(1, 3, 'H', 'W')
  ]
  assert [path.name for path in tmp_path.iterdir()] == ['small.dtmodel']


def test_an_exported_file_is_benchmarked(nafnet, nafnet_onnx, tmp_path, capsys, monkeypatch):
  from deblur_jax import benchmark
  from deblur_jax.evaluation import costs

  monkeypatch.setattr(costs, 'SMALL', (32, 32))
  monkeypatch.setattr(costs, 'LARGE', (32, 48))
  monkeypatch.setattr(costs, 'REPEATS', 2)
  found = benchmark._cost({'method': str(nafnet_onnx), 'device': 'here'})
  assert found['parameters'] == sum(x.size for x in jax.tree.leaves(weights.read(nafnet)[0]))
  assert found['gmacs'] is None and found['ms_256x256'] > 0
  assert benchmark._digest(str(nafnet_onnx)) == weights.digest(nafnet_onnx)


@pytest.mark.slow
@pytest.mark.parametrize('name', models.names())
def test_every_network_exports(name, tmp_path, capsys, monkeypatch):
  path, shapes = tmp_path / 'w.safetensors', export.Request.trial_shapes
  if name in GOLDENS and FIXTURES.is_dir():
    written(path, name, *golden(name))
  else:
    shipped_like(path, name)
  # Two sizes, one of them not square: each is compiled by JAX.
  monkeypatch.setattr(export.Request, 'trial_shapes', lambda self: shapes(self)[:2])
  side = zoo.load(path).needs.side
  flags = [str(path), '-o', str(tmp_path / 'w.onnx')]
  if name in NOT_AT_ALL:
    assert cli.main(['export', *flags, '--size', '64x64']) == 2
    assert capsys.readouterr().err.count('\n') == 1
    return
  if not side:
    assert cli.main(['export', *flags]) == (2 if name in FIXED_ONLY else 0)
  sizes = [f'{side}x{side}'] if side else ['64x64', '64x96'] if name in FIXED_ONLY else []
  for size in sizes:
    assert cli.main(['export', *flags, '--size', size]) == 0
  found = re.findall(r'differs from JAX by at most (\S+)', capsys.readouterr().out)
  assert len(found) == max(len(sizes), 1)
  assert all(float(difference) <= 1e-4 for difference in found)


def scaling(path, *, shape=('b', 3, 'h', 'w'), inputs=1, factor=1):
  """A model from elsewhere that halves every value, or enlarges the picture `factor` times."""
  from onnx import TensorProto, helper

  half = helper.make_tensor('half', TensorProto.FLOAT, [], [0.5])
  scales = helper.make_tensor('scales', TensorProto.FLOAT, [4], [1, 1, factor, factor])
  names = [f'x{i}' for i in range(inputs)]
  nodes = [helper.make_node('Mul', ['x0', 'half'], ['y' if factor == 1 else 'm'])]
  if factor > 1:
    nodes.append(helper.make_node('Resize', ['m', '', 'scales'], ['y']))
  graph = helper.make_graph(
    nodes,
    'graph',
    [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names],
    [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)],
    [half, scales],
  )
  opset = helper.make_opsetid('', 17)
  onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
  return path


@pytest.mark.parametrize(
  'shape', [('b', 3, 'h', 'w'), ('b', 'h', 'w', 3), (1, 3, 64, 64), (2, 40, 56, 3)]
)
def test_models_from_elsewhere_are_taken_as_they_are(tmp_path, shape):
  method = zoo.load(scaling(tmp_path / 'm.onnx', shape=shape))
  side = method.needs.side or 64
  assert side == {1: 64, 2: 40}.get(shape[0], 64)
  given = images(3, side, side)
  np.testing.assert_allclose(method.restore(given), given / 2, atol=1e-6)


def test_photographs_are_restored_by_an_onnx_file(tmp_path):
  from PIL import Image

  path = scaling(tmp_path / 'm.onnx', shape=(1, 3, 64, 64))
  picture = (images(130, 90) * 255).astype(np.uint8)
  Image.fromarray(picture).save(tmp_path / 'p.png')
  flags = ['--weights', str(path), '-o', str(tmp_path / 'out')]
  assert cli.main(['restore', str(tmp_path / 'p.png'), *flags]) == 0
  restored = np.asarray(Image.open(tmp_path / 'out/p.png'))
  assert np.abs(restored - picture / 2.0).max() <= 0.51


def test_what_cannot_be_used_is_one_line(nafnet, nafnet_onnx, tmp_path, capsys):
  two = scaling(tmp_path / 'two.onnx', inputs=2)
  large = scaling(tmp_path / 'large.onnx', factor=2)
  grey = scaling(tmp_path / 'grey.onnx', shape=(1, 1, 64, 64))
  cut = tmp_path / 'cut.onnx'
  cut.write_bytes(nafnet_onnx.read_bytes()[:1000])
  not_zip = tmp_path / 'not.stablehlo'
  not_zip.write_bytes(b'nothing')
  for path, expected in (
    (two, '2 inputs'),
    (grey, 'supported are floats'),
    (cut, 'cannot load'),
    (not_zip, 'not a StableHLO file'),
  ):
    with pytest.raises(ValueError, match=expected):
      zoo.load(path)
  with pytest.raises(ValueError, match='keeps the size'):
    zoo.load(large).restore(images(1, 64, 64))
  with pytest.raises(ValueError, match='arguments are fixed'):
    zoo.load(nafnet_onnx, settings={'tlc': 384})
  for flags, expected in (
    (['-o', str(tmp_path / 'x.pt')], 'name it .onnx'),
    (['-o', str(tmp_path / 'no/x.onnx')], 'no such folder'),
    (['-o', str(tmp_path / 'x.onnx'), '--size', '31x32'], 'takes multiples of'),
    (['-o', str(tmp_path / 'x.stablehlo'), '--layout', 'nchw'], 'for ONNX files'),
    (['-o', str(tmp_path / 'x.dtmodel'), '--opset', '18'], 'for ONNX files'),
    (['-o', str(tmp_path / 'x.dtmodel'), '--batch', 'any'], 'one image at a time'),
  ):
    assert cli.main(['export', str(nafnet), *flags]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count('\n') == 1
  with pytest.raises(SystemExit):
    cli.main(['export', str(nafnet), '-o', 'x.onnx', '--size', '0x4'])
  assert 'not a size' in capsys.readouterr().err


def test_a_file_that_differs_is_not_written(nafnet, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr('deblur_jax.export.onnx._unpacked', lambda blocks, m: jnp.flip(blocks, -1))
  path = tmp_path / 'wrong.onnx'
  assert cli.main(['export', str(nafnet), '-o', str(path)]) == 2
  assert capsys.readouterr().err.count('\n') == 1
  assert list(tmp_path.iterdir()) == []


def test_an_operation_that_cannot_be_exported_is_one_line(tmp_path):
  def apply(images):
    return jnp.fft.irfft2(jnp.fft.rfft2(images, axes=(1, 2)), axes=(1, 2))

  request = export.Request(apply, Needs(), {'network': 'fourier'}, (32, 32))
  with pytest.raises(ValueError, match='fourier cannot be exported to ONNX') as caught:
    export.onnx.write(tmp_path / 'f.onnx', request)
  assert '\n' not in str(caught.value) and not list(tmp_path.iterdir())
