"""Blur: PSFs, operators that apply it, noise, and whole mixes written as text.

  degrade = blur.parse('shake(9..31) | noise(0..0.02)')
  blurred = degrade(key, sharp)

Images are float32 `[... h w c]`; random functions take a key first.
"""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.blur import (
    frames,
    jpeg,
    kernels,
    noise,
    operators,
    projective,
    scenes,
    sensor,
    steps,
    synthesis,
    trajectories,
    turbulence,
    varying,
  )
  from deblur_jax.blur.operators import Convolution
  from deblur_jax.blur.projective import ProjectiveMotion
  from deblur_jax.blur.synthesis import parse
  from deblur_jax.blur.varying import SpatiallyVarying

__all__ = [
  'Convolution',
  'ProjectiveMotion',
  'SpatiallyVarying',
  'frames',
  'jpeg',
  'kernels',
  'noise',
  'operators',
  'parse',
  'projective',
  'scenes',
  'sensor',
  'steps',
  'synthesis',
  'trajectories',
  'turbulence',
  'varying',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'Convolution': 'operators',
  'ProjectiveMotion': 'projective',
  'SpatiallyVarying': 'varying',
  'parse': 'synthesis',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
