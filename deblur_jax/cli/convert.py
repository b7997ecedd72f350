"""`deblur-jax convert`: published weights as a file of this program."""

import argparse
import functools
import glob
import hashlib
import pathlib
import re
from typing import Any

from deblur_jax.cli import values

SUFFIX = '.safetensors'


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax convert`."""
  parser = commands.add_parser(
    'convert',
    help='convert published weights',
    description='Converts weights that authors have published (PyTorch, for SRN TensorFlow, for '
    'MAXIM Flax) into a .safetensors file that all other commands take, or stores such a file as '
    'another type. Runs no code out of the files.',
  )
  parser.add_argument(
    'inputs',
    nargs='+',
    metavar='IN',
    help='the file, or all files of a network that comes in parts (DMPHN), or a TensorFlow '
    'checkpoint by its name or one of its files',
  )
  parser.add_argument('output', metavar='OUT.safetensors', help='what to write')
  parser.add_argument(
    '--network',
    metavar='NAME',
    help='which network they are of, if that cannot be inferred; vgg19, for perceptual losses',
  )
  parser.add_argument(
    '--key',
    default='',
    metavar='NAME',
    help='which state dict of a torch file with several: generator, state_dict.net_g',
  )
  parser.add_argument(
    '--set',
    action='append',
    default=[],
    metavar='ARGUMENT=VALUE',
    help='a constructor argument that cannot be read off the weights (relu_slope=0.1)',
  )
  parser.add_argument(
    '--license',
    metavar='TEXT',
    help='of the weights; by default that of the authors if the file is recognized as published by '
    "them by its SHA-256, else 'unknown'",
  )
  parser.add_argument(
    '--dtype',
    choices=('float32', 'float16', 'bfloat16', 'int8'),
    help='what to store the weights as; smaller files restore at the same speed: int8 has a '
    'quarter of the size and costs hundredths of a dB',
  )
  parser.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> int:
  from deblur_jax import convert, weights
  from deblur_jax.convert import vgg19
  from deblur_jax.nn import vgg

  output = pathlib.Path(arguments.output)
  if output.suffix != SUFFIX:
    raise ValueError(f'{output}: the last name is that of the file to write, NAME{SUFFIX}')
  if not output.parent.is_dir():
    raise FileNotFoundError(f'{output.parent}: no such folder to write to')
  if len(arguments.inputs) == 1 and weights.is_ours(arguments.inputs[0]):
    return _store_again(arguments, output)
  paths = [_checkpoint(pathlib.Path(path)) for path in arguments.inputs]
  settings, variant = values.settings(arguments.set), ''
  try:
    state = _read(paths, arguments.key)
    name = arguments.network or convert.detect(state)
    if name == vgg.NAME:
      convert.check_finite(state)
      params, options = vgg19.parameters(state)
      options |= settings
    else:
      model, params = convert.from_torch(name, state, **settings)
      variant = convert.variant_of(name, model) or 'of no known variant'
      options = _arguments(model)
  except ImportError as error:
    raise ValueError(str(error)) from None
  source = {file.name: _digest(file) for path in paths for file in _files(path)}
  stated = arguments.license or convert.license_of_files(name, source.values())
  manifest = {'network': name, 'arguments': options, 'source': source, 'license': stated}
  weights.write(output, params, manifest, dtype=arguments.dtype)
  listed = ', '.join(f'{key} {value}' for key, value in options.items())
  print(f'{name} {variant}'.strip() + f': {listed}')
  theirs = (
    f" ({name}'s authors state {convert.license_of(name)} for their own weights; if these are "
  )
  theirs += 'theirs, pass --license)'
  print(f'license: {stated}{theirs if stated == convert.UNKNOWN else ""}')
  _verify(output, params)
  return 0


def _store_again(arguments: argparse.Namespace, output: pathlib.Path) -> int:
  """Stores weights of ours as another type; their manifest stays."""
  from deblur_jax import weights

  params, manifest = weights.read(arguments.inputs[0])
  weights.write(output, params, manifest, dtype=arguments.dtype)
  _verify(output, params)
  return 0


def _verify(output: pathlib.Path, params: Any) -> None:
  """Reads what was written, and prints its size and how far it is from `params`."""
  import jax
  import numpy as np

  from deblur_jax import weights

  pairs = zip(*map(jax.tree.leaves, (params, weights.read(output)[0])), strict=True)
  error, power = np.sum([(np.sum((a - b) ** 2), np.sum(np.square(a))) for a, b in pairs], axis=0)
  loss = f', off by {np.sqrt(error / power):.2%} (root mean square)' if error else ''
  print(f'{output}: {output.stat().st_size / 1e6:.1f} MB, read again and verified{loss}')


def _checkpoint(path: pathlib.Path) -> pathlib.Path:
  """`path`, or the index of TensorFlow's checkpoint that it is part of."""
  prefix = re.sub(r'\.data-\d+-of-\d+$', '', path.name)
  index = path.with_name(f'{prefix}.index')
  return index if index.is_file() and (prefix != path.name or not path.is_file()) else path


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  """The files that the weights are in: of TensorFlow's, the values beside the index."""
  beside = path.parent.glob(f'{glob.escape(path.stem)}.data-*') if path.suffix == '.index' else ()
  return [path, *sorted(beside)]


def _read(paths: list[pathlib.Path], key: str) -> dict[str, Any]:
  """The state dict in the files; of several, names begin with that of their file."""
  states = {}
  for path in paths:
    if not path.is_file():
      raise FileNotFoundError(f'{path}: no such file')
    states[path.stem] = _opener(path.suffix, key)(path)
  if len(states) < len(paths):
    raise ValueError('two files have the same name: parts are distinguished by their names')
  if len(states) == 1:
    return next(iter(states.values()))
  return {f'{stem}.{name}': value for stem, one in states.items() for name, value in one.items()}


def _opener(suffix: str, key: str):
  from deblur_jax import convert

  openers = {
    '.index': convert.open_tensorflow,
    '.h5': convert.open_keras,
    '.npz': convert.open_numpy,
    SUFFIX: convert.open_safetensors,
  }
  if suffix in openers and key:
    raise ValueError(f'--key chooses out of torch files, not out of {suffix}')
  torch = functools.partial(convert.open_torch, key=key) if key else convert.open_torch
  return openers.get(suffix, torch)


def _arguments(model: Any) -> dict[str, Any]:
  """The constructor arguments of a network, as JSON has them; its dtype where one was given."""
  import dataclasses

  import numpy as np

  names = [field.name for field in dataclasses.fields(model)]
  found = {name: getattr(model, name) for name in names if name not in ('parent', 'name', 'dtype')}
  dtype = np.dtype(model.dtype).name
  return found if dtype == 'float32' else found | {'dtype': dtype}


def _digest(path: pathlib.Path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
