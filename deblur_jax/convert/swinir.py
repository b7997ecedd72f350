"""SwinIR from github.com/JingyunLiang/SwinIR, for tasks that keep the image size."""

import math
import re

LICENSE = 'Apache-2.0'
SIGNATURE = (
  'conv_first.weight',
  'layers.0.residual_group.blocks.0.attn.relative_position_bias_table',
  'conv_after_body.weight',
  'conv_last.weight',
)
IGNORED = r'.*\.(relative_position_index|attn_mask)'
RULES = (
  (r'^patch_embed\.norm\.', 'patch_embed.'),
  (r'^layers\.(\d+)\.(?:residual_group\.)?', r'layers.\1_'),
)


def arguments(shapes):
  """The constructor arguments, from the shapes of the tensors; `img_range` cannot be derived."""
  blocks = [re.match(r'layers\.(\d+)\.residual_group\.blocks\.(\d+)\.', name) for name in shapes]
  places = {(int(match[1]), int(match[2])) for match in blocks if match}
  first = 'layers.{}.residual_group.blocks.0.'
  tables = [
    shapes[first.format(i) + 'attn.relative_position_bias_table']
    for i in range(1 + max(layer for layer, _ in places))
  ]
  hidden, embed_dim = shapes[first.format(0) + 'mlp.fc1.weight']
  return {
    'embed_dim': embed_dim,
    'depths': tuple(sum(layer == i for layer, _ in places) for i in range(len(tables))),
    'num_heads': tuple(heads for _, heads in tables),
    'window_size': (math.isqrt(tables[0][0]) + 1) // 2,
    'mlp_ratio': hidden / embed_dim,
    'channels': shapes['conv_first.weight'][1],
  }
