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
    'confidence, hold a stated share of the values of new pictures that are blurred like these, '
    'and the probability that a result is better than its input.',
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
    '--spread',
    default='turns',
    metavar='OF',
    help='what intervals are made of: turns, the differences between eight orientations (default); '
    'stages of the network, which cost nothing; samples of one that draws them; dropout; the head '
    'of a network trained with one; '
    'or names of other weights, separated by commas, that form an ensemble with these',
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
  from deblur_jax.photos import restorer, trust
  from deblur_jax.uncertainty import conformal

  path = methods.find(arguments.weights)
  if path.suffix in methods.EXPORTED:
    raise ValueError(f'{path}: calibrate the weights, not an exported file')
  network = restorer.load(path, spread_of=arguments.spread)
  named = values.picture_set(arguments.pairs)
  pictures = blurred_set.open_set(
    **named,
    split='all' if named['source'] in ('pairs', 'sharp') else 'test',
    crop=network.method.needs.square(CROP),
    draws=arguments.draws,
    **({'blur': arguments.blur} if arguments.blur else {}),
  )
  conformal.largest_loss(len(pictures), arguments.risk, arguments.delta)  # before any work
  judged = trust.judge(network, pictures)
  judged = list(track(judged, 'restoring', total=len(pictures), transient=True))
  digest = sources.digest(pictures.source) or named['source']
  found = trust.calibrated(
    judged, risk=arguments.risk, delta=arguments.delta, data=digest, spread_of=arguments.spread
  )
  weights.annotate(path, output, **found.plain())
  print(f'{output}: calibrated on {len(judged)} pictures')
  print(trust.describe(found, judged))
  return 0
