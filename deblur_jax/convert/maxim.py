"""MAXIM from github.com/google-research/maxim, whose weights are Flax arrays."""

import math
import re

import numpy as np

LICENSE = 'Apache-2.0'
SIGNATURE = ('stage_0_input_conv_0/kernel', 'UpSampleRatio_0/Conv_0/kernel')
IGNORED = r'opt/state/.*|step'

RULES = (
  (r'^stage_(\d+)_', lambda match: f'stage{int(match[1]) + 1}_'),
  (r'(input|output)_conv_', r'\1'),
  (r'input_fuse_sam_', 'fuse_sam'),
  (r'encoder_block_(\d+)/Conv_1', r'down\1'),
  (r'encoder_block_(\d+)/cross_gating_block', r'cross_stage\1'),
  (r'encoder_block_(\d+)/Conv_0', r'encoder\1/merge'),
  (r'encoder_block_', 'encoder'),
  (r'global_block_(\d+)/input_proj', r'bottleneck\1/in_project'),
  (r'global_block_', 'bottleneck'),
  (r'cross_gating_block_(\d+)/ConvTranspose_0', r'gate_up\1'),
  (r'cross_gating_block_', 'cross_gating'),
  (r'decoder_block_(\d+)/ConvTranspose_0', r'up\1'),
  (r'decoder_block_(\d+)/UNetEncoderBlock_0/Conv_0', r'decoder\1/merge'),
  (r'decoder_block_(\d+)/UNetEncoderBlock_0', r'decoder\1'),
  (r'supervised_attention_module_(\d+)/Conv_0', r'sam\1/features'),
  (r'supervised_attention_module_(\d+)/Conv_1', r'output\1'),
  (r'supervised_attention_module_(\d+)/Conv_2', r'sam\1/weight'),
  # Within blocks.
  (r'SplitHeadMultiAxisGmlpLayer_', 'mab'),
  (r'GridGmlpLayer', 'grid/gated_mlp'),
  (r'BlockGmlpLayer', 'block/gated_mlp'),
  (r'(Grid|Block)GatingUnit/intermediate_layernorm', 'gate_norm'),
  (r'(Grid|Block)GatingUnit/Dense_0', 'mix'),
  (r'channel_attention_block_1_', 'rdcab'),
  (r'channel_attention_block_1', 'rcab'),
  (r'channel_attention/Conv_0', 'channel_attention/conv_du_0'),
  (r'channel_attention/Conv_1', 'channel_attention/conv_du_2'),
  (r'channel_mixing/Dense_0', 'dense1'),
  (r'channel_mixing/Dense_1', 'dense2'),
  (r'SplitHeadMultiAxisGating_([xy])/Dense_0', r'gate_\1/grid/mix'),
  (r'SplitHeadMultiAxisGating_([xy])/Dense_1', r'gate_\1/block/mix'),
  (r'SplitHeadMultiAxisGating_', 'gate_'),
  (r'LayerNorm(_in)?/', 'norm/'),
  (r'LayerNorm_', 'norm_'),
  (r'in_project_', 'project_'),
  (r'out_project_', 'out_'),
  # The inputs of a cross gating block, the only convolutions that still have these names.
  (r'/Conv_0/', '/in_x/'),
  (r'/Conv_1/', '/in_y/'),
)
_GRID = 'SplitHeadMultiAxisGmlpLayer_0/GridGmlpLayer/GridGatingUnit/Dense_0/kernel'
_BLOCK = 'SplitHeadMultiAxisGmlpLayer_0/BlockGmlpLayer/BlockGatingUnit/Dense_0/kernel'


def prepare(state):
  """The state dict with names for layers that the authors only number, and without empty outputs.

  The published GoPro weights lack the coarse outputs of the last stage; some copies have zeros
  instead.
  """
  depth = _count(state, r'stage_0_encoder_block_(\d+)/')
  last = max(_numbers(state, r'stage_(\d+)_'), default=0)
  empty = [
    name
    for name in state
    if re.match(rf'stage_{last}_output_conv_[1-9]\d*/', name) and not np.any(state[name])
  ]
  named = {_named(name, depth): state[name] for name in state if name not in empty}
  return dict(part for name in named for part in _halves(name, named[name]))


def arguments(shapes):
  """The constructor arguments, from the shapes of the arrays.

  How blocks and grids divide into rows and columns cannot be derived: assumes square ones.
  """
  depth = _count(shapes, r'stage_0_encoder_block_(\d+)/')
  stages = _count(shapes, r'stage_(\d+)_')
  scales = _count(shapes, r'stage_0_input_conv_(\d+)/')
  mixed = [shapes[f'stage_0_encoder_block_{i}/{_BLOCK}'] for i in range(depth)]
  coarse = f'stage_0_global_block_0/{_BLOCK}'
  fine = [level for level in range(depth) if mixed[level] != shapes[coarse]]
  width, narrow = shapes[
    'stage_0_global_block_0/channel_attention_block_1_0/channel_attention/Conv_0/kernel'
  ][2:]
  return {
    'features': shapes['stage_0_input_conv_0/kernel'][3],
    'stages': stages,
    'depth': depth,
    'scales': scales,
    'groups': _count(shapes, r'stage_0_encoder_block_0/SplitHeadMultiAxisGmlpLayer_(\d+)/'),
    'bottlenecks': _count(shapes, r'stage_0_global_block_(\d+)/'),
    'high_resolution_levels': len(fine),
    'block': _square(shapes, f'stage_0_encoder_block_0/{_BLOCK}'),
    'grid': _square(shapes, f'stage_0_encoder_block_0/{_GRID}'),
    'coarse_block': _square(shapes, coarse),
    'reduction': width // narrow,
    'coarse_outputs': _count(shapes, rf'stage_{stages - 1}_output_conv_(\d+)/') == scales,
    'channels': shapes['stage_0_input_conv_0/kernel'][2],
  }


def entry(key, value):
  """The path and the value of one of our parameters; dense layers over channels are 1x1 here."""
  path = key
  for pattern, replacement in RULES:
    path = re.sub(pattern, replacement, path)
  mixes = path.split('/')[-2] == 'mix'
  if value.ndim == 2 and not mixes:
    value = value[None, None]
  return path, value


def _named(name, depth):
  """The name of a layer that resizes skip connections, with the levels it connects."""
  match = re.match(r'UpSampleRatio_(\d+)/Conv_0/', name)
  if not match or not depth:
    return name
  stage, number = divmod(int(match[1]), 2 * depth**2)
  part, number = divmod(number, depth**2)
  to, place = divmod(number, depth)
  source = place if part == 0 else depth - 1 - place
  layer = f'{("encoded", "skip")[part]}{source}_to{depth - 1 - to}'
  return f'stage_{stage}_{layer}/{name[match.end() :]}'


def _halves(name, value):
  """A dense layer for both axes split in two: one for the grid, one for the blocks."""
  match = re.fullmatch(r'(.*SplitHeadMultiAxisG\w+)/(in|out)_project/(kernel|bias)', name)
  if not match:
    return [(name, value)]
  before, side, leaf = match.groups()
  names = [f'{before}/{axis}/{side}_project/{leaf}' for axis in ('grid', 'block')]
  if side == 'in':
    return list(zip(names, np.split(value, 2, axis=-1), strict=True))
  if leaf == 'bias':
    return [(names[0], value)]
  return list(zip(names, np.split(value, 2), strict=True))


def _numbers(names, pattern):
  return {int(match[1]) for name in names if (match := re.match(pattern, name))}


def _count(names, pattern):
  return len(_numbers(names, pattern))


def _square(shapes, name):
  return (math.isqrt(shapes[name][0]),) * 2
