"""Restoration networks, one per file: `make('mprnet', 'tiny')`."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import importlib
import pkgutil
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax import spec
from deblur_jax.nn import conv, parameters
from deblur_jax.types import Needs

__all__ = ['WIDTHS', 'hashable', 'make', 'names', 'shapes', 'variants']

WIDTHS = {'nafnet': 'width', 'maxim': 'features'}
"""Network -> the argument that all of its channel counts are proportional to, if it has one."""

TRIAL_SIDE = 64
"""Side of the image that a network's parameter shapes are traced with; nothing is computed."""


def names() -> list[str]:
  """The names of all networks, which are those of their files."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def variants(name: str) -> list[str]:
  """The variants of the network `name`."""
  return list(_found(name)[1])


def make(name: str, variant: str = 'default', **overrides: Any) -> nn.Module:
  """The network `name` in one of its `VARIANTS`, with some of its arguments replaced.

  'package.module:name' is a network from another package: a `Model(variant, **overrides)` whose
  module also has `VARIANTS`, or the class of a network.

  Raises:
    ValueError: no such network, variant or argument; lists the available ones.
  """
  build, known = _found(name)
  if variant not in known:
    raise ValueError(f'{name} has no variant {variant!r}; available: {", ".join(known)}')
  model = build(variant)
  if not isinstance(model, nn.Module) or not isinstance(getattr(model, 'needs', None), Needs):
    raise ValueError(f'{name} must return a flax.linen.Module with `needs` (types.Needs)')
  fields = [field.name for field in dataclasses.fields(model)]
  arguments = [field for field in fields if field not in ('parent', 'name')]
  if unknown := sorted(set(overrides) - set(arguments)):
    listed = ', '.join(arguments)
    raise ValueError(f'{name} has no argument {", ".join(unknown)}; available: {listed}')
  # Configs and manifests hold lists; a module must be hashable.
  overrides = {key: hashable(value) for key, value in overrides.items()}
  return build(variant, **overrides)


def shapes(model: Any, channels: int = 3) -> dict[str, Any]:
  """The parameters of a network as `jax.ShapeDtypeStruct`s, nested; nothing is computed."""
  try:
    hash(model)
  except TypeError:  # one from another package, with a list among its arguments
    return _traced(model, channels)
  return jax.tree.map(lambda leaf: leaf, _cached(model, channels))  # dicts of the caller's own


def _traced(model, channels):
  side = model.needs.square(TRIAL_SIDE)
  image = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
  with conv.plain(), parameters.only_shapes():  # the fewest operations to trace
    return jax.eval_shape(model.init, jax.random.key(0), image)['params']


# Takes up to seconds, and a command that loads a network may ask more than once.
_cached = functools.lru_cache(maxsize=256)(_traced)


def hashable(value: Any) -> Any:
  """`value` with dicts as sorted pairs and lists as tuples, as a module can hold it."""
  if isinstance(value, dict):
    return tuple((name, hashable(one)) for name, one in sorted(value.items()))
  return tuple(map(hashable, value)) if isinstance(value, list | tuple) else value


def _found(name: str) -> tuple[Callable[..., Any], Mapping[str, Any]]:
  """The function that builds the network `name` from a variant and overrides, and its variants."""
  if ':' not in name:
    if name not in names():
      known = ', '.join([*names(), 'package.module:name'])
      raise ValueError(f'no network {name!r}; available: {known}')
    module = importlib.import_module(f'{__name__}.{name}')
    return module.Model, module.VARIANTS
  found = spec.find('network', name, {})
  if isinstance(found, type) and issubclass(found, nn.Module):
    return lambda variant, **overrides: found(**overrides), {'default': {}}
  # The name may come from the manifest of a file, which must not be able to call any function.
  known = getattr(importlib.import_module(name.partition(':')[0]), 'VARIANTS', None)
  if known is None or not callable(found):
    raise ValueError(
      f'{name} is neither the class of a network nor a Model in a module with VARIANTS'
    )
  return found, known
