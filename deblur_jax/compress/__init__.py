"""Smaller and faster networks: INT8 files."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.compress import quantize

__all__ = ['quantize']

__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, ''))
