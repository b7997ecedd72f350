"""Published weights: the authors' own outputs, names read and misread, the errors."""

import json
import re
import sys

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import convert, fit, models

GOLDENS = ('srcnn', 'mprnet', 'hinet', 'nafnet')


def golden(shared, name):
  """State dict, input, outputs in the authors' order (all channels last), arguments."""
  with np.load(shared(f'goldens/{name}.npz')) as file:
    state = {k.removeprefix('param/'): file[k] for k in file.files if k.startswith('param/')}
    outputs = sum(key.startswith('output') for key in file.files)
    images = [file['input_nchw'], *(file[f'output{i}_nchw'] for i in range(outputs))]
    config = json.loads(str(file['config']))
  return state, [image.transpose(0, 2, 3, 1) for image in images], config


@pytest.mark.parametrize('name', GOLDENS)
def test_outputs_are_the_authors(name, shared):
  state, (blurred, *expected), _ = golden(shared, name)
  model, params = convert.from_torch(name, state)
  quick = {'xla_backend_optimization_level': 0}  # to compile
  apply = jax.jit(model.apply, compiler_options=quick)
  out = apply({'params': params}, blurred)
  found = out.get('stages', (out['restored'],))
  if name == 'mprnet':  # its authors return the last stage first
    found = found[::-1]
  assert len(found) == len(expected)
  for ours, theirs in zip(found, expected, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', GOLDENS)
def test_arguments_are_read_off_the_tensors(name, shared):
  state, _, config = golden(shared, name)
  model, _ = convert.from_torch(name, state)
  names = {'num_channels': 'channels', 'img_channel': 'channels'}
  for key, value in config.items():
    value = tuple(value) if isinstance(value, list) else value
    assert getattr(model, names.get(key, key)) == value


@pytest.mark.parametrize('name', GOLDENS)
def test_detect(name, shared):
  state, _, _ = golden(shared, name)
  assert convert.detect(state) == name
  assert convert.detect({'state_dict': {f'module.{k}': v for k, v in state.items()}}) == name


def test_detect_says_what_there_is():
  with pytest.raises(ValueError, match='none of hinet, mprnet, nafnet, srcnn'):
    convert.detect({'body.weight': np.zeros(3)})


@pytest.mark.parametrize('wrap', ['params', 'params_ema', 'state_dict', 'model', 'G'])
def test_containers_are_opened(wrap, shared):
  state, _, _ = golden(shared, 'srcnn')
  content = {
    'epoch': 3,
    'optimizer': {'lr': 0.1},
    wrap: {f'module.{k}': v for k, v in state.items()},
  }
  _, params = convert.from_torch('srcnn', content)
  _, expected = convert.from_torch('srcnn', state)
  jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_averaged_weights_go_before_raw_ones():
  found = convert.unwrap({'params': {'a': np.zeros(2)}, 'params_ema': {'a': np.ones(2)}})
  np.testing.assert_array_equal(found['a'], [1, 1])


def test_a_file_without_weights():
  with pytest.raises(ValueError, match='no state dict among epoch, net'):
    convert.unwrap({'epoch': 3, 'net': {'a': np.zeros(2)}})


def test_overrides_go_before_what_is_read(shared):
  state, _, _ = golden(shared, 'hinet')
  model, _ = convert.from_torch('hinet', state, relu_slope=0.1, dtype=jnp.bfloat16)
  assert (model.relu_slope, model.dtype, model.wf) == (0.1, jnp.bfloat16, 4)


def test_one_error_lists_all_that_does_not_fit(shared):
  state, _, _ = golden(shared, 'nafnet')
  del state['encoders.3.1.conv4.bias']
  state['extra.weight'] = np.zeros((4, 4, 1, 1))
  state['ending.weight'] = np.zeros((3, 8, 5, 5))
  with pytest.raises(fit.DoesNotFit) as error:
    convert.from_torch('nafnet', state)
  text = str(error.value)
  assert '1 missing, 1 extra, 1 of another shape' in text
  assert re.search(r'missing +encoders_3_1/conv4/bias \[128\]', text)
  assert re.search(r'extra +extra/kernel \[1 1 4 4\]', text)
  assert re.search(r'shape +ending/kernel is \[5 5 8 3\], expected \[3 3 8 3\]', text)


def test_weights_of_another_network(shared):
  state, _, _ = golden(shared, 'nafnet')
  with pytest.raises(fit.DoesNotFit, match=r'not the weights of hinet: no conv_01\.weight'):
    convert.from_torch('hinet', state)


def test_mprnet_slopes_must_be_one(shared):
  state, _, _ = golden(shared, 'mprnet')
  state['shallow_feat3.1.body.1.weight'] = np.asarray([0.5])
  with pytest.raises(fit.DoesNotFit, match=r'differs from another'):
    convert.from_torch('mprnet', state)


# What the authors call our modules, for networks of other shapes than the goldens have.
AUTHORS_NAMES = {
  'mprnet': [
    (r'_(\d)(?=/)', r'.\1'),
    (r'(/(?:up|down)(?:\d\d|_enc1|_dec1|_(?:enc|dec)2\.\d))(?=/kernel)', r'\1/UP.1'),
  ],
  'nafnet': [
    (r'^(encoders|decoders)_(\d+)_(\d+)', r'\1.\2.\3'),
    (r'^(middle_blks|downs)_(\d+)', r'\1.\2'),
    (r'^ups_(\d+)', r'ups.\1.0'),
    (r'/sca/', '/sca.1/'),
  ],
  'hinet': [(r'^(down_path|up_path|skip_conv)_(\d)_(\d)', r'\1_\2.\3')],
  'srcnn': [],
}


def authors_state(name, model):
  """A state dict of zeros, named and laid out as the authors have it."""
  side = 2 * model.needs.multiple
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, side, side, model.channels)))
  state = {}
  for path, leaf in traverse_util.flatten_dict(shapes['params'], sep='/').items():
    for pattern, replacement in AUTHORS_NAMES[name]:
      path = re.sub(pattern, replacement, path)
    path = re.sub(r'(up|down)([^/]*)/UP', r'\1\2/\1', path)
    path = path.replace('/kernel', '/weight').replace('/scale', '/weight').replace('/', '.')
    shape = leaf.shape
    if path.endswith(('beta', 'gamma')):
      shape = (1, *shape, 1, 1)
    elif len(shape) == 4:
      transposed = name == 'hinet' and path.endswith('.up.weight')
      shape = [shape[i] for i in ((2, 3, 0, 1) if transposed else (3, 2, 0, 1))]
    state[path] = np.zeros(shape, np.float32)
  if name == 'mprnet':
    del state['act.negative_slope']
    for cab in [path for path in state if path.endswith('.CA.conv_du.0.weight')]:
      state[cab.replace('CA.conv_du.0', 'body.1')] = np.full(1, 0.25, np.float32)
  return state


@pytest.mark.parametrize(
  'name,variant,overrides',
  [
    ('mprnet', 'smoke', {}),  # one CAB a block, where names could be mistaken
    ('mprnet', 'default', {}),
    ('mprnet', 'tiny', {'reduction': 8, 'num_cab': 3}),
    ('hinet', 'default', {}),
    ('hinet', 'smoke', {'hin_position_left': 0, 'hin_position_right': 0}),
    ('nafnet', 'w64', {}),
    ('nafnet', 'tiny', {}),
    ('srcnn', '9-5-5-y', {}),
    ('srcnn', 'default', {'features': (16, 8)}),
  ],
)
def test_every_variant_is_recognized(name, variant, overrides):
  made = models.make(name, variant, **overrides)
  state = authors_state(name, made)
  assert convert.detect(state) == name
  model, _ = convert.from_torch(name, state)
  assert model == made


def test_published_mprnet_has_as_many_tensors():
  state = authors_state('mprnet', models.make('mprnet'))
  assert len(state) == 316
  assert sum(value.size for value in state.values()) == 20_127_127


def test_torch_is_named_where_it_is_missing(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ImportError, match=r"pip install 'deblur-jax\[convert\]'"):
    convert.open_torch(tmp_path / 'weights.pth')


def test_torch_files(tmp_path):
  torch = pytest.importorskip('torch')
  path = tmp_path / 'weights.pth'
  weights = {'module.conv1.weight': torch.ones(2, 3, dtype=torch.bfloat16)}
  torch.save({'epoch': 3, 'state_dict': weights}, path)
  found = convert.open_torch(path)
  np.testing.assert_array_equal(found['conv1.weight'], np.ones((2, 3), np.float32))
  torch.save({'state_dict': weights, 'trap': print}, path)
  with pytest.raises(ValueError, match='not a torch file of plain weights'):
    convert.open_torch(path)
  with pytest.raises(FileNotFoundError):
    convert.open_torch(tmp_path / 'absent.pth')


def test_transposed_convolution_is_torchs():
  torch = pytest.importorskip('torch')
  from deblur_jax.nn.conv import conv_transpose

  rng = np.random.default_rng(0)
  x, weight = rng.standard_normal((1, 3, 5, 4)), rng.standard_normal((3, 2, 4, 4))
  expected = torch.nn.functional.conv_transpose2d(
    torch.tensor(x), torch.tensor(weight), stride=2, padding=1
  )
  kernel = weight.transpose(2, 3, 0, 1)[::-1, ::-1].astype(np.float32)
  found = conv_transpose(x.transpose(0, 2, 3, 1).astype(np.float32), kernel, stride=2, padding=1)
  np.testing.assert_allclose(found, expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)


def test_fit_accepts_what_fits():
  shapes = {'a': {'b': jax.ShapeDtypeStruct((2, 3), jnp.float32)}, 'c': np.zeros(())}
  fit.check({'a': {'b': np.zeros((2, 3))}, 'c': jnp.zeros(())}, shapes, what='weights')


def test_fit_lists_what_does_not():
  expected = {'a': {'kernel': np.zeros((2, 3)), 'bias': np.zeros(3)}, 'c': {'kernel': np.zeros(4)}}
  found = {'a': {'kernel': np.zeros((3, 2))}, 'd': np.zeros(())}
  with pytest.raises(fit.DoesNotFit) as error:
    fit.check(found, expected, what='weights.safetensors for mprnet')
  head, *rest = str(error.value).splitlines()
  assert head.startswith('weights.safetensors for mprnet: 2 missing, 1 extra, 1 of another shape')
  assert [line.split() for line in rest] == [
    ['missing', 'a/bias', '[3]'],
    ['missing', 'c/kernel', '[4]'],
    ['extra', 'd', '[]'],
    ['shape', 'a/kernel', 'is', '[3', '2],', 'expected', '[2', '3]'],
  ]
