"""`deblur-jax prune`: a narrower network from the most useful channels of a trained one."""

import argparse
import pathlib

from deblur_jax.cli import values

SUFFIX = '.safetensors'


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax prune`."""
  parser = commands.add_parser(
    'prune',
    help='make a NAFNet or MAXIM smaller',
    description='Removes the least useful channels of a trained NAFNet or MAXIM. The result is a '
    'plain, narrower network that all other commands take; train it on with '
    'python -m deblur_jax.main --config.start=OUT to recover most of the quality.',
  )
  parser.add_argument('weights', help='weights by name, a run, or a .safetensors file')
  parser.add_argument(
    '-o', '--output', required=True, metavar='OUT.safetensors', help='file to write'
  )
  parser.add_argument(
    '--keep',
    type=values.share,
    required=True,
    metavar='SHARE',
    help='share of the parameters to keep, such as 0.25; the nearest possible width is used',
  )
  parser.add_argument(
    '--pictures',
    metavar='FOLDER',
    help='sharp pictures to score channels on, by how much the restored pictures would change '
    'without them; otherwise channels are scored by the magnitude of their weights',
  )
  parser.add_argument(
    '--blur',
    metavar='MIX',
    help='blur to add to the pictures, such as that of the training: '
    "'gaussian(0.5..3) | noise(0..0.02)'",
  )
  parser.add_argument(
    '--set',
    action='append',
    default=[],
    metavar='ARGUMENT=VALUE',
    help='an argument of the network before pruning: stages=1 of maxim',
  )
  parser.set_defaults(run=_prune)


def _prune(arguments: argparse.Namespace) -> int:
  output = pathlib.Path(arguments.output)
  if output.suffix != SUFFIX:
    raise ValueError(f'{output}: name it {SUFFIX}')
  if not output.parent.is_dir():
    raise FileNotFoundError(f'{output.parent}: no such folder')
  if arguments.blur is not None and arguments.pictures is None:
    raise ValueError('--blur requires --pictures')

  from deblur_jax.compress import prune

  blur = {} if arguments.blur is None else {'blur': arguments.blur}
  pruned = prune.file(
    arguments.weights,
    output,
    keep=arguments.keep,
    pictures=arguments.pictures,
    settings=values.settings(arguments.set),
    **blur,
  )
  share = pruned.after / pruned.before
  print(
    f'{output}: {pruned.after:,} of {pruned.before:,} parameters ({share:.1%}), {pruned.change}'
  )
  print(f'to recover quality, train it: the config of the original with --config.start={output}')
  return 0
