"""DeblurGAN from github.com/KupynOrest/DeblurGAN, commit 39e8a4b of 2018, and its discriminator.

`learn_residual` cannot be derived from the tensors; the published weights are for True.
"""

from collections.abc import Mapping
import re
from typing import Any

from flax import traverse_util

from deblur_jax import convert

LICENSE = 'BSD'
SIGNATURE = ('model.1.weight', 'model.4.weight', 'model.7.weight', 'model.10.conv_block.1.weight')
IGNORED = r'.*\.(running_mean|running_var|num_batches_tracked)'


def arguments(shapes):
  """The constructor arguments, from the shapes of the tensors."""
  dropout = 'model.10.conv_block.6.weight' in shapes  # else the second convolution is number 5
  return {
    'ngf': shapes['model.1.weight'][0],
    'n_blocks': sum(name.endswith('conv_block.1.weight') for name in shapes),
    'dropout': 0.5 if dropout else 0.0,
    'channels': shapes['model.1.weight'][1],
  }


def entry(key, value):
  """The path and the value of our parameter for one of the authors'."""
  name = key.replace('conv_block.5', 'conv_block.6')
  path = re.sub(r'\.(?=\d)', '_', name).replace('.', '/').replace('weight', 'kernel')
  if value.ndim != 4:
    return path, value
  # The transposed layers are those after the blocks with 3x3 kernels, wherever the blocks end.
  layer = re.fullmatch(r'model\.(\d+)\.weight', key)
  if layer and int(layer[1]) > 7 and value.shape[-1] == 3:
    return path, value.transpose(2, 3, 0, 1)[::-1, ::-1]  # IOHW, flipped
  return path, value.transpose(2, 3, 1, 0)  # OIHW


def discriminator(state_dict: Mapping[str, Any]) -> dict[str, Any]:
  """The parameters of `nn.patchgan.PatchGAN`, nested, from the authors' NLayerDiscriminator."""
  state = convert.unwrap(state_dict)
  kept = [entry(*item) for item in state.items() if not re.fullmatch(IGNORED, item[0])]
  return traverse_util.unflatten_dict(dict(kept), sep='/')
