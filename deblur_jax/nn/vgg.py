"""VGG-19 up to a given layer, for perceptual losses.

K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, arXiv:1409.1556. Parameters are {'conv1_1': {'kernel': [3 3 i o], 'bias': [o]}, ...} up
to the last layer needed, and optionally 'color', a 1x1 convolution of the colors before all others.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from deblur_jax.nn.conv import conv

NAME = 'vgg19'
"""The network's name in the manifests of its files."""

DEPTHS = (2, 2, 4, 4, 4)

# Of ImageNet, for R, G and B in [0, 1].
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def layers() -> Iterator[str]:
  """The names of all convolutions, in order: 'conv1_1' to 'conv5_4'."""
  for block, depth in enumerate(DEPTHS, start=1):
    for layer in range(1, depth + 1):
      yield f'conv{block}_{layer}'


def features(
  params: Mapping[str, Any],
  image: jax.Array,
  layer: str,
  *,
  colors: str = 'imagenet',
  padding: str = 'constant',
) -> jax.Array:
  """The features of VGG-19 for `image` `[b h w 3]` in [0, 1] at a layer, `[b h' w' c]` float32.

  Args:
    params: see above.
    image: sides of at least 2 to the number of poolings before the layer.
    layer: 'conv3_3', before its ReLU, or 'relu3_3', after it.
    colors: 'imagenet', as the network was trained; 'signed', [-1, 1], as DeblurGAN's authors use
      it; or 'unit', [0, 1], for parameters that have 'color'.
    padding: 'constant' (zeros) as the network was trained, or 'reflect'.

  Raises ValueError if `params` lacks the layer.
  """
  last = layer.replace('relu', 'conv')
  if last not in params:
    there = ', '.join(name for name in layers() if name in params)
    raise ValueError(f'these VGG-19 weights have no layer {layer!r}; available: {there}')
  x = _colored(image.astype(jnp.float32), colors)
  if 'color' in params:
    x = _convolved(x, params['color'])
  for name in layers():
    if name.endswith('_1') and name != 'conv1_1':
      x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID')
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=padding)
    x = _convolved(x, params[name])
    if name == layer:
      return x
    x = jax.nn.relu(x)
    if name == last:
      return x
  raise AssertionError('the layer was among the parameters')


def _colored(image: jax.Array, colors: str) -> jax.Array:
  if colors == 'imagenet':
    mean, spread = (jnp.asarray(one).reshape(1, 1, 1, 3) for one in (_MEAN, _SPREAD))
    return (image - mean) / spread
  if colors not in ('signed', 'unit'):
    raise ValueError(f"colors must be 'imagenet', 'signed' or 'unit', got {colors!r}")
  return 2 * image - 1 if colors == 'signed' else image


def _convolved(x: jax.Array, layer: Mapping[str, jax.Array]) -> jax.Array:
  return conv(x, jnp.asarray(layer['kernel'])) + jnp.reshape(layer['bias'], (1, 1, 1, -1))
