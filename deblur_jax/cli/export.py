"""`deblur-jax export`: a network with its weights as a file that runs without this program."""

import argparse
import pathlib

from deblur_jax.cli import values

DARKTABLE = '.dtmodel'


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax export`."""
  parser = commands.add_parser(
    'export',
    help='write a network as ONNX or StableHLO',
    description='Writes a network with its weights as an ONNX or StableHLO file that runs without '
    'this program, compares the file with JAX, and prints the largest difference. --weights FILE '
    'restores with such a file.',
  )
  parser.add_argument('weights', help='weights by name, a run, or a .safetensors file')
  parser.add_argument(
    '-o',
    '--output',
    required=True,
    metavar='FILE',
    help='NAME.onnx, NAME.stablehlo or NAME.dtmodel (for darktable)',
  )
  parser.add_argument(
    '--size',
    type=values.size,
    default='any',
    metavar='HxW',
    help='height and width of the images (default: any multiple of what the network needs)',
  )
  parser.add_argument(
    '--batch', type=values.number_or_any, default=1, metavar='N', help='images at a time, or any'
  )
  parser.add_argument(
    '--dtype', choices=('float32', 'float16'), default='float32', help='of the computation'
  )
  parser.add_argument(
    '--layout', choices=('nhwc', 'nchw'), default='nhwc', help='of the images in an ONNX file'
  )
  parser.add_argument('--opset', type=int, default=17, help='of ONNX (default: 17)')
  parser.add_argument(
    '--set',
    action='append',
    default=[],
    metavar='ARGUMENT=VALUE',
    help='an argument of the network: stages=1 of maxim',
  )
  parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
  output = pathlib.Path(arguments.output)
  if output.suffix not in ('.onnx', '.stablehlo', DARKTABLE):
    raise ValueError(f'{output}: name it .onnx, .stablehlo or {DARKTABLE}')
  if not output.parent.is_dir():
    raise FileNotFoundError(f'{output.parent}: no such folder')
  if output.suffix != '.onnx' and (arguments.layout, arguments.opset) != ('nhwc', 17):
    raise ValueError('--layout and --opset are for ONNX files')
  if output.suffix == DARKTABLE and arguments.batch != 1:
    raise ValueError('darktable passes one image at a time: remove --batch')

  from deblur_jax import export
  from deblur_jax.export import onnx, stablehlo

  request = export.of_weights(
    arguments.weights,
    size=arguments.size,
    batch=arguments.batch,
    dtype=arguments.dtype,
    settings=values.settings(arguments.set),
  )
  if output.suffix == '.onnx':
    error = onnx.write(output, request, layout=arguments.layout, opset=arguments.opset)
  elif output.suffix == '.stablehlo':
    error = stablehlo.write(output, request)
  else:
    error = onnx.write_darktable(output, request)
  sides = request.needs.multiple
  taken = 'x'.join(map(str, request.size)) if request.size else f'any size in multiples of {sides}'
  print(f'{output}: {request.manifest["network"]}, {taken}, {output.stat().st_size / 1e6:.1f} MB')
  print(f'tried on three pictures: differs from JAX by at most {error:.1e}')
  return 0
