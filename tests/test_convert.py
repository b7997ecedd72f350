"""Published weights: the authors' own outputs, names read and misread, the errors."""

import hashlib
import json
import re
import sys

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import cli, convert, models, weights, zoo
from deblur_jax.convert import deblurgan, open
from deblur_jax.nn.patchgan import PatchGAN

GOLDENS = ('srcnn', 'mprnet', 'hinet', 'nafnet', 'deblurgan', 'deepdeblur', 'dbgan')
GOLDENS += ('restormer', 'swinir')
FILES = {'deblurgan': 'deblurgan_generator', 'dbgan': 'dbgan_generator'}
RANGES = {'deblurgan': (-1, 1), 'deepdeblur': (0, 255)}
TOLERANCES = {'deepdeblur': 1e-3}
OVERRIDES = {'deepdeblur': {'downscale': 'mean'}}  # as the golden was made
# Arguments of the authors that have one value here; DBGAN's pass gc on nowhere.
FIXED = {'rgb_range', 'gc', 'bias', 'LayerNorm_type'}
FIXED |= {'img_size', 'upscale', 'upsampler', 'resi_connection'}


def golden(shared, name):
  """State dict, input, outputs in the authors' order (all channels last), arguments."""
  with np.load(shared(f'goldens/{FILES.get(name, name)}.npz')) as file:
    state = {k.removeprefix('param/'): file[k] for k in file.files if k.startswith('param/')}
    outputs = sum(key.startswith('output') for key in file.files)
    images = [file['input_nchw'], *(file[f'output{i}_nchw'] for i in range(outputs))]
    config = json.loads(str(file['config']))
  return state, [image.transpose(0, 2, 3, 1) for image in images], config


@pytest.mark.parametrize('name', GOLDENS)
def test_outputs_are_the_authors(name, shared):
  state, (blurred, *expected), _ = golden(shared, name)
  model, params = convert.from_torch(name, state, **OVERRIDES.get(name, {}))
  quick = {'xla_backend_optimization_level': 0}  # to compile
  apply = jax.jit(model.apply, compiler_options=quick)
  low, high = RANGES.get(name, (0, 1))
  out = apply({'params': params}, (blurred - low) / (high - low))
  found = out.get('stages', out.get('scales', (out['restored'],)))
  if name == 'mprnet':  # its authors return the last stage first
    found = found[::-1]
  assert len(found) == len(expected)
  for ours, theirs in zip(found, expected, strict=True):
    ours = low + (high - low) * ours
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCES.get(name, 1e-5))


def test_patchgan_is_the_authors(shared):
  state, (image, expected), config = golden(shared, 'patchgan_discriminator')
  params = deblurgan.discriminator(state)
  found = PatchGAN(**config).apply({'params': params}, (image + 1) / 2)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', GOLDENS)
def test_arguments_are_read_off_the_tensors(name, shared):
  state, _, config = golden(shared, name)
  model, _ = convert.from_torch(name, state)
  names = dict.fromkeys(('num_channels', 'img_channel', 'in_chans'), 'channels')
  for key, value in config.items():
    value = tuple(value) if isinstance(value, list) else value
    if key not in FIXED:
      assert getattr(model, names.get(key, key)) == value


def test_srn_from_the_variables_of_a_training_run(shared):
  with np.load(shared('goldens/srn_lstm.npz')) as file:
    state = {k.removeprefix('param/'): file[k] for k in file.files if k.startswith('param/')}
    blurred, *expected = (file[key] for key in ('input_nhwc', *(f'output{i}_nhwc' for i in '012')))
  state |= {'Variable': np.int32(7), 'g_net/enc1_1/weights/Adam_1': np.zeros((5, 5, 2, 32))}
  assert convert.detect(state) == 'srn'
  model, params = convert.from_torch('srn', state)
  assert model == models.make('srn', 'lstm')
  apply = jax.jit(model.apply, compiler_options={'xla_backend_optimization_level': 0})
  found = apply({'params': params}, blurred)['scales']
  for ours, theirs in zip(found, reversed(expected), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def srn_state(made):
  """Variables of zeros, named and laid out as the authors have them."""
  state = {}
  shapes = models.shapes(made, made.channels)
  for path, leaf in traverse_util.flatten_dict(shapes, sep='/').items():
    *lead, i, o = leaf.shape if len(leaf.shape) == 4 else (0, *leaf.shape)
    transposed = re.fullmatch(r'g_net/dec\d_[1-9]/kernel', path)
    shape = (*lead, o, i) if transposed else leaf.shape
    state[path.replace('kernel', 'weights').replace('bias', 'biases')] = np.zeros(shape)
  return state


@pytest.mark.parametrize('variant', ['default', 'gray', 'lstm', 'smoke'])
def test_every_srn_is_recognized(variant):
  made = models.make('srn', variant)
  state = srn_state(made)
  assert len(state) == (86 if variant == 'lstm' else 84) or variant == 'smoke'
  model, _ = convert.from_torch('srn', state)
  assert model == made


@pytest.mark.parametrize('name', GOLDENS)
def test_detect(name, shared):
  state, _, _ = golden(shared, name)
  assert convert.detect(state) == name
  assert convert.detect({'state_dict': {f'module.{k}': v for k, v in state.items()}}) == name


def test_detect_says_what_there_is():
  with pytest.raises(ValueError, match=r'none of .*hinet, maxim, mprnet, nafnet, .*srcnn'):
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


@pytest.mark.parametrize(
  'raw, averaged',
  [
    ('params', 'params_ema'),  # BasicSR
    ('state_dict', 'state_dict_ema'),  # timm
    ('state_dict', 'ema_state_dict'),
    ('model', 'model_ema'),  # torchvision's references
    ('model', 'ema'),  # YOLO and others
    ('model_state_dict', 'ema_model_state_dict'),
    ('model', 'ema_model'),
    ('model', 'averaged_model'),
    ('net', 'swa_net'),
    ('generator', 'g_ema'),
    ('g', 'g_ema'),  # StyleGAN in PyTorch
    ('G', 'G_ema'),
    ('netG', 'netG_ema'),
    ('netG', 'emaNetG'),
    ('net_g', 'net_g_ema'),  # BasicSR's networks in one file
    ('params', 'avg_params'),
  ],
)
def test_averaged_weights_go_before_raw_ones(raw, averaged):
  zeros, ones = ({f'conv{i}.weight': np.full((2, 1, 1, 1), value) for i in (1, 2, 3)}
                 for value in (0, 1))  # fmt: skip
  adversary = {name: {'conv1.weight': np.full((2, 1, 1, 1), 7)} for name in ('d', 'netD', 'd_ema')}
  optimizer = {
    'optimizer': {'state': {0: {'exp_avg': np.full(2, 5)}}},
    'opt_ema': {'a': np.ones(2)},
  }
  for content in ({raw: zeros, averaged: ones}, {averaged: ones, raw: zeros}):
    for nested in (
      content,
      {'state_dict': content},
      {'epoch': 3, **content, **optimizer},
      (content, 3),
    ):
      np.testing.assert_array_equal(convert.unwrap(nested)['conv1.weight'], ones['conv1.weight'])
    both = {'epoch': 3, **adversary, **content, **optimizer}
    np.testing.assert_array_equal(convert.unwrap(both)['conv1.weight'], ones['conv1.weight'])
    # As prefixes of one state dict, as Lightning has them.
    flat = {f'{part}.{name}': value for part, one in content.items() for name, value in one.items()}
    flat |= {'discriminator.conv1.weight': np.full(2, 7), 'loss.vgg.0.weight': np.full(2, 9)}
    state = open.stripped(convert.unwrap({'state_dict': flat}), [list(zeros)])
    assert state.keys() == ones.keys()
    np.testing.assert_array_equal(state['conv1.weight'], ones['conv1.weight'])


PREFIXES = ('module.', 'model.', '_orig_mod.', 'net_g.', 'netG.', 'generator.', 'model.module.')
PREFIXES += ('module._orig_mod.', '_orig_mod.module.', 'network.net.', 'ema_model.module.')


@pytest.mark.parametrize('name', ['srcnn', 'deblurgan', 'dbgan', 'nafnet'])
@pytest.mark.parametrize('prefix', PREFIXES)
def test_prefixes_of_wrappers_are_understood(prefix, name, shared):
  state, _, _ = golden(shared, name)
  wrapped = {f'{prefix}{key}': value for key, value in state.items()}
  wrapped |= {'n_averaged': np.ones(()), f'{prefix}total_ops': np.ones(1)}
  assert convert.detect({'state_dict': wrapped}) == name
  _, params = convert.from_torch(name, {'state_dict': wrapped})
  _, expected = convert.from_torch(name, state)
  jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_one_of_several_state_dicts_is_chosen():
  first, second = ({'a': np.full(2, value)} for value in (1, 2))
  content = {'first': first, 'second': {'state_dict': second}, 'epoch': 3}
  with pytest.raises(ValueError, match=r'several state dicts: first, second\.state_dict; .*--key'):
    convert.unwrap(content)
  np.testing.assert_array_equal(convert.unwrap(content, 'first')['a'], first['a'])
  for key in ('second', 'second.state_dict'):
    np.testing.assert_array_equal(convert.unwrap(content, key)['a'], second['a'])
  flat = {'state_dict': {'one.a': first['a'], 'two.a': second['a']}}
  np.testing.assert_array_equal(convert.unwrap(flat, 'state_dict.two')['a'], second['a'])
  with pytest.raises(ValueError, match="no 'third' among first, second, epoch"):
    convert.unwrap(content, 'third')
  # Chosen by name, a discriminator is one too.
  assert convert.unwrap({'netG': first, 'netD': second}, 'netD')['a'][0] == 2
  assert convert.unwrap({'netG': first, 'netD': second})['a'][0] == 1


@pytest.mark.parametrize(
  'content, told',
  [
    ((1, 2, 3), 'no state dict in a tuple'),
    ([1, 2, 3], 'no state dict in a list'),
    (np.zeros((3, 3)), 'no state dict in a ndarray'),
    ({}, 'no state dict in an empty dict'),
    ({'epoch': 3, 'loss': np.float32(1)}, 'no state dict among epoch, loss'),
  ],
)
def test_what_is_no_state_dict_is_refused_in_a_line(content, told):
  with pytest.raises(ValueError) as error:
    convert.unwrap(content)
  assert str(error.value) == told


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value, shared):
  state, _, _ = golden(shared, 'srcnn')
  state['conv2.weight'][0, 0, 0, 0] = value
  with pytest.raises(ValueError, match=r'NaN or infinity in 1 of 6 tensors \(conv2\.weight\)'):
    convert.from_torch('srcnn', state)


@pytest.mark.parametrize('case', ['21_torch_file_not_a_dict', '22_torch_file_cut_short'])
def test_the_cases_of_wrong_torch_files(case, shared, tmp_path, capsys):
  pytest.importorskip('torch')
  # A tuple of a state dict and the rest is understood: there is one state dict in it.
  files = sorted(one for one in shared(f'cases/{case}').glob('*.pth') if one.stem != 'tuple')
  for file in files:
    assert cli.main(['convert', str(file), str(tmp_path / 'out.safetensors')]) == 2
    told = capsys.readouterr().err
    assert told.count('\n') == 1 and str(file) in told and 'Traceback' not in told
    assert ('truncated' if '22' in case else 'no state dict in a') in told


def test_the_cases_of_wrapped_and_averaged_weights(shared, tmp_path, capsys):
  torch = pytest.importorskip('torch')
  files = [shared('cases/21_torch_file_not_a_dict') / 'tuple.pth']
  files += sorted(shared('cases/28_checkpoint_prefix').glob('*.pth'))
  files += [shared('cases/23_ema_beside_raw') / 'state_dict_ema.pth']
  for file in files:
    assert cli.main(['convert', str(file), str(tmp_path / 'out.safetensors')]) == 0, file
    assert capsys.readouterr().out.startswith('nafnet')
  averaged = torch.load(files[-1], weights_only=True)['state_dict_ema']['intro.weight'].numpy()
  found = weights.read(tmp_path / 'out.safetensors')[0]['intro']['kernel']
  np.testing.assert_array_equal(found, averaged.transpose(2, 3, 1, 0))


def test_a_file_without_weights():
  with pytest.raises(ValueError, match='no state dict among epoch, net'):
    convert.unwrap({'epoch': 3, 'net': {'a': 2}})


def test_overrides_go_before_what_is_read(shared):
  state, _, _ = golden(shared, 'hinet')
  model, _ = convert.from_torch('hinet', state, relu_slope=0.1, dtype=jnp.bfloat16)
  assert (model.relu_slope, model.dtype, model.wf) == (0.1, jnp.bfloat16, 4)


def test_one_error_lists_all_that_does_not_fit(shared):
  state, _, _ = golden(shared, 'nafnet')
  del state['encoders.3.1.conv4.bias']
  state['extra.weight'] = np.zeros((4, 4, 1, 1))
  state['ending.weight'] = np.zeros((3, 8, 5, 5))
  with pytest.raises(weights.DoesNotFit) as error:
    convert.from_torch('nafnet', state)
  text = str(error.value)
  assert '1 missing, 1 extra, 1 of another shape' in text
  assert re.search(r'missing +encoders\.3\.1\.conv4\.bias \[128\]', text)
  assert re.search(r'extra +extra\.weight \[4 4 1 1\]', text)
  assert re.search(r'shape +ending\.weight is \[3 8 5 5\], expected \[3 8 3 3\]', text)


def test_weights_of_another_network(shared):
  state, _, _ = golden(shared, 'nafnet')
  with pytest.raises(weights.DoesNotFit, match=r'not the weights of hinet: no conv_01\.weight'):
    convert.from_torch('hinet', state)


def test_mprnet_slopes_must_be_one(shared):
  state, _, _ = golden(shared, 'mprnet')
  state['shallow_feat3.1.body.1.weight'] = np.asarray([0.5])
  with pytest.raises(weights.DoesNotFit, match=r'differs from another'):
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
  'deblurgan': [(r'_(\d+)(?=/)', r'.\1')],
  'deepdeblur': [(r'_(\d+)(?=/)', r'.\1')],
  'dbgan': [
    (r'^(sub\d)', r'model.1.\1'),
    (r'_(\d+)(?=/)', r'.\1'),
    (r'(conv\d|sub2)(?=/)', r'\1.0'),
  ],
  'dmphn': [(r'_(\d)(?=/)', r'.\1')],
  'restormer': [
    (r'^patch_embed/', 'patch_embed.proj/'),
    (r'^((?:up|down)\d_\d)/', r'\1.body.0/'),
    (r'^(.*)_(\d+)/(attn|ffn|norm\d)', r'\1.\2.\3'),
    (r'(norm\d)', r'\1.body'),
  ],
  'swinir': [
    (r'^patch_embed/', 'patch_embed.norm/'),
    (r'^layers_(\d+)_conv', r'layers.\1.conv'),
    (r'^layers_(\d+)_blocks_(\d+)', r'layers.\1.residual_group.blocks.\2'),
  ],
}


def authors_state(name, model):
  """A state dict of zeros, named and laid out as the authors have it."""
  state = {}
  shapes = models.shapes(model, model.channels)
  for path, leaf in traverse_util.flatten_dict(shapes, sep='/').items():
    for pattern, replacement in AUTHORS_NAMES[name]:
      path = re.sub(pattern, replacement, path)
    path = re.sub(r'(up|down)([^/]*)/UP', r'\1\2/\1', path)
    path = path.replace('/kernel', '/weight').replace('/scale', '/weight').replace('/', '.')
    shape = leaf.shape
    if path.endswith(('beta', 'gamma')):
      shape = (1, *shape, 1, 1)
    elif len(shape) == 4:
      transposed = name == 'hinet' and path.endswith('.up.weight')
      if name == 'deblurgan':
        after = 10 + model.n_blocks
        transposed = path in (f'model.{after}.weight', f'model.{after + 3}.weight')
      if name == 'dmphn':
        transposed = path.endswith(('.layer16.weight', '.layer20.weight'))
      shape = [shape[i] for i in ((2, 3, 0, 1) if transposed else (3, 2, 0, 1))]
    elif len(shape) == 2 and path.endswith('.weight'):
      shape = shape[::-1]
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
    ('hinet', 'three_stage', {}),
    ('restormer', 'default', {}),
    ('restormer', 'smoke', {'heads': (2, 1, 4), 'ffn_expansion_factor': 3.5}),
    ('swinir', 'default', {}),
    ('swinir', 'smoke', {'window_size': 7, 'depths': (3, 1), 'num_heads': (1, 4), 'channels': 1}),
    ('nafnet', 'w64', {}),
    ('nafnet', 'tiny', {}),
    ('deblurgan', 'default', {}),
    ('deblurgan', 'smoke', {'n_blocks': 6}),
    ('dbgan', 'default', {}),
    ('dbgan', 'smoke', {'nb': 11}),
    ('dmphn', 'default', {}),
    ('dmphn', '1-2-4', {}),
    ('dmphn', 'smoke', {'levels': 1}),
    ('deepdeblur', 'default', {}),
    ('deepdeblur', 'smoke', {'kernel_size': 3, 'n_scales': 2}),
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


@pytest.mark.parametrize(
  'name,count', [('hinet', 186), ('nafnet', 664), ('restormer', 494), ('swinir', 490)]
)
def test_published_weights_have_as_many_tensors(name, count):
  assert len(authors_state(name, models.make(name))) == count


def test_published_dbgan_has_as_many_tensors():
  assert len(authors_state('dbgan', models.make('dbgan'))) == 488


def test_published_mprnet_has_as_many_tensors():
  state = authors_state('mprnet', models.make('mprnet'))
  assert len(state) == 316
  assert sum(value.size for value in state.values()) == 20_127_127


def test_deblurgan_of_torch_0_3_and_without_dropout():
  made = models.make('deblurgan', 'smoke')
  state = authors_state('deblurgan', made)
  _, expected = convert.from_torch('deblurgan', state)
  old = {
    **state,
    'model.2.running_mean': np.zeros(4),
    'model.10.conv_block.7.running_var': np.ones(4),
  }
  model, params = convert.from_torch('deblurgan', old)
  assert model == made
  jax.tree.map(np.testing.assert_array_equal, params, expected)
  # Without dropout between them, the second convolution of a block comes one layer earlier.
  without = {key.replace('conv_block.6', 'conv_block.5'): value for key, value in state.items()}
  model, params = convert.from_torch('deblurgan', without)
  assert model == models.make('deblurgan', 'smoke', dropout=0.0)
  jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.parametrize(
  'name,torn,told',
  [
    ('srcnn', {'conv1.weight': (9,)}, 'shape    conv1.weight is [9], expected [64 3 9 9]'),
    ('srcnn', {'conv2.weight': None}, 'missing  conv2.weight [32 64 1 1]'),
    ('nafnet', {'intro.weight': None}, 'missing  intro.weight'),
    ('nafnet', {'intro.weight': (8,)}, 'shape    intro.weight is [8]'),
    (
      'swinir',
      {'layers.0.residual_group.blocks.0.mlp.fc1.weight': None},
      'missing  layers.0.residual_group.blocks.0.mlp.fc1.weight',
    ),
    (
      'restormer',
      {'encoder_level2.0.ffn.project_out.weight': None},
      'missing  encoder_level2.0.ffn.project_out.weight',
    ),
    ('restormer', {'patch_embed.proj.weight': (3, 4)}, 'shape    patch_embed.proj.weight is [3 4]'),
  ],
)
def test_what_is_torn_is_named(name, torn, told, shared):
  state, _, _ = golden(shared, name)
  for key, shape in torn.items():
    state[key] = np.zeros(shape or (), np.float32)
    if shape is None:
      del state[key]
  with pytest.raises(weights.DoesNotFit) as error:
    convert.from_torch(name, state)
  assert told in str(error.value)


def test_a_level_without_blocks_is_reported(shared):
  state, _, _ = golden(shared, 'nafnet')
  state = {key: value for key, value in state.items() if not key.startswith('decoders.1.')}
  with pytest.raises(
    weights.DoesNotFit, match=r'missing  decoders\.1\.0\.sca\.1\.weight \[32 32 1 1\]'
  ):
    convert.from_torch('nafnet', state)


def test_wrong_overrides_are_reported(shared):
  state, _, _ = golden(shared, 'hinet')
  with pytest.raises(ValueError, match='hinet has no argument wide'):
    convert.from_torch('hinet', state, wide=3)
  with pytest.raises(ValueError, match=r"hinet cannot be built with \{'relu_slope': 'abc'\}"):
    convert.from_torch(
      'hinet', authors_state('hinet', models.make('hinet', 'smoke')), relu_slope='abc'
    )


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
  with pytest.raises(ValueError, match='contains Python objects other than weights'):
    convert.open_torch(path)
  with pytest.raises(FileNotFoundError):
    convert.open_torch(tmp_path / 'absent.pth')


def test_tensorflow_is_named_where_it_is_missing(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow', None)
  with pytest.raises(ImportError, match=r'opening deblur.model-7 requires TensorFlow: pip install'):
    convert.open_tensorflow('deblur.model-7')


def test_tensorflow_checkpoints(tmp_path):
  tensorflow = pytest.importorskip('tensorflow').compat.v1
  path = tmp_path / 'deblur.model-7'
  with tensorflow.Graph().as_default(), tensorflow.Session() as session:
    tensorflow.get_variable('g_net/enc1_1/biases', initializer=np.ones(3, np.float32))
    step = tensorflow.Variable(7, dtype=tensorflow.int32)
    session.run(tensorflow.global_variables_initializer())
    tensorflow.train.Saver().save(session, str(tmp_path / 'deblur.model'), global_step=step)
  for name in (path, f'{path}.index'):
    found = convert.open_tensorflow(name)
    assert found.keys() == {'g_net/enc1_1/biases'}
    np.testing.assert_array_equal(found['g_net/enc1_1/biases'], np.ones(3))
  with pytest.raises(ValueError, match='absent is not a TensorFlow checkpoint'):
    convert.open_tensorflow(tmp_path / 'absent')


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
  weights.check_fit({'a': {'b': np.zeros((2, 3))}, 'c': jnp.zeros(())}, shapes, what='weights')


def test_fit_lists_what_does_not():
  expected = {'a': {'kernel': np.zeros((2, 3)), 'bias': np.zeros(3)}, 'c': {'kernel': np.zeros(4)}}
  found = {'a': {'kernel': np.zeros((3, 2))}, 'd': np.zeros(())}
  with pytest.raises(weights.DoesNotFit) as error:
    weights.check_fit(found, expected, what='weights.safetensors for mprnet')
  head, *rest = str(error.value).splitlines()
  assert head.startswith('weights.safetensors for mprnet: 2 missing, 1 extra, 1 of another shape')
  assert [line.split() for line in rest] == [
    ['missing', 'a/bias', '[3]'],
    ['missing', 'c/kernel', '[4]'],
    ['extra', 'd', '[]'],
    ['shape', 'a/kernel', 'is', '[3', '2],', 'expected', '[2', '3]'],
  ]


def test_the_command_writes_weights_that_load(shared, tmp_path, capsys, monkeypatch):
  state, (blurred, *_, expected), _ = golden(shared, 'hinet')
  files = {tmp_path / 'net.pth': state}
  monkeypatch.setattr(convert, 'open_torch', lambda path: files[path])
  (tmp_path / 'net.pth').write_bytes(b'as torch would have it')
  out = tmp_path / 'hinet.safetensors'
  assert cli.main(['convert', str(tmp_path / 'net.pth'), str(out)]) == 0
  told = capsys.readouterr().out
  assert 'hinet of no known variant: wf 4, depth 5' in told
  assert "license: unknown (hinet's authors state MIT for their own weights" in told
  manifest = weights.read(out)[1]
  digest = hashlib.sha256(b'as torch would have it').hexdigest()
  assert (manifest['license'], manifest['source']) == ('unknown', {'net.pth': digest})
  np.testing.assert_allclose(zoo.load(out).restore(jnp.asarray(blurred)), expected, atol=1e-5)

  options = [
    '--set',
    'relu_slope=0.1',
    '--set',
    'dtype=bfloat16',
    '--license',
    'mine',
    '--dtype',
    'float16',
  ]
  assert cli.main(['convert', str(tmp_path / 'net.pth'), str(out), *options]) == 0
  manifest = weights.read(out)[1]
  assert (manifest['license'], manifest['arguments']['relu_slope']) == ('mine', 0.1)
  assert manifest['arguments']['dtype'] == 'bfloat16'

  del state['last.bias'], state['sam12.conv3.bias']
  assert cli.main(['convert', str(tmp_path / 'net.pth'), str(tmp_path / 'no.safetensors')]) == 2
  told = capsys.readouterr().err
  assert 'missing  last.bias' in told and 'missing  sam12.conv3.bias' in told
  assert not (tmp_path / 'no.safetensors').exists()


def test_the_authors_license_is_for_files_that_are_recognized(shared):
  published = shared('data/weights/maxim_s3_gopro.safetensors').read_bytes()
  digest = hashlib.sha256(published).hexdigest()
  assert convert.license_of_files('maxim', [digest]) == 'Apache-2.0'
  assert convert.license_of_files('maxim', [digest, '0' * 64]) == 'unknown'
  assert convert.license_of_files('nafnet', [digest]) == 'unknown'
  assert convert.license_of_files('vgg19', ['dcbb9e9d' + '0' * 56]) == 'CC BY 4.0'


def test_parts_are_joined_by_their_files_names(tmp_path, monkeypatch):
  model = models.make('dmphn', 'smoke')
  state = authors_state('dmphn', model)
  parts = {}
  for name, value in state.items():
    stem, _, rest = name.partition('.')
    parts.setdefault(stem, {})[rest] = value
  for stem in parts:
    (tmp_path / f'{stem}.pkl').touch()
  monkeypatch.setattr(convert, 'open_torch', lambda path: parts[path.stem])
  files = [str(tmp_path / f'{stem}.pkl') for stem in parts]
  out = tmp_path / 'dmphn.safetensors'
  assert cli.main(['convert', *files, str(out)]) == 0
  assert models.make('dmphn', **weights.read(out)[1]['arguments']) == model


def test_a_tensorflow_checkpoint_goes_by_any_of_its_names(tmp_path, monkeypatch):
  model = models.make('srn', 'smoke')
  monkeypatch.setattr(convert, 'open_tensorflow', lambda path: srn_state(model))
  files = [tmp_path / f'deblur.model-7.{end}' for end in ('index', 'data-00000-of-00001')]
  for file in files:
    file.write_text(file.name)
  for given in (tmp_path / 'deblur.model-7', *files):
    out = tmp_path / 'srn.safetensors'
    assert cli.main(['convert', str(given), str(out)]) == 0
    source = weights.read(out)[1]['source']
    assert source == {one.name: hashlib.sha256(one.name.encode()).hexdigest() for one in files}


def test_vgg_is_converted_by_name(tmp_path, capsys):
  rng = np.random.default_rng(0)
  kernel = rng.standard_normal((64, 3, 3, 3)).astype(np.float32)
  state = {'features.0.weight': kernel, 'features.0.bias': np.zeros(64, np.float32)}
  np.savez(tmp_path / 'vgg.npz', **state, **{'classifier.0.bias': np.ones(3)})
  files = str(tmp_path / 'vgg.npz'), str(tmp_path / 'vgg.safetensors')
  assert cli.main(['convert', *files, '--network', 'vgg19']) == 0
  params, manifest = weights.read(files[1])
  np.testing.assert_array_equal(params['conv1_1']['kernel'], kernel.transpose(2, 3, 1, 0))
  assert (manifest['network'], manifest['license']) == ('vgg19', 'unknown')
  (tmp_path / 'vgg.npz').write_bytes(b'PK, but no more')
  assert cli.main(['convert', *files, '--network', 'vgg19']) == 2
  assert 'is not a .npz file of arrays' in capsys.readouterr().err


def test_keras_files(tmp_path):
  h5py = pytest.importorskip('h5py')
  with h5py.File(tmp_path / 'a.h5', 'w') as file:
    file['block1_conv1/block1_conv1/kernel:0'] = np.ones((3, 3, 3, 64))
  (name,) = convert.open_keras(tmp_path / 'a.h5')
  assert name == 'block1_conv1/block1_conv1/kernel:0'
  (tmp_path / 'b.h5').write_text('no')
  with pytest.raises(ValueError, match='is not an HDF5 file'):
    convert.open_keras(tmp_path / 'b.h5')


@pytest.mark.parametrize(
  'arguments,told',
  [
    (['net.pth', 'net.bin'], 'that of the file to write, NAME.safetensors'),
    (['none.pth', 'net.safetensors'], 'none.pth: no such file'),
    (['net.pth', 'no/net.safetensors'], 'no: no such folder to write to'),
    (['net.pth', 'net.safetensors', '--set', 'wf'], 'expected ARGUMENT=VALUE'),
    (['net.pth', 'net.safetensors'], 'requires torch'),
  ],
)
def test_wrong_conversions_get_one_line(arguments, told, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setitem(sys.modules, 'torch', None)
  (tmp_path / 'net.pth').touch()
  if '--set' in arguments:
    monkeypatch.setattr(convert, 'open_torch', lambda path: {'conv1.weight': np.zeros(3)})
    monkeypatch.setattr(convert, 'detect', lambda state: 'srcnn')
  assert cli.main(['convert', *arguments]) == 2
  error = capsys.readouterr().err
  assert told in error and error.count('\n') == 1
