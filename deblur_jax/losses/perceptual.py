"""Distance of two images in the features of VGG-19."""

from collections.abc import Callable, Mapping
import functools
import os
from typing import Any

import chex
import jax
import jax.numpy as jnp

from deblur_jax import weights as files
from deblur_jax.nn import vgg


def perceptual(
  restored: jax.Array,
  sharp: jax.Array,
  *,
  params: Mapping[str, Any],
  layer: str = 'conv3_3',
  **options: str,
) -> jax.Array:
  """Mean squared difference of the features at `layer`, one value per image `[b]`.

  Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
  ECCV 2016, eq. 2. Images are `[b h w 3]` in [0, 1]; `params`, `layer` and `options` are those of
  `nn.vgg.features`. Unequal shapes raise.
  """
  chex.assert_equal_shape([restored, sharp])
  seen = (vgg.features(params, image, layer, **options) for image in (restored, sharp))
  return jnp.square(next(seen) - next(seen)).mean(axis=(1, 2, 3))


def load(
  weights: str | os.PathLike[str], layer: str, **options: str
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """`perceptual` at `layer` with the VGG-19 in a file made by `deblur-jax convert`.

  Colors and padding in the manifest override `options`. Raises ValueError if no file is given, if
  it has other weights, or if it does not reach `layer`.
  """
  if not os.fspath(weights):
    raise ValueError(
      "a perceptual loss requires VGG-19: convert torchvision's with deblur-jax convert "
      'vgg19-dcbb9e9d.pth vgg19.safetensors --network vgg19 and set perceptual.weights to the file'
    )
  params, manifest = files.read(weights)
  if manifest.get('network') != vgg.NAME:
    raise ValueError(f'{weights}: weights of {manifest.get("network")}, not of vgg19')
  options |= manifest['arguments']
  last = layer.replace('relu', 'conv')
  if last not in params:
    raise ValueError(f'{weights}: no layer {layer!r}; it has {", ".join(sorted(params))}')
  # Only the layers needed: the deeper ones are the largest.
  names = ['color', *vgg.layers()]
  params = {name: params[name] for name in names[: names.index(last) + 1] if name in params}
  return functools.partial(perceptual, params=params, layer=layer, **options)
