"""HINet from github.com/megvii-model/HINet."""

import re

LICENSE = 'MIT'
SIGNATURE = ('conv_01.weight', 'down_path_1.0.conv_1.weight', 'sam12.conv1.weight', 'cat12.weight')
TRANSPOSED = r'up_path_\d\.\d+\.up'


def arguments(shapes):
  """The constructor arguments, from the shapes of the tensors; `relu_slope` cannot be derived."""
  levels = [re.fullmatch(r'down_path_1\.(\d+)\.(conv_1|norm)\.weight', name) for name in shapes]
  depth = 1 + max(int(match[1]) for match in levels if match)
  normalized = [int(match[1]) for match in levels if match and match[2] == 'norm']
  return {
    'wf': shapes['conv_01.weight'][0],
    'depth': depth,
    'hin_position_left': min(normalized, default=depth),
    'hin_position_right': max(normalized, default=depth),
    'stages': sum(re.fullmatch(r'conv_0\d\.weight', name) is not None for name in shapes),
    'channels': shapes['conv_01.weight'][1],
  }
