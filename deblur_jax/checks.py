"""Checks of images, so that invalid ones raise a one-line error instead of giving wrong numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LARGEST = 16.0
"""Float images with larger values must be in [0, 255] or [0, 65535], not in [0, 1]."""


def images(array: Any, what: str = 'images', *, values: bool = True) -> None:
  """Raises ValueError unless `array` has floats, roughly within [0, 1].

  Under `jit`, or without `values`, only the type is checked. Values slightly outside [0, 1], as
  noise and solvers produce, are accepted.
  """
  dtype = jnp.result_type(array)
  if not jnp.issubdtype(dtype, jnp.floating):
    scale = np.iinfo(dtype).max if jnp.issubdtype(dtype, jnp.unsignedinteger) else 255
    raise ValueError(f'{what} must be floats in [0, 1], not {dtype}: divide by {scale}')
  if not values or isinstance(array, jax.core.Tracer) or not np.size(array):
    return
  with jax.ensure_compile_time_eval():  # a constant that a compiled function closes over
    largest = float(array.max())
  if largest > LARGEST:
    raise ValueError(f'{what} must be in [0, 1], but the largest value is {largest:g}')


def batch(array: Any, what: str = 'images') -> None:
  """Raises ValueError unless `array` is `[b h w 3]`."""
  shape = np.shape(array)
  if len(shape) != 4 or shape[-1] != 3:
    raise ValueError(f'{what} must be [b h w 3], not {list(shape)}')
