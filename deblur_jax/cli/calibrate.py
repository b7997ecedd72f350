"""`deblur-jax calibrate`: weights that know how far their results may be off."""

import argparse
import pathlib

from deblur_jax.cli import values

CROP = 256


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax calibrate`."""
  parser = commands.add_parser(
    'calibrate',
    help='measure how far results may be off',
    description='Restores pictures whose sharp versions are known, and writes a copy of the '
    'weights with a calibration, for restore --uncertainty: intervals that, with a stated '
    'confidence, hold a stated share of the values of new pictures that are blurred like these.',
  )
  parser.add_argument('weights', help="weights by name, a run's folder, or a .safetensors file")
  parser.add_argument('-o', '--output', required=True, metavar='OUT.safetensors')
  parser.add_argument(
    '--pairs',
    required=True,
    metavar='SET',
    help='pairs:FOLDER, or a folder of sharp pictures, which are blurred for this, all of which '
    'are used; or the test part of any set of benchmark. The weights must not know them',
  )
  parser.add_argument('--blur', metavar='MIX', help='how to blur sharp pictures')
  parser.add_argument(
    '--draws',
    type=values.positive,
    default=1,
    metavar='N',
    help='how often each sharp picture is used, blurred differently (default: 1)',
  )
  parser.add_argument(
    '--risk',
    type=values.share,
    default=0.1,
    help='largest share of values outside their intervals (default: 0.1)',
  )
  parser.add_argument(
    '--delta',
    type=values.share,
    default=0.1,
    help='probability that the pictures mislead (default: 0.1)',
  )
  parser.set_defaults(run=_calibrate)


def _calibrate(arguments: argparse.Namespace) -> int:
  output = pathlib.Path(arguments.output)
  if output.suffix != '.safetensors':
    raise ValueError(f'{output}: name it .safetensors')
  if not output.parent.is_dir():
    raise FileNotFoundError(f'{output.parent}: no such folder')
  if not 0 < arguments.risk < 1 or not 0 < arguments.delta < 1:
    raise ValueError('--risk and --delta must be between 0 and 1')

  from rich.progress import track

  from deblur_jax import methods, weights
  from deblur_jax.data import sources
  from deblur_jax.evaluation import blurred_set
  from deblur_jax.photos import restorer
  from deblur_jax.uncertainty import conformal

  path = methods.find(arguments.weights)
  if path.suffix in methods.EXPORTED:
    raise ValueError(f'{path}: calibrate the weights, not an exported file')
  network = restorer.load(path)
  named = values.picture_set(arguments.pairs)
  pictures = blurred_set.open_set(
    **named,
    split='all' if named['source'] in ('pairs', 'sharp') else 'test',
    crop=network.method.needs.square(CROP),
    draws=arguments.draws,
    **({'blur': arguments.blur} if arguments.blur else {}),
  )
  conformal.largest_loss(len(pictures), arguments.risk, arguments.delta)  # before any work
  ratios = [
    network.ratios(pictures[i]['blurred'], pictures[i]['sharp'])
    for i in track(range(len(pictures)), 'restoring', transient=True)
  ]
  digest = sources.digest(pictures.source) or named['source']
  found = conformal.calibrate(ratios, risk=arguments.risk, delta=arguments.delta, data=digest)
  weights.annotate(path, output, uncertainty=found._asdict())
  inside = sum(conformal.coverage(one, found.scale) for one in ratios) / len(ratios)
  print(f'{output}: calibrated on {len(ratios)} pictures')
  print(
    f'intervals of {found.scale:.2f} times the spread hold {inside:.1%} of the values here, and '
    f'with {1 - found.delta:.0%} confidence at least {1 - found.risk:.0%} of those of new pictures'
  )
  return 0
