"""Restoration networks, one a file: `make('mprnet', 'tiny')`."""

from collections.abc import Callable, Mapping
import dataclasses
import importlib
import pkgutil
from typing import Any

import flax.linen as nn

from deblur_jax import spec

__all__ = ['make', 'names', 'variants']


def names() -> list[str]:
  """The networks that there are, by their files' names."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def variants(name: str) -> list[str]:
  """The variants of the network `name`."""
  return list(_found(name)[1])


def make(name: str, variant: str = 'default', **overrides: Any) -> nn.Module:
  """The network `name` in one of its `VARIANTS`, with some of its arguments replaced.

  'package.module:name' is one from outside: a `Model(variant, **overrides)` beside its `VARIANTS`,
  or the class of a network itself.

  Raises:
    ValueError: no such network, variant or argument; lists those that exist.
  """
  build, known = _found(name)
  if variant not in known:
    raise ValueError(f'{name} has no variant {variant!r}; it has: {", ".join(known)}')
  model = build(variant)
  if not isinstance(model, nn.Module) or not hasattr(model, 'needs'):
    raise ValueError(f'{name} makes no network: a flax.linen.Module with `needs` (types.Needs)')
  fields = [field.name for field in dataclasses.fields(model)]
  arguments = [field for field in fields if field not in ('parent', 'name')]
  if unknown := sorted(set(overrides) - set(arguments)):
    raise ValueError(f'{name} has no argument {", ".join(unknown)}; it has: {", ".join(arguments)}')
  # Configs and manifests hold lists; a module must be hashable.
  overrides = {key: tuple(v) if isinstance(v, list) else v for key, v in overrides.items()}
  return build(variant, **overrides)


def _found(name: str) -> tuple[Callable[..., Any], Mapping[str, Any]]:
  """What makes the network `name` from a variant and overrides, and its variants."""
  if ':' not in name:
    if name not in names():
      raise ValueError(f'no network {name!r}; there are: {", ".join(names())}, package.module:name')
    module = importlib.import_module(f'{__name__}.{name}')
    return module.Model, module.VARIANTS
  found = spec.find('network', name, {})
  if isinstance(found, type) and issubclass(found, nn.Module):
    return lambda variant, **overrides: found(**overrides), {'default': {}}
  # The name may come from the manifest of a file: not every function may be called for it.
  known = getattr(importlib.import_module(name.partition(':')[0]), 'VARIANTS', None)
  if known is None or not callable(found):
    raise ValueError(f'{name} is neither the class of a network nor a Model beside its VARIANTS')
  return found, known
