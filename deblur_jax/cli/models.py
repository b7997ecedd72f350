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
    description='Lists the weights that come with the package, those that were trained here, '
    'classical methods, and every network in every size; or all that is known of one file of '
    'weights.',
  )
  parser.add_argument(
    '--weights',
    metavar='FILE',
    help="print the manifest of these weights: a name, a run's folder or a .safetensors file; "
    'network, scores, how they were chosen, and the command, settings, code and data behind them',
  )
  parser.add_argument(
    '--runs', default='runs', metavar='FOLDER', help='where runs were trained (runs)'
  )
  parser.set_defaults(run=_models)


def _models(arguments: argparse.Namespace) -> int:
  return _manifest(arguments.weights) if arguments.weights else _everything(arguments)


def _manifest(name: str) -> int:
  """Prints all that the manifest of some weights holds, nested."""
  from deblur_jax import weights, zoo

  path = zoo.find(name)
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
  from deblur_jax import convert, solvers, zoo
  from deblur_jax.evaluators import published

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

  print('\nClassical methods, without weights (--weights NAME, most with --psf)')
  indent = ' ' * 2
  names = ', '.join(solvers.SOLVERS)
  print(textwrap.fill(names, WIDTH, initial_indent=indent, subsequent_indent=indent))

  print('\nPublished weights (deblur-jax convert): license; scores on GoPro, quoted')
  for name in convert.names():
    print(f'  {name:<13}{convert.license_of(name)}')
    for quoted in published.GOPRO.values():
      network, variant = quoted.ours or ('', '')
      if network == name:
        ssim = f'{quoted.ssim:.4f}' if quoted.ssim else ''
        print(f'  {"":<13}{variant:<14}{quoted.psnr:>6.2f} dB  {ssim:<8}{quoted.source}')

  print('\nNetworks')
  print(
    f'  {"network":<13}{"variant":<15}{"parameters":>11}{"GMACs":>9}{"sides":>7}{"field":>8}  tiles'
  )
  for line in _networks():
    print(line, flush=True)
  print('GMACs: billions of multiply-adds at 256x256, of convolutions and matrix products')
  print('sides: of which multiple they must be, or what they must be (padding sees to it)')
  print('field: receptive field, side of the square that a pixel depends on, or global')
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
  indent = ' ' * 22
  print(textwrap.fill(f'  {name:<20}{", ".join(facts)}', WIDTH, subsequent_indent=indent))
  for kind, value in _psnrs(manifest.get('scores', {})):
    print(f'{indent}{kind:<28}{value:>6.2f} dB')


def _networks() -> Iterator[str]:
  """A line for every variant of every network, but those that only tests use."""
  import jax

  from deblur_jax import models, tiling, zoo
  from deblur_jax.evaluators import costs

  for name in models.names():
    for variant in models.variants(name):
      if variant == 'smoke':
        continue
      model = models.make(name, variant)
      params, needs = zoo.shapes(model), model.needs
      image = jax.ShapeDtypeStruct((1, *[needs.square(costs.SMALL[0])] * 2, 3), 'float32')
      macs = costs.count_macs(
        lambda params, x, m=model: m.apply({'params': params}, x), params, image
      )
      gmacs = macs * tiling.count(*costs.SMALL, needs) / 1e9
      field = needs.field or 'global'
      yield (
        f'  {name:<13}{variant:<15}{_count(params):>11,}{gmacs:>9.2f}'
        f'{f"= {needs.side}" if needs.side else needs.multiple:>7}{field:>8}  {needs.tiling}'
      )


def _count(params: Any) -> int:
  """How many numbers a nested dict of arrays or shapes holds."""
  if isinstance(params, Mapping):
    return sum(map(_count, params.values()))
  return params.size


def _psnrs(scores: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
  """(set, PSNR) of a run's scores, {'SET/psnr': value}, or a table's, {SET: {'psnr': value}}."""
  for name, value in scores.items():
    if isinstance(value, Mapping) and 'psnr' in value:
      yield name, value['psnr']
    elif name.endswith('/psnr'):
      yield name.removesuffix('/psnr'), value
