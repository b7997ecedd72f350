"""Smaller networks from trained ones: INT8 files, and pruning."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.compress import groups, prune, quantize, ranges

__all__ = ['groups', 'prune', 'quantize', 'ranges']

__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, ''))
