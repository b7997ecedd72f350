"""Converts published weights, mostly from PyTorch, to our parameters, by name maps only.

The file of each network has `LICENSE`, under which its authors published their code and weights;
`SIGNATURE`, names that distinguish its state dict from all others; and `arguments(shapes)`, the
constructor arguments derived from the shapes of the tensors. Optionally it also has
`prepare(state)`, which preprocesses the state dict; `RULES`, pairs (pattern, replacement) for names
that differ from ours in more than dots; `TRANSPOSED`, a pattern for its transposed convolutions;
`IGNORED`, a pattern for tensors that are not parameters; or, instead of these, its own
`entry(key, value)`, the path and the value of one of our parameters.
"""

from collections.abc import Iterable, Iterator, Mapping
import importlib
import pkgutil
import re
from typing import Any

from flax import traverse_util
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import models, weights
from deblur_jax.convert import vgg19
from deblur_jax.convert.files import open_keras as open_keras
from deblur_jax.convert.files import open_numpy as open_numpy
from deblur_jax.convert.files import open_safetensors as open_safetensors
from deblur_jax.convert.files import open_tensorflow as open_tensorflow
from deblur_jax.convert.files import open_torch as open_torch
from deblur_jax.convert.open import stripped, unwrap
from deblur_jax.nn import vgg

__all__ = [
  'check_finite',
  'detect',
  'from_torch',
  'license_of',
  'license_of_files',
  'names',
  'open_keras',
  'open_numpy',
  'open_safetensors',
  'open_tensorflow',
  'open_torch',
  'variant_of',
]

PUBLISHED = {
  'maxim': ('9a7d3c1fb5d8ca0564f9486f3490c39de1412a420e6d6061cf6623cef9890e8f',),
  'vgg19': ('dcbb9e9d',),  # torchvision's vgg19-dcbb9e9d.pth
}
"""Network -> SHA-256 digests, or how they begin, of files that its authors published."""

UNKNOWN = 'unknown'
"""The license of weights whose origin is not known."""


def from_torch(
  name: str, state_dict: Mapping[str, Any], **overrides: Any
) -> tuple[nn.Module, dict[str, Any]]:
  """The network `name` with the arguments of a state dict, and its parameters as a nested dict.

  `state_dict` holds numpy arrays or torch tensors, possibly nested in containers and with prefixes,
  see `convert.open`. `overrides` replace constructor arguments derived from the tensors, or set
  those that cannot be derived (such as dtype).

  Raises:
    weights.DoesNotFit: listing every missing, extra and mis-shaped name; compared with the most
      similar variant if too many tensors are missing to derive the arguments.
    ValueError: unknown or invalid overrides, or values that are not finite.
  """
  rules = _rules(name)
  models.make(name, **overrides)  # raises for unknown ones
  ignored = getattr(rules, 'IGNORED', r'(?!)')
  state = stripped(unwrap(state_dict), [rules.SIGNATURE])
  state = {key: value for key, value in state.items() if not re.fullmatch(ignored, key)}
  absent = [key for key in rules.SIGNATURE if key not in state]
  if len(absent) == len(rules.SIGNATURE):
    raise weights.DoesNotFit(
      f'not the weights of {name}: no {", ".join(absent)}; see convert.detect'
    )
  check_finite(state)
  state = getattr(rules, 'prepare', dict)(state)
  shapes = {key: tuple(value.shape) for key, value in state.items()}
  found, what = _convert(state, rules), f'torch weights for {name}'
  try:
    model = models.make(name, **{**rules.arguments(shapes), **overrides})
    expected = models.shapes(model, model.channels)
  except Exception as error:  # missing names and unexpected shapes can raise anything
    _check_variants(name, state, found, what=what)
    raise ValueError(f'{name} cannot be built with {overrides}: {error}') from error
  _check(state, found, expected, rules, what=what)
  return model, found


def check_finite(state: Mapping[str, np.ndarray]) -> None:
  """Raises ValueError, naming the tensors, if some values are not finite."""
  wrong = [name for name, value in state.items() if not np.isfinite(value).all()]
  if wrong:
    more = f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''
    raise ValueError(
      f'NaN or infinity in {len(wrong)} of {len(state)} tensors ({", ".join(wrong[:3])}{more}): '
      'the weights are of a run that diverged'
    )


def variant_of(name: str, model: nn.Module) -> str:
  """The variant of the network `name` that equals a model except for its dtype; '' if none does."""
  variants = (
    one for one in models.variants(name) if models.make(name, one) == model.clone(dtype=jnp.float32)
  )
  return next(variants, '')


def _check(state, found, expected, rules, *, what: str) -> None:
  """As `weights.check_fit`, but the error has the names and shapes of the state dict."""
  try:
    weights.check_fit(found, expected, what=what)
  except weights.DoesNotFit:
    found, expected = _flat(found), _flat(expected)
    keys = {_place(key, value, rules)[0]: key for key, value in state.items()}
    wanted = {}
    for path, leaf in expected.items():
      if path in found and found[path].shape == leaf.shape:
        wanted[keys[path]] = state[keys[path]]
      else:
        key, shape = _torch_terms(path, leaf.shape, keys, rules)
        wanted[key] = jax.ShapeDtypeStruct(shape, jnp.float32)
    weights.check_fit({key: state[key] for key in keys.values()}, wanted, what=what)
    raise


def _flat(tree: Any) -> dict[str, Any]:
  return traverse_util.flatten_dict(tree, sep='/')


def _torch_terms(path, shape, keys, rules) -> tuple[str, tuple[int, ...]]:
  """The name and the shape of one of our parameters in the state dict.

  Tries the names of its neighbors with other numbers or leaves; if none of them maps to `path`,
  returns our name and shape.
  """
  for key in _guesses(path, keys):
    for ndim in (1, 2, 4):
      probe = np.zeros((2, 3, 5, 7)[:ndim])
      found, value = _place(key, probe, rules)
      if found == path and value.ndim == len(shape):
        order = [value.shape.index(size) for size in probe.shape]
        return key, tuple(shape[axis] for axis in order)
  return path, shape


def _guesses(path: str, keys: Mapping[str, str]) -> Iterator[str]:
  """Possible names of one of our parameters in a state dict; `keys` are the known ones, by path."""
  if path in keys:
    yield keys[path]
  parent, _, leaf = path.rpartition('/')
  leaf = {'kernel': 'weight', 'scale': 'weight'}.get(leaf, leaf)
  skeleton, numbers = re.sub(r'\d+', '#', path), re.findall(r'\d+', path)
  for other, key in keys.items():
    if re.sub(r'\d+', '#', other) == skeleton:  # the same parameter of another block
      pairs = zip(re.findall(r'\d+', other), numbers, strict=True)
      swap = {old: new for old, new in pairs if old != new}
      yield re.sub(r'\d+', lambda match, swap=swap: swap.get(match[0], match[0]), key)
  for other, key in keys.items():
    if other.rpartition('/')[0] == parent:  # weight and bias of one layer
      yield f'{key.rpartition(".")[0]}.{leaf}'
  yield '.'.join([*re.sub(r'_(?=\d)', '.', parent).split('/'), leaf])


def _check_variants(name: str, state, found: Mapping[str, Any], *, what: str) -> None:
  """As `_check`, for the variant with the fewest differences."""
  misfits = {}
  for variant in models.variants(name):
    model = models.make(name, variant)
    expected = models.shapes(model, model.channels)
    try:
      weights.check_fit(found, expected, what=what)
    except weights.DoesNotFit as error:
      misfits[variant] = str(error).count('\n'), expected
    else:
      return
  variant = min(misfits, key=lambda one: misfits[one][0])
  _check(state, found, misfits[variant][1], _rules(name), what=f'{what} {variant}')


def detect(state_dict: Mapping[str, Any]) -> str:
  """The name of the network that a state dict belongs to.

  Raises:
    ValueError: it matches no network, or several.
  """
  signatures = [_rules(name).SIGNATURE for name in names()]
  keys = stripped(unwrap(state_dict), signatures).keys()
  found = [name for name in names() if keys >= set(_rules(name).SIGNATURE)]
  if len(found) != 1:
    what = f'could be {" or ".join(found)}' if found else f'match none of {", ".join(names())}'
    raise ValueError(f'these weights ({len(keys)} tensors) {what}: give the name of the network')
  return found[0]


def names() -> list[str]:
  """The networks whose published weights can be converted."""
  files = {module.name for module in pkgutil.iter_modules(__path__)}
  return sorted(files & set(models.names()))


def license_of(name: str) -> str:
  """What the authors of `name`, a network or 'vgg19', say about the use of their weights."""
  return (vgg19 if name == vgg.NAME else _rules(name)).LICENSE


def license_of_files(name: str, digests: Iterable[str]) -> str:
  """The license of weights of the network `name` in files with these SHA-256 digests.

  That of the authors if every file is recognized as published by them, else 'unknown': anyone can
  train a network with the authors' names for its tensors.
  """
  recognized = tuple(PUBLISHED.get(name, ()))
  published = all(recognized and digest.startswith(recognized) for digest in digests)
  return license_of(name) if published else UNKNOWN


def _rules(name: str):
  if name not in names():
    raise ValueError(f'no conversion for {name!r}; available: {", ".join(names())}')
  return importlib.import_module(f'{__name__}.{name}')


def _convert(state, rules):
  """Parameters with our names and layouts, nested."""
  found = {}
  for key, value in state.items():
    try:
      path, value = _place(key, value, rules)
    except ValueError as error:  # from numpy, for axes that do not exist
      raise weights.DoesNotFit(f'{key} has an invalid shape, {list(value.shape)}') from error
    if path in found and not np.array_equal(found[path], value):
      raise weights.DoesNotFit(f'{key} differs from another tensor that must be the same parameter')
    found[path] = value
  return traverse_util.unflatten_dict(found, sep='/')


def _place(key, value, rules):
  """The path and the value of one of our parameters, according to the rules of a network."""
  if hasattr(rules, 'entry'):
    return rules.entry(key, value)
  return _entry(key, value, getattr(rules, 'RULES', ()), getattr(rules, 'TRANSPOSED', r'(?!)'))


def _entry(key, value, rules, transposed):
  """The path and the value of our parameter for a tensor of torch."""
  name = key
  for pattern, replacement in rules:
    name = re.sub(pattern, replacement, name)
  *modules, leaf = re.sub(r'\.(?=\d)', '_', name).split('.')
  if leaf == 'weight' and value.ndim == 4:
    leaf = 'kernel'
    if re.fullmatch(transposed, '.'.join(key.split('.')[:-1])):
      value = value.transpose(2, 3, 0, 1)[::-1, ::-1]  # IOHW, flipped
    else:
      value = value.transpose(2, 3, 1, 0)  # OIHW
  elif leaf == 'weight' and value.ndim == 2:
    leaf, value = 'kernel', value.T
  elif leaf == 'weight':
    leaf = 'scale'
  elif leaf == 'negative_slope':  # [1]
    value = value.reshape(())
  elif value.ndim == 4:  # one scale per channel, [1 c 1 1]
    value = value.reshape(-1)
  return '/'.join([*modules, leaf]), np.asarray(value, order='C')
