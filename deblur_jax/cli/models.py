"""`deblur-jax models`: lists the available weights and networks."""

import argparse
from collections.abc import Iterator, Mapping
import pathlib
import textwrap
from typing import Any

from deblur_jax import methods

WIDTH = 80

LIST = pathlib.Path(__file__).with_name('models.txt')
"""The part of the list that is slow to compute and always the same; see `tools/list_models.py`."""


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax models`."""
  parser = commands.add_parser(
    'models',
    help='list weights and networks',
    description='Lists the weights that come with the package, your trained weights, classical '
    'methods, and all networks with their variants; or the manifest of one weights file.',
  )
  parser.add_argument(
    '--weights',
    metavar='FILE',
    help="print the manifest of these weights: a name, a run's folder or a .safetensors file; "
    'network, scores, how they were chosen, and the command, settings, code and data behind them',
  )
  parser.add_argument(
    '--runs', default='runs', metavar='FOLDER', help='folder of your training runs (default: runs)'
  )
  parser.set_defaults(run=_models)


def _models(arguments: argparse.Namespace) -> int:
  return _manifest(arguments.weights) if arguments.weights else _everything(arguments)


def _manifest(name: str) -> int:
  """Prints the whole manifest of some weights, nested."""
  from deblur_jax import weights

  path = methods.find(name)
  params, manifest = weights.read(path)
  print(f'{path}: {_count(params):,} parameters, {path.stat().st_size / 1e6:.1f} MB')
  for line in _lines(manifest, '  '):
    print(line)
  return 0


def _lines(entries: Mapping[str, Any], indent: str) -> Iterator[str]:
  for name, value in entries.items():
    if isinstance(value, Mapping) and value:
      yield f'{indent}{name}:'
      yield from _lines(value, indent + '  ')
    else:
      yield f'{indent}{name}: {value}'


def _everything(arguments: argparse.Namespace) -> int:
  print('Weights in the package (--weights NAME)')
  for name, path in methods.shipped().items():
    _show_weights(name, path)
  if not methods.shipped():
    print('  none')

  print(f'\nTrained, in {arguments.runs} (--weights {pathlib.Path(arguments.runs, "NAME")})')
  trained = sorted(pathlib.Path(arguments.runs).glob(f'*/{methods.RUN_WEIGHTS}'))
  for path in trained:
    _show_weights(path.parent.name, path)
  if not trained:
    print('  none')

  print()
  print(LIST.read_text(), end='')
  return 0


def _show_weights(name: str, path: pathlib.Path) -> None:
  """Prints a line about a weights file, and its scores below."""
  from deblur_jax import weights

  try:
    params, manifest = weights.read(path)
  except ValueError as error:
    print(f'  {name}: {str(error).partition(": ")[2]}')
    return
  size = f'{path.stat().st_size / 1e6:.1f} MB'
  facts = [str(manifest.get('network', '?')), f'{_count(params):,} parameters', size]
  steps = manifest.get('steps', manifest.get('step'))
  facts += [f'{steps:,} steps'] if isinstance(steps, int) else []
  facts += [str(manifest['license'])] if manifest.get('license') else []
  indent = ' ' * 22
  print(textwrap.fill(f'  {name:<20}{", ".join(facts)}', WIDTH, subsequent_indent=indent))
  scores = list(_psnrs(manifest.get('scores', {}), manifest.get('blurred', {})))
  wide = max((len(kind) for kind, *_ in scores), default=0)
  for kind, value, blurred in scores:
    beside = f', blurred {blurred:.2f}' if blurred else ''
    print(f'      {kind:<{wide}}  {value:>5.2f} dB{beside}')


def _count(params: Any) -> int:
  """The total size of a nested dict of arrays or shapes."""
  if isinstance(params, Mapping):
    return sum(map(_count, params.values()))
  return params.size


def _psnrs(
  scores: Mapping[str, Any], blurred: Mapping[str, float]
) -> Iterator[tuple[str, float, float | None]]:
  """(set, PSNR, that of the blurred pictures or None) of the scores in a manifest.

  They are a table's, {SET: {'psnr': value, 'blurred': value}}, or a run's, {'SET/psnr': value} with
  the same names in `blurred`.
  """
  for name, value in scores.items():
    if isinstance(value, Mapping) and 'psnr' in value:
      yield name, value['psnr'], value.get('blurred')
    elif name.endswith('/psnr'):
      yield name.removesuffix('/psnr'), value, blurred.get(name)
