"""`deblur-jax blur`: makes a paired data set from sharp pictures."""

import argparse
import collections
import pathlib
import sys
import time

from deblur_jax.cli import values

MIX = (
  'shake(9..31) or motion(5..25) or bokeh(2..6) or camera or objects'
  ' | poisson | saturate | jpeg(80..95)'
)


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax blur`."""
  parser = commands.add_parser(
    'blur',
    help='make a data set of blurred and sharp pairs',
    description='Makes blurred and sharp pairs from sharp pictures, or from films: '
    'OUT/{train,test}/FOLDER/{blur,sharp}/*.png, always 8 bit, and OUT/manifest.jsonl, which '
    'records how each was made. Pairs already in OUT are skipped, so running the same command '
    'again finishes the job. To train on them: python -m deblur_jax.main --config=nafnet:pairs '
    '--config.data.directory=OUT',
    epilog="In a mix, | separates steps, 'or' separates alternatives, and 9..31 is a range. Steps: "
    'shake, motion, disk, bokeh, gaussian, camera, objects, turbulence, sharp, saturate, noise, '
    'poisson, quantize, jpeg. Default mix: ' + MIX,
  )
  parser.add_argument(
    'inputs', nargs='+', metavar='FILE_OR_FOLDER', help='pictures, or folders, searched recursively'
  )
  parser.add_argument(
    '-o', '--output', required=True, metavar='OUT', help='folder for the data set'
  )
  parser.add_argument(
    '--test',
    type=values.share,
    default=0.1,
    metavar='SHARE',
    help='share to hold out for testing, unless already in folders train and test (default: 0.1)',
  )
  mixed = parser.add_argument_group('pictures, blurred by a mix')
  mixed.add_argument('--mix', metavar='TEXT', help='how to blur, see below')
  mixed.add_argument('--seed', type=_whole, metavar='N', help='random seed (default: 0)')
  mixed.add_argument(
    '--copies', type=values.positive, metavar='N', help='pairs per picture (default: 1)'
  )
  films = parser.add_argument_group('films: folders of high-speed frames to average')
  films.add_argument(
    '--frames',
    type=values.positive,
    metavar='N',
    help='frames to average per pair, an odd number; the middle one is sharp',
  )
  films.add_argument(
    '--step',
    type=values.positive,
    metavar='N',
    help='frames from one pair to the next (default: as --frames)',
  )
  films.add_argument(
    '--response',
    choices=('linear', 'gamma'),
    help='average the file values (linear), or light by a gamma of 2.2 (default: linear)',
  )
  parser.set_defaults(run=_blur)


def _blur(arguments: argparse.Namespace) -> int:
  from deblur_jax import sharding, writers
  from deblur_jax.pair_making import make, plan

  options = vars(arguments)
  wrong = ('mix', 'seed', 'copies') if arguments.frames else ('step', 'response')
  for name in wrong:
    if options[name] is not None:
      problem = 'cannot be used with' if arguments.frames else 'requires'
      raise ValueError(f'--{name} {problem} --frames')
  output = pathlib.Path(arguments.output)
  if output.exists() and not output.is_dir():
    raise ValueError(f'{output}: -o must be a folder, but this is a file')
  if arguments.frames:
    recipe = make.Film(arguments.frames, arguments.response or 'linear')
    step = arguments.step or arguments.frames
    jobs = plan.films(
      arguments.inputs, output, frames=arguments.frames, step=step, test=arguments.test
    )
  else:
    recipe = make.Mix(MIX if arguments.mix is None else arguments.mix, arguments.seed or 0)
    jobs = plan.pictures(
      arguments.inputs, output, test=arguments.test, copies=arguments.copies or 1
    )
  if not jobs:
    raise ValueError(f'no pictures in {", ".join(arguments.inputs)}')
  sharding.keep_compiled()
  begin, counts = time.monotonic(), collections.Counter()
  for outcome in writers.track(make.pairs(jobs, output, recipe), 'blurring', total=len(jobs)):
    counts[outcome.status] += 1
    if outcome.status == 'failed':
      print(outcome.message, file=sys.stderr, flush=True)
    elif outcome.status == 'made' and not sys.stdout.isatty():
      print(f'{outcome.job.name} -> {outcome.message}', flush=True)
  summary = [f'{counts["made"]} pairs made']
  summary += [f'{counts["skipped"]} skipped (already there)'] if counts['skipped'] else []
  summary += [f'{counts["failed"]} failed'] if counts['failed'] else []
  print(f'{", ".join(summary)} in {time.monotonic() - begin:.1f} s -> {output}')
  return 1 if counts['failed'] else 0


def _whole(text: str) -> int:
  if not text.isdecimal() or int(text) >= 2**32:
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 0 to 4294967295')
  return int(text)
