"""`deblur-jax quantize`: a network as an ONNX file in INT8."""

import argparse
import pathlib

from deblur_jax.cli import values

CROP = 256


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax quantize`."""
  parser = commands.add_parser(
    'quantize',
    help='write a network as ONNX in INT8',
    description='Writes a network as an ONNX file that computes in INT8, calibrated on your '
    'pictures: a third of the size, and faster on processors with instructions for INT8. The file '
    'is only written if it loses little on pictures that were not used for calibration.',
  )
  parser.add_argument(
    'weights', help="weights by name, a run's folder, a .safetensors file, or an .onnx file"
  )
  parser.add_argument('-o', '--output', required=True, metavar='FILE.onnx', help='what to write')
  parser.add_argument(
    '--calibrate',
    required=True,
    metavar='FOLDER',
    help='sharp pictures, which are blurred for this, or pairs:FOLDER, or any set of benchmark; a '
    'tenth, or what is in test/, is held out to measure the loss',
  )
  parser.add_argument('--blur', metavar='MIX', help='how to blur sharp pictures')
  parser.add_argument(
    '--max-loss',
    type=float,
    default=0.2,
    metavar='DB',
    help='loss that is accepted, in dB of PSNR (default: 0.2); layers that cost most stay in float',
  )
  parser.add_argument(
    '--crops',
    type=values.positive,
    default=32,
    metavar='N',
    help='most pictures to calibrate with, of each a square of 256 pixels (default: 32)',
  )
  parser.set_defaults(run=_quantize)


def _quantize(arguments: argparse.Namespace) -> int:
  output = pathlib.Path(arguments.output)
  if output.suffix != '.onnx':
    raise ValueError(f'{output}: name it .onnx')
  if not output.parent.is_dir():
    raise FileNotFoundError(f'{output.parent}: no such folder')

  from deblur_jax import export, exported, methods
  from deblur_jax.compress import quantize
  from deblur_jax.export import onnx

  quantize.check_installed()
  source = methods.find(arguments.weights)
  if source.suffix == '.stablehlo':
    raise ValueError(f'{source}: only ONNX files and weights can be quantized')
  temporary = request = None
  if source.suffix != '.onnx':
    request = export.of_weights(arguments.weights)
  needs = request.needs if request else exported.open_onnx(source).needs
  side = needs.square(CROP)
  calibration, held_out = _crops(arguments, side)  # before the export, which takes long
  try:
    if request:
      temporary = source = output.with_name(f'.{output.name}.float.onnx')
      print(f'exporting {arguments.weights} to ONNX', flush=True)
      onnx.write(temporary, request)
    print(f'calibrating with {len(calibration)} crops of {side}x{side}', flush=True)
    found = quantize.write(source, output, calibration, held_out, max_loss=arguments.max_loss)
    size = source.stat().st_size
  finally:
    if temporary:
      temporary.unlink(missing_ok=True)
  print(f'{output}: {output.stat().st_size / 1e6:.1f} MB, in float {size / 1e6:.1f} MB')
  print(
    f'{len(held_out)} held-out crops: {found.psnr:.2f} dB, in float {found.psnr_before:.2f} dB'
    f' ({-found.loss:+.2f})'
  )
  print(f'{len(found.in_float)} of {found.layers} layers in float: {", ".join(found.in_float)}')
  return 0


def _crops(arguments: argparse.Namespace, side: int):
  """(calibration, held-out) crops of the set that --calibrate names."""
  from deblur_jax.compress import quantize
  from deblur_jax.evaluation import blurred_set

  pictures = values.picture_set(arguments.calibrate)
  blur = {'blur': arguments.blur} if arguments.blur else {}
  return [
    quantize.crops(
      blurred_set.open_set(**pictures, split=split, crop=side, limit=arguments.crops, **blur)
    )
    for split in ('train', 'test')
  ]
