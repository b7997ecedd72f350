"""MAXIM: the authors' outputs, other shapes than theirs, stages, storage as int8."""

import importlib.util
import json

import jax
import numpy as np
import pytest

from deblur_jax import convert, methods, models, weights
from deblur_jax.datasets import files
from deblur_jax.models import maxim
from deblur_jax.nn import resample, strips


def program(model):
  """(parameters, images) -> the outputs of `model`, compiled once for each shape."""
  options = {'xla_backend_optimization_level': 0}
  return jax.jit(lambda p, x: model.apply({'params': p}, x), compiler_options=options)


def run(model, params, blurred):
  return program(model)(params, blurred)


@pytest.fixture(scope='module')
def published(shared):
  """The network and the parameters that the authors have published."""
  state = convert.open_safetensors(shared('data/weights/maxim_s3_gopro.safetensors'))
  return convert.from_torch('maxim', state)


def flat_outputs(out, stages):
  """'scales' in the authors' order: stage by stage, coarse to fine."""
  count = len(out['scales']) // stages
  return [image for i in range(stages)[::-1] for image in out['scales'][i * count :][:count][::-1]]


def test_outputs_are_the_authors(shared):
  with np.load(shared('goldens/maxim.npz')) as file:
    state = {name[len('param/') :]: file[name] for name in file if name.startswith('param/')}
    expected = [file[f'output_{stage}_{scale}_nhwc'] for stage in (0, 1) for scale in (0, 1, 2)]
    blurred, config = file['input_nhwc'], json.loads(str(file['config']))
  assert convert.detect(state) == 'maxim'
  model, params = convert.from_torch('maxim', state)
  assert (model.features, model.stages) == (config['features'], config['num_stages'])
  assert model.block == tuple(config['block_size_hr'])
  found = flat_outputs(run(model, params, blurred), 2)
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4 * other.std(), rtol=0)


def test_published_weights_give_the_authors_output(published, shared):
  model, params = published
  assert convert.variant_of('maxim', model.clone(coarse_outputs=True)) == 'default'
  assert not model.coarse_outputs  # zeros in the file, which nobody should see
  with np.load(shared('goldens/maxim_real_64.npz')) as file:
    blurred, expected = file['input_nhwc'], file['output_2_2_nhwc']
  out = run(model, params, blurred)
  np.testing.assert_allclose(out['restored'], expected, atol=2e-3)
  assert len(out['scales']) == 7
  first = model.clone(stages=1)
  params = weights.shared(params, models.shapes(first))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) < 6_139_561
  alone = run(first, params, blurred)['restored']
  np.testing.assert_allclose(alone, out['stages'][0], atol=2e-5)


OTHERS = [
  {'depth': 2, 'stages': 3, 'scales': 2, 'block': (4, 4), 'grid': (2, 2), 'coarse_block': (2, 2)},
  {'depth': 2, 'stages': 1, 'scales': 1, 'groups': 2, 'block': (2, 4), 'grid': (4, 2)},
  {'depth': 3, 'stages': 2, 'scales': 3, 'reduction': 3, 'high_resolution_levels': 1},
]


@pytest.mark.parametrize('overrides', OTHERS)
def test_other_shapes_agree_with_a_pytorch_implementation(shared, overrides):
  path = shared('peers/maxim_torch.py')
  pytest.importorskip('torch')
  spec = importlib.util.spec_from_file_location('maxim_torch', path)
  peer = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(peer)
  model = models.make('maxim', 'smoke', **{'features': 6, 'reduction': 2, **overrides})
  state = authors_state(model)
  found, params = convert.from_torch(
    'maxim', state, block=model.block, grid=model.grid, coarse_block=model.coarse_block
  )
  levels = {'high_resolution_levels': model.high_resolution_levels}
  assert found.clone(**levels) == model
  net = peer.Net(
    state,
    feat=model.features,
    depth=model.depth,
    stages=model.stages,
    groups=model.groups,
    nb=model.bottlenecks,
    scales=model.scales,
    hr=model.high_resolution_levels,
    bh=model.block,
    gh=model.grid,
    bl=model.coarse_block,
    red=model.reduction,
  )
  side = model.needs.multiple
  blurred = np.random.default_rng(1).uniform(size=(2, side, 2 * side, 3)).astype(np.float32)
  expected = [image.numpy() for stage in net(blurred, all=True) for image in stage]
  result = flat_outputs(run(found, params, blurred), model.stages)
  for one, other in zip(result, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4 * other.std(), rtol=0)


def authors_state(model):
  """Random arrays under the authors' names."""
  rng, state, f = np.random.default_rng(0), {}, model.features

  def add(name, *shape, norm=False):
    scale = 0.5 / np.sqrt(np.prod(shape[:-1]))
    state[f'{name}/{"scale" if norm else "kernel"}'] = (
      norm + rng.standard_normal(shape) * (0.1 if norm else scale)
    ).astype(np.float32)
    state[f'{name}/bias'] = (0.1 * rng.standard_normal(shape[-1])).astype(np.float32)

  def dense(name, inputs, outputs):
    add(name, inputs, outputs)

  def mab(name, c, grid, block):
    add(f'{name}/LayerNorm_in', c, norm=True)
    dense(f'{name}/in_project', c, 2 * c)
    dense(f'{name}/out_project', 2 * c, c)
    for axis, size in (('Grid', grid), ('Block', block)):
      inner = f'{name}/{axis}GmlpLayer'
      add(f'{inner}/LayerNorm', c, norm=True)
      dense(f'{inner}/in_project', c, 2 * c)
      add(f'{inner}/{axis}GatingUnit/intermediate_layernorm', c, norm=True)
      dense(f'{inner}/{axis}GatingUnit/Dense_0', size, size)
      dense(f'{inner}/out_project', c, c)

  def attention(name, c):
    add(f'{name}/channel_attention/Conv_0', 1, 1, c, c // model.reduction)
    add(f'{name}/channel_attention/Conv_1', 1, 1, c // model.reduction, c)

  def cgb(name, x, c, sizes, up=0):
    if up:
      add(f'{name}/ConvTranspose_0', 2, 2, up, c)
    add(f'{name}/Conv_0', 1, 1, x, c)
    add(f'{name}/Conv_1', 1, 1, c, c)
    for side in 'xy':
      add(f'{name}/LayerNorm_{side}', c, norm=True)
      dense(f'{name}/in_project_{side}', c, c)
      dense(f'{name}/out_project_{side}', c, c)
      gate = f'{name}/SplitHeadMultiAxisGating_{side}'
      add(f'{gate}/LayerNorm_in', c, norm=True)
      dense(f'{gate}/in_project', c, 2 * c)
      dense(f'{gate}/Dense_0', sizes[0], sizes[0])
      dense(f'{gate}/Dense_1', sizes[1], sizes[1])
      dense(f'{gate}/out_project', 2 * c, c)

  def body(name, inputs, c, sizes):
    add(f'{name}/Conv_0', 1, 1, inputs, c)
    for g in range(model.groups):
      mab(f'{name}/SplitHeadMultiAxisGmlpLayer_{g}', c, *sizes)
      block = f'{name}/channel_attention_block_1{g}'
      add(f'{block}/LayerNorm', c, norm=True)
      add(f'{block}/conv1', 3, 3, c, c)
      add(f'{block}/conv2', 3, 3, c, c)
      attention(block, c)

  depth, number = model.depth, 0
  for s in range(model.stages):
    for i in range(depth):
      c, axes = f << i, model.axes(i)
      sizes = np.prod(axes.grid), np.prod(axes.block)
      before = (f << max(i - 1, 0)) + (c if i < model.scales else 0)
      body(f'stage_{s}_encoder_block_{i}', before, c, sizes)
      add(f'stage_{s}_encoder_block_{i}/Conv_1', 4, 4, c, c)
      if s:
        cgb(f'stage_{s}_encoder_block_{i}/cross_gating_block', c, c, sizes)
      up = f << min(i + 1, depth - 1)
      cgb(f'stage_{s}_cross_gating_block_{i}', depth * c, c, sizes, up=up)
      add(f'stage_{s}_decoder_block_{i}/ConvTranspose_0', 2, 2, up, c)
      body(f'stage_{s}_decoder_block_{i}/UNetEncoderBlock_0', (depth + 1) * c, c, sizes)
      if i >= model.scales:
        continue
      add(f'stage_{s}_input_conv_{i}', 3, 3, 3, c)
      if s:
        cgb(f'stage_{s}_input_fuse_sam_{i}', c, c, sizes)
      if s == model.stages - 1:
        add(f'stage_{s}_output_conv_{i}', 3, 3, c, 3)
      else:
        sam = f'stage_{s}_supervised_attention_module_{i}'
        add(f'{sam}/Conv_0', 3, 3, c, c)
        add(f'{sam}/Conv_1', 3, 3, c, 3)
        add(f'{sam}/Conv_2', 3, 3, 3, c)
    for b in range(model.bottlenecks):
      name, c, size = f'stage_{s}_global_block_{b}', f << depth - 1, np.prod(model.coarse_block)
      add(f'{name}/input_proj', 1, 1, c, c)
      for g in range(model.groups):
        mab(f'{name}/SplitHeadMultiAxisGmlpLayer_{g}', c, size, size)
        block = f'{name}/channel_attention_block_1_{g}'
        add(f'{block}/LayerNorm', c, norm=True)
        dense(f'{block}/channel_mixing/Dense_0', c, c)
        dense(f'{block}/channel_mixing/Dense_1', c, c)
        attention(block, c)
    for part in range(2):  # encoder features, then skips, which come coarsest first
      for i in reversed(range(depth)):
        for j in range(depth):
          source = j if part == 0 else depth - 1 - j
          add(f'UpSampleRatio_{number}/Conv_0', 1, 1, f << source, f << i)
          number += 1
  return state


@pytest.mark.parametrize('factor', [2, 4, 8])
def test_resizing_is_that_of_jax_image(factor):
  x = np.random.default_rng(0).standard_normal((2, 8, 16, 3)).astype(np.float32)
  enlarge, shrink = (
    jax.jit(function, static_argnums=1)
    for function in (resample.enlarge_bilinear, resample.shrink_bilinear)
  )
  for found, size in (
    (enlarge(x, factor), (8 * factor, 16 * factor)),
    (shrink(x, factor), (8 // factor, 16 // factor)),
  ):
    expected = jax.image.resize(x, (2, *size, 3), 'bilinear')
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_images_shrink_to_the_pixels_that_nearest_takes():
  image = np.random.default_rng(0).uniform(size=(1, 8, 16, 3)).astype(np.float32)
  for one, factor in zip(maxim.shrunken(image, 3), (1, 2, 4), strict=True):
    size = (1, 8 // factor, 16 // factor, 3)
    np.testing.assert_array_equal(one, jax.image.resize(image, size, 'nearest'))


def test_int8_moves_no_value_by_more_than_half_a_step(tmp_path):
  rng = np.random.default_rng(0)
  kernel = rng.standard_normal((3, 3, 100, 5)).astype(np.float32) * [1, 10, 0.1, 0, 1e-3]
  small = rng.standard_normal((3, 3, 2, 3)).astype(np.float32)
  params = {'a': {'kernel': kernel.astype(np.float32), 'bias': np.float32([0.1, 0.2])}}
  params['last'] = {'kernel': small}
  weights.write(tmp_path / 'w.safetensors', params, {'network': 'x'}, dtype='int8')
  found, manifest = weights.read(tmp_path / 'w.safetensors')
  assert manifest['network'] == 'x'
  half = np.abs(kernel).max((0, 1, 2)) / 254
  error = np.abs(found['a']['kernel'] - kernel).max((0, 1, 2))
  assert (error <= half * (1 + 1e-5)).all() and error[1] > 0.9 * half[1]
  assert found['a']['kernel'].dtype == np.float32
  np.testing.assert_array_equal(found['a']['kernel'][..., 3], 0)
  np.testing.assert_array_equal(found['a']['bias'], np.float32(np.float16([0.1, 0.2])))
  np.testing.assert_array_equal(found['last']['kernel'], small.astype(np.float16))
  size = (tmp_path / 'w.safetensors').stat().st_size
  weights.write(tmp_path / 'full.safetensors', params, {'network': 'x'})
  assert size < (tmp_path / 'full.safetensors').stat().st_size


def test_shipped_int8_restores_as_well_as_the_published_weights(published, shared):
  folder = shared('data/gopro_mini/test/GOPR0384_11_02')
  blurred, sharp = (
    files.read(folder / kind / '000698.png')[200:392, 500:692] / np.float32(255)
    for kind in ('blur', 'sharp')
  )
  model, params = published
  shipped, _ = weights.read(methods.SHIPPED / 'maxim.safetensors')
  weights.check_fit(shipped, params, what='shipped')
  model = model.clone(stages=1)
  shapes, restore = models.shapes(model), program(model)
  full, small = (weights.shared(one, shapes) for one in (params, shipped))
  # The sharp frame lies a pixel to the side (see the data's README).
  sharp = sharp[8:-8, 9:-7]
  psnrs = [
    -10 * np.log10(np.mean((restore(one, blurred[None])['restored'][0, 8:-8, 8:-8] - sharp) ** 2))
    for one in (full, small)
  ]
  assert psnrs[0] > 26
  assert psnrs[1] == pytest.approx(psnrs[0], abs=0.03)


@pytest.mark.parametrize('size', [(2, 16, 32), (1, 48, 16)])
def test_strips_change_nothing_but_memory(size, monkeypatch):
  model = maxim.Model('smoke', stages=1)
  rng = np.random.default_rng(0)
  x = rng.random((*size, 3)).astype(np.float32)
  shapes = models.shapes(model)
  params = jax.tree.map(lambda leaf: 0.2 * rng.normal(size=leaf.shape).astype('f'), shapes)
  whole = run(model, params, x)['restored']
  seen = []
  count = strips.strips

  def counted(length, size):
    seen.append(count(length, size))
    return seen[-1]

  monkeypatch.setattr(strips, 'STRIP', 256)
  monkeypatch.setattr(strips, 'strips', counted)
  np.testing.assert_allclose(run(model, params, x)['restored'], whole, atol=1e-5 * whole.std())
  assert max(seen) >= 4


@pytest.mark.parametrize(
  'length, size, expected',
  [
    (48, 768 * 1280 * 32, 8),  # along MAXIM's grid, at 1280x720
    (16, 256 * 256 * 32, 1),
    (7, 8 << 22, 7),  # no way to reach the size
    (6, (1 << 22) + 1, 2),
  ],
)
def test_strips_are_equal_and_as_few_as_their_size_allows(length, size, expected):
  assert strips.strips(length, size) == expected


def test_strips_keep_large_pictures_from_taking_all_memory(monkeypatch):
  model = maxim.Model('tiny', stages=1, depth=1, scales=1)
  x = jax.ShapeDtypeStruct((1, 256, 256, 3), np.float32)
  params = models.shapes(model)

  def bytes_for(strip):
    monkeypatch.setattr(strips, 'STRIP', strip)
    apply = jax.jit(lambda p, x: model.apply({'params': p}, x)['restored'])
    return apply.lower(params, x).compile().memory_analysis().temp_size_in_bytes

  assert bytes_for(1 << 16) < 0.8 * bytes_for(1 << 22)
