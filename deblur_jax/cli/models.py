"""`deblur-jax models`: weights and networks that there are."""

import argparse
from collections.abc import Iterator, Mapping
import pathlib
import textwrap
from typing import Any

WIDTH = 80


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax models`."""
  parser = commands.add_parser(
    'models',
    help='list weights and networks',
    description='Lists the weights that come with the package, those that were trained here, and '
    'every network in every size.',
  )
  parser.add_argument(
    '--runs', default='runs', metavar='FOLDER', help='where runs were trained (runs)'
  )
  parser.set_defaults(run=_models)


def _models(arguments: argparse.Namespace) -> int:
  from deblur_jax import convert, zoo

  print('Weights in the package (--weights NAME)')
  for name, path in zoo.shipped().items():
    _show_weights(name, path)
  if not zoo.shipped():
    print('  none')

  print(f'\nTrained, in {arguments.runs} (--weights {pathlib.Path(arguments.runs, "NAME")})')
  trained = sorted(pathlib.Path(arguments.runs).glob(f'*/{zoo.RUN_WEIGHTS}'))
  for path in trained:
    _show_weights(path.parent.name, path)
  if not trained:
    print('  none')

  print('\nPublished PyTorch weights that can be converted: ' + ', '.join(convert.names()))
  print('  under the licenses of their authors; see deblur_jax/convert')

  print('\nNetworks')
  print(f'  {"network":<20}{"variant":<16}{"parameters":>12}{"sides":>12}   tiles')
  for line in _networks():
    print(line, flush=True)
  print('sides: of which multiple they must be (padding sees to it)')
  print('tiles: whether they give exactly what the whole picture would')
  return 0


def _show_weights(name: str, path: pathlib.Path) -> None:
  """Prints what is known of a weights file: a line, and its scores below."""
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
  facts += [f'{score} {value:.4g}' for score, value in _scores(manifest.get('scores', {}))]
  print(textwrap.fill(f'  {name:<20}{", ".join(facts)}', WIDTH, subsequent_indent=' ' * 22))


def _networks() -> Iterator[str]:
  """A line for every variant of every network, but those that only tests use."""
  import importlib

  from deblur_jax import models, zoo

  for name in models.names():
    for variant in importlib.import_module(f'deblur_jax.models.{name}').VARIANTS:
      if variant == 'smoke':
        continue
      model = models.make(name, variant)
      count, needs = _count(zoo.shapes(model)), model.needs
      yield f'  {name:<20}{variant:<16}{count:>12,}{needs.multiple:>12}   {needs.tiling}'


def _count(params: Any) -> int:
  """How many numbers a nested dict of arrays or shapes holds."""
  if isinstance(params, Mapping):
    return sum(map(_count, params.values()))
  return params.size


def _scores(scores: Mapping[str, Any], before: str = '') -> Iterator[tuple[str, float]]:
  """(name, value) of scores in dicts within dicts."""
  for name, value in scores.items():
    if isinstance(value, Mapping):
      yield from _scores(value, f'{before}{name}/')
    elif isinstance(value, int | float):
      yield f'{before}{name}', value
