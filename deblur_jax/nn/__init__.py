"""Layers that two or more networks use, in the form that is fast on each backend."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.nn import (
    attention,
    bridge,
    conv,
    int8,
    local,
    norm,
    parameters,
    parts,
    patchgan,
    resample,
    strips,
    vgg,
  )
  from deblur_jax.nn.attention import ChannelAttention
  from deblur_jax.nn.conv import Conv, ConvTranspose, DepthwiseConv
  from deblur_jax.nn.norm import InstanceNorm, LayerNorm, LocalInstanceNorm
  from deblur_jax.nn.patchgan import PatchGAN
  from deblur_jax.nn.resample import pixel_shuffle, pixel_unshuffle

__all__ = [
  'ChannelAttention',
  'Conv',
  'ConvTranspose',
  'DepthwiseConv',
  'InstanceNorm',
  'LayerNorm',
  'LocalInstanceNorm',
  'PatchGAN',
  'attention',
  'bridge',
  'conv',
  'int8',
  'local',
  'norm',
  'parameters',
  'parts',
  'patchgan',
  'pixel_shuffle',
  'pixel_unshuffle',
  'resample',
  'strips',
  'vgg',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'ChannelAttention': 'attention',
  'Conv': 'conv',
  'ConvTranspose': 'conv',
  'DepthwiseConv': 'conv',
  'InstanceNorm': 'norm',
  'LayerNorm': 'norm',
  'LocalInstanceNorm': 'norm',
  'PatchGAN': 'patchgan',
  'pixel_shuffle': 'resample',
  'pixel_unshuffle': 'resample',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
