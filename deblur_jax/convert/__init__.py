"""Published weights, mostly PyTorch's, as parameters of our networks: name maps only.

A file here for each network holds `LICENSE`, under which its authors published their code and
weights; `SIGNATURE`, names that tell its state dict from all others; and `arguments(shapes)`, the
constructor arguments read off the shapes of the tensors. Further, if it needs them:
`prepare(state)`, the state dict as the rest expects it; `RULES`, pairs (pattern, replacement) for
names that are not ours but for their dots; `TRANSPOSED`, a pattern for its transposed convolutions;
`IGNORED`, a pattern for tensors that are no parameters; or, in place of these, its own
`entry(key, value)`, the path and the value of one of our parameters.
"""

from collections.abc import Iterator, Mapping
import importlib
import os
import pkgutil
import re
from typing import Any
import zipfile

from flax import traverse_util
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from deblur_jax import models, weights
from deblur_jax.convert import vgg19
from deblur_jax.convert.open import stripped, unwrap
from deblur_jax.nn import vgg

__all__ = [
  'check_finite',
  'detect',
  'from_torch',
  'license_of',
  'names',
  'open_keras',
  'open_numpy',
  'open_safetensors',
  'open_tensorflow',
  'open_torch',
  'variant_of',
]


def from_torch(
  name: str, state_dict: Mapping[str, Any], **overrides: Any
) -> tuple[nn.Module, dict[str, Any]]:
  """The network `name` that a state dict was made for, and its parameters as a nested dict.

  `state_dict` holds numpy arrays or torch tensors, perhaps inside containers and behind prefixes,
  see `containers`. `overrides` replace constructor arguments that are read off the tensors, or set
  those that cannot be (such as dtype).

  Raises:
    weights.DoesNotFit: listing every missing, extra and mis-shaped name; those of the most similar
      variant if too little is there to tell what network it was.
    ValueError: unknown or impossible overrides, or values that are not finite.
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
    expected = _expected(model)
  except Exception as error:  # whatever can come of names that are missing and shapes that are odd
    _check_variants(name, state, found, what=what)
    raise ValueError(f'{name} cannot be made with {overrides}: {error}') from error
  _check(state, found, expected, rules, what=what)
  return model, found


def check_finite(state: Mapping[str, np.ndarray]) -> None:
  """Raises ValueError, naming the tensors, if there are values that are not finite."""
  wrong = [name for name, value in state.items() if not np.isfinite(value).all()]
  if wrong:
    more = f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''
    raise ValueError(
      f'NaN or infinity in {len(wrong)} of {len(state)} tensors ({", ".join(wrong[:3])}{more}): '
      'weights of a run that diverged'
    )


def variant_of(name: str, model: nn.Module) -> str:
  """Which variant of the network `name` a model is, but for its dtype; '' for none."""
  variants = (
    one for one in models.variants(name) if models.make(name, one) == model.clone(dtype=jnp.float32)
  )
  return next(variants, '')


def _expected(model: nn.Module) -> dict[str, Any]:
  side = model.needs.square(64)
  image = jax.ShapeDtypeStruct((1, side, side, model.channels), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), image)['params']


def _check(state, found, expected, rules, *, what: str) -> None:
  """As `weights.check_fit`; the error has the names and the shapes of the state dict."""
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
  """The name and the shape that one of our parameters has in the state dict.

  The name is looked for among those of its neighbors with other numbers or leaves; if none leads
  to `path`, it is ours, and so is the shape.
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
  """Names that one of our parameters may have in a state dict; `keys` are those known, by path."""
  if path in keys:
    yield keys[path]
  parent, _, leaf = path.rpartition('/')
  leaf = {'kernel': 'weight', 'scale': 'weight'}.get(leaf, leaf)
  skeleton, numbers = re.sub(r'\d+', '#', path), re.findall(r'\d+', path)
  for other, key in keys.items():
    if re.sub(r'\d+', '#', other) == skeleton:  # the same place in another block
      pairs = zip(re.findall(r'\d+', other), numbers, strict=True)
      swap = {old: new for old, new in pairs if old != new}
      yield re.sub(r'\d+', lambda match, swap=swap: swap.get(match[0], match[0]), key)
  for other, key in keys.items():
    if other.rpartition('/')[0] == parent:  # weight and bias of one layer
      yield f'{key.rpartition(".")[0]}.{leaf}'
  yield '.'.join([*re.sub(r'_(?=\d)', '.', parent).split('/'), leaf])


def _check_variants(name: str, state, found: Mapping[str, Any], *, what: str) -> None:
  """As `_check`, for the variant that fits best."""
  misfits = {}
  for variant in models.variants(name):
    expected = _expected(models.make(name, variant))
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
    ValueError: it is none of ours, or could be several.
  """
  signatures = [_rules(name).SIGNATURE for name in names()]
  keys = stripped(unwrap(state_dict), signatures).keys()
  found = [name for name in names() if keys >= set(_rules(name).SIGNATURE)]
  if len(found) != 1:
    what = f'could be {" or ".join(found)}' if found else f'are none of {", ".join(names())}'
    raise ValueError(f'these weights ({len(keys)} tensors) {what}; give the name of the network')
  return found[0]


def names() -> list[str]:
  """The networks whose published weights can be read."""
  files = {module.name for module in pkgutil.iter_modules(__path__)}
  return sorted(files & set(models.names()))


def license_of(name: str) -> str:
  """What the authors of `name`, a network or 'vgg19', say about the use of their weights."""
  return (vgg19 if name == vgg.NAME else _rules(name)).LICENSE


def open_torch(path: str | os.PathLike[str], key: str = '') -> dict[str, np.ndarray]:
  """The state dict in a torch file, as numpy arrays; runs no code from the file.

  `key` chooses one of several, see `unwrap`.

  Raises:
    ImportError: torch is not installed.
    ValueError: the file is not a torch file, is damaged, or holds more than tensors and plain
      values or no state dict.
  """
  try:
    import torch  # pyright: ignore[reportMissingImports]  # an extra
  except ImportError as error:
    raise ImportError(
      f"torch is needed to open {path}: pip install 'deblur-jax[convert]'"
    ) from error
  try:
    content = torch.load(path, map_location='cpu', weights_only=True)
  except (FileNotFoundError, PermissionError, IsADirectoryError):
    raise
  except Exception as error:  # torch raises many kinds, OSError for a file that is cut short
    if 'global' in str(error).lower():  # the names of Python objects in a pickle
      raise ValueError(
        f'{path} holds more than plain weights, and reading that could run code: refused; '
        'save the state_dict alone'
      ) from error
    raise ValueError(
      f'{path} is not a torch file, or is damaged or cut short: download it again'
    ) from error
  try:
    return unwrap(content, key)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def open_tensorflow(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The variables in a TensorFlow checkpoint: 'deblur.model-523000', or that with '.index'.

  Raises:
    ImportError: TensorFlow is not installed.
    ValueError: there is no checkpoint of that name, or it is damaged.
  """
  try:
    import tensorflow  # pyright: ignore[reportMissingImports, reportMissingModuleSource]  # an extra
  except ImportError as error:
    raise ImportError(f'TensorFlow is needed to open {path}: pip install tensorflow') from error
  try:
    reader = tensorflow.train.load_checkpoint(os.fspath(path).removesuffix('.index'))
    kinds = reader.get_variable_to_dtype_map()
    return {name: reader.get_tensor(name) for name, kind in kinds.items() if kind.is_floating}
  except (ValueError, RuntimeError, tensorflow.errors.OpError) as error:
    raise ValueError(f'{path} is not a TensorFlow checkpoint: {error}') from error


def open_keras(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The arrays in a Keras file (HDF5), by their names joined.

  Raises:
    ImportError: h5py is not installed.
    ValueError: the file is no HDF5 file.
  """
  try:
    import h5py  # pyright: ignore[reportMissingImports]  # installed by who needs it
  except ImportError as error:
    raise ImportError(f'h5py is needed to open {path}: pip install h5py') from error
  found = {}
  try:
    with h5py.File(path) as file:
      file.visititems(
        lambda name, item: found.update({name: item[()]} if hasattr(item, 'shape') else {})
      )
  except OSError as error:
    raise ValueError(f'{path} is not an HDF5 file, or is damaged') from error
  return found


def open_numpy(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The arrays in a .npz file. Raises ValueError where it is none, or holds Python objects."""
  try:
    with np.load(path) as file:
      return dict(file)
  except (ValueError, OSError, zipfile.BadZipFile) as error:
    raise ValueError(f'{path} is not a .npz file of arrays, or is damaged') from error


def open_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The arrays in a .safetensors file. Raises ValueError if it is none, or is damaged."""
  try:
    return safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(f'{path} is not a .safetensors file, or is damaged: {error}') from error


def _rules(name: str):
  if name not in names():
    raise ValueError(f'no conversion for {name!r}; there are: {", ".join(names())}')
  return importlib.import_module(f'{__name__}.{name}')


def _convert(state, rules):
  """Parameters under our names and in our layouts, nested."""
  found = {}
  for key, value in state.items():
    try:
      path, value = _place(key, value, rules)
    except ValueError as error:  # numpy's, of axes that are not there
      raise weights.DoesNotFit(f'{key} has an impossible shape, {list(value.shape)}') from error
    if path in found and not np.array_equal(found[path], value):
      raise weights.DoesNotFit(f'{key} differs from another tensor that must be the same parameter')
    found[path] = value
  return traverse_util.unflatten_dict(found, sep='/')


def _place(key, value, rules):
  """The path and the value of one of our parameters, by the rules of a network."""
  if hasattr(rules, 'entry'):
    return rules.entry(key, value)
  return _entry(key, value, getattr(rules, 'RULES', ()), getattr(rules, 'TRANSPOSED', r'(?!)'))


def _entry(key, value, rules, transposed):
  """The path and the value of one of our parameters, for one of torch's."""
  name = key
  for pattern, replacement in rules:
    name = re.sub(pattern, replacement, name)
  *modules, leaf = re.sub(r'\.(?=\d)', '_', name).split('.')
  if leaf == 'weight' and value.ndim == 4:
    leaf = 'kernel'
    if re.fullmatch(transposed, '.'.join(key.split('.')[:-1])):
      value = value.transpose(2, 3, 0, 1)[::-1, ::-1]  # IOHW, and slid over the output
    else:
      value = value.transpose(2, 3, 1, 0)  # OIHW
  elif leaf == 'weight' and value.ndim == 2:
    leaf, value = 'kernel', value.T
  elif leaf == 'weight':
    leaf = 'scale'
  elif leaf == 'negative_slope':  # [1]
    value = value.reshape(())
  elif value.ndim == 4:  # a scale for each channel, [1 c 1 1]
    value = value.reshape(-1)
  return '/'.join([*modules, leaf]), np.asarray(value, order='C')
