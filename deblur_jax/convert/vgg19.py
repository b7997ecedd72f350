"""VGG-19 from torchvision, Keras, or a torch sequence that scales the colors itself.

Not a restoration network, so `convert.from_torch` does not include it; `nn.vgg` uses it.
"""

from collections.abc import Mapping
import re
from typing import Any

import numpy as np

from deblur_jax.nn import vgg
from deblur_jax.weights import DoesNotFit

LICENSE = 'CC BY 4.0'

# Indices in torchvision's `features`, and in a sequence with a color layer first and a padding
# layer before every convolution.
TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
PADDED = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)


def parameters(state_dict: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
  """(params, options) for `nn.vgg.features`, with all layers in the file.

  `state_dict` has torchvision's names ('features.0.weight'), Keras's ('block1_conv1/kernel:0') or
  those of a sequence ('2.weight') whose first layer scales the colors and which pads by reflection.

  Raises DoesNotFit if it has none of these.
  """
  state = {name: np.asarray(value, np.float32) for name, value in state_dict.items()}
  if 'features.0.weight' in state:
    return _sequence(state, 'features.', TORCHVISION), {}
  if '0.weight' in state and state['0.weight'].shape[-2:] == (1, 1):
    color = {'color': _layer(state, '0')}
    return color | _sequence(state, '', PADDED), {'colors': 'unit', 'padding': 'reflect'}
  found = {}
  for name, value in state.items():
    match = re.search(r'block(\d)_conv(\d)(?:_|/)?.*?(kernel|bias|_W|_b)(?:_1)?(?::0)?$', name)
    if match:
      block, layer, kind = match.groups()
      kind = {'_W': 'kernel', '_b': 'bias'}.get(kind, kind)
      found.setdefault(f'conv{block}_{layer}', {})[kind] = value
  if 'conv1_1' not in found:
    raise DoesNotFit(
      f'not VGG-19: no features.0.weight, 0.weight or block1_conv1 in {list(state)[:3]}'
    )
  return found, {}


def _sequence(state, prefix, indices):
  found = {}
  for name, index in zip(vgg.layers(), indices, strict=True):
    if f'{prefix}{index}.weight' not in state:
      break
    found[name] = _layer(state, f'{prefix}{index}')
  return found


def _layer(state, name):
  kernel = state[f'{name}.weight'].transpose(2, 3, 1, 0)  # OIHW
  return {'kernel': np.ascontiguousarray(kernel), 'bias': state[f'{name}.bias']}
