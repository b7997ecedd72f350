"""`deblur-jax benchmark`: compares methods on test sets."""

import argparse
import shlex
import sys


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax benchmark`."""
  parser = commands.add_parser(
    'benchmark',
    help='compare methods on test sets',
    description='Compares methods on test sets: PSNR and SSIM by the protocol of each set, '
    'parameters, multiply-adds, time and memory, as a table, CSV, Markdown and a figure. '
    'The blurred input itself is always included as "blurred". Results already in OUT are not '
    'measured again, so running the same command again finishes the job.',
  )
  parser.add_argument(
    'methods',
    nargs='*',
    metavar='METHOD',
    help="shipped weights by name, a run's folder, a .safetensors file, or wiener, richardson_lucy "
    'or total_variation, which are given the PSF if a single one made the blur',
  )
  parser.add_argument(
    '--sets',
    default='builtin',
    metavar='SET,...',
    help='SOURCE or SOURCE:DIRECTORY, as in a config: builtin, pairs:DIR, gopro/blur, ...; '
    'held-out pictures are used; append @PROTOCOL to score by another protocol',
  )
  parser.add_argument('-o', '--output', required=True, metavar='OUT', help='folder for the results')
  parser.add_argument(
    '--blur', metavar='MIX', help='how to blur sharp pictures (default: as in the configs)'
  )
  parser.add_argument(
    '--metrics', metavar='NAME|...', help='metrics to add; package.module:name for an external one'
  )
  parser.add_argument(
    '--uncertainty',
    action='store_true',
    help='also measure how well the uncertainty of methods that are calibrated (see deblur-jax '
    'calibrate) holds: coverage, width and AUSE of intervals, calibration error of the reliability',
  )
  parser.add_argument(
    '--lpips', metavar='FILE', help='weights of LPIPS (see deblur_jax/metrics/perceptual.py)'
  )
  parser.add_argument('--dists', metavar='FILE', help='weights of DISTS (see the same file)')
  parser.set_defaults(run=_benchmark)


def _benchmark(arguments: argparse.Namespace) -> int:
  from rich.console import Console

  from deblur_jax import benchmark

  settings = {name: getattr(arguments, name) for name in ('blur', 'metrics', 'lpips', 'dists')}
  plan = benchmark.plan(
    arguments.methods,
    arguments.sets.split(','),
    arguments.output,
    **{name: value for name, value in settings.items() if value},
  )
  console = Console(highlight=False)

  def say(message) -> None:
    console.print(message, soft_wrap=isinstance(message, str), markup=False)

  command = shlex.join(['deblur-jax', *sys.argv[1:]])
  failed = benchmark.run(plan, say, command=command)
  if arguments.uncertainty:
    from deblur_jax.photos import assessment

    assessment.run(plan.methods, plan.sets, plan.output, say)
  return 1 if failed else 0
