"""DeepDeblur from github.com/SeungjunNah/DeepDeblur-PyTorch."""

import re

LICENSE = 'MIT'
SIGNATURE = (
  'body_models.0.body.0.weight',
  'body_models.0.body.1.body.0.weight',
  'conv_end_models.1.uppath.0.weight',
)


def arguments(shapes):
  """The constructor arguments, from the shapes of the tensors."""
  first = r'body_models\.\d+\.body\.0\.weight'
  block = r'body_models\.0\.body\.\d+\.body\.0\.weight'
  n_feats, inputs, _, kernel_size = shapes['body_models.0.body.0.weight']
  return {
    'n_feats': n_feats,
    'n_resblocks': sum(bool(re.fullmatch(block, name)) for name in shapes),
    'kernel_size': kernel_size,
    'n_scales': sum(bool(re.fullmatch(first, name)) for name in shapes),
    'channels': inputs // 2,
  }
