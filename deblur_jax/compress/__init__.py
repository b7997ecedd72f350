"""Smaller networks from trained ones."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.compress import groups, prune

__all__ = ['groups', 'prune']

__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, ''))
