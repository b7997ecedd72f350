"""SRN from github.com/jiangsutx/SRN-Deblur, whose weights are TensorFlow variables."""

import re

import numpy as np

LICENSE = 'MIT'
SIGNATURE = ('g_net/enc1_1/weights', 'g_net/dec1_0/weights')
# The checkpoint also has Adam's moments and the step count.
IGNORED = r'(?!g_net/.*/(weights|biases)$).*'


def arguments(shapes):
  """The constructor arguments, from the shapes of the variables."""
  inputs, width = shapes['g_net/enc1_1/weights'][2:]
  blocks = [re.fullmatch(r'g_net/enc1_(\d+)/conv1/weights', name) for name in shapes]
  return {
    'channels': inputs // 2,  # the blurred image and the restored one
    'lstm': 'g_net/convLSTM/LSTM_conv/weights' in shapes,
    'width': width,
    'blocks': max((int(match[1]) - 1 for match in blocks if match), default=0),
  }


def entry(key, value):
  """The path and the value of our parameter for a variable; kernels have our layout already."""
  path, _, leaf = key.rpartition('/')
  if leaf == 'biases':
    return f'{path}/bias', value
  if re.fullmatch(r'g_net/dec\d_[1-9]\d*', path):  # transposed: HWOI, flipped
    value = np.ascontiguousarray(value.transpose(0, 1, 3, 2)[::-1, ::-1])
  return f'{path}/kernel', value
