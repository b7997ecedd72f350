"""Restoration networks, one a file: `make('mprnet', 'tiny')`."""

import dataclasses
import importlib
import pkgutil
from typing import Any

import flax.linen as nn


def names() -> list[str]:
  """The networks that there are, by their files' names."""
  return sorted(module.name for module in pkgutil.iter_modules(__path__))


def variants(name: str) -> list[str]:
  """The variants of the network `name`."""
  if name not in names():
    raise ValueError(f'no network {name!r}; there are: {", ".join(names())}')
  return list(importlib.import_module(f'{__name__}.{name}').VARIANTS)


def make(name: str, variant: str = 'default', **overrides: Any) -> nn.Module:
  """The network `name` in one of its `VARIANTS`, with some of its arguments replaced.

  Raises:
    ValueError: no such network, variant or argument; lists those that exist.
  """
  if variant not in variants(name):
    raise ValueError(f'{name} has no variant {variant!r}; it has: {", ".join(variants(name))}')
  module = importlib.import_module(f'{__name__}.{name}')
  fields = [field.name for field in dataclasses.fields(module.Model(variant))]
  arguments = [field for field in fields if field not in ('parent', 'name')]
  if unknown := sorted(set(overrides) - set(arguments)):
    raise ValueError(f'{name} has no argument {", ".join(unknown)}; it has: {", ".join(arguments)}')
  # Configs and manifests hold lists; a module must be hashable.
  overrides = {key: tuple(v) if isinstance(v, list) else v for key, v in overrides.items()}
  return module.Model(variant, **overrides)
