"""Restores a photograph in Python: a network, and deconvolution with a known PSF.

  python examples/restore_photograph.py [PHOTO] [--weights general] [--radius 3]

The photograph, one of scikit-image's by default, is put out of focus in linear light, with a little
noise, so that the results can be scored against it. Writes restore_photograph.webp: blurred,
restored by the network, restored by total variation, original.
"""

import argparse

import jax
import numpy as np
import PIL.Image
from skimage import data

import deblur_jax
from deblur_jax.blur import kernels, synthesis
from deblur_jax.metrics import METRICS


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('photo', nargs='?', help="a sharp photograph (scikit-image's coffee)")
  parser.add_argument('--weights', default='general')
  parser.add_argument('--radius', type=float, default=3.0, help='of the blur, in pixels')
  parser.add_argument('--side', type=int, default=256, help='of the square that is restored')
  parser.add_argument('--output', default='restore_photograph.webp')
  arguments = parser.parse_args()

  image = np.asarray(PIL.Image.open(arguments.photo)) if arguments.photo else data.coffee()
  top, left = (np.array(image.shape[:2]) - arguments.side) // 2
  sharp = image[top:, left:][: arguments.side, : arguments.side, :3]

  # What a camera does: blur in linear light, noise, 8 bits.
  degrade = synthesis.parse(f'disk({arguments.radius}) | noise(0.005)')
  blurred = degrade(jax.random.key(0), sharp[None].astype(np.float32) / 255)[0]
  blurred = np.round(255 * np.asarray(blurred)).astype(np.uint8)

  # A network infers the blur; a classical method has to be given the PSF.
  network = deblur_jax.load(arguments.weights)
  size = 2 * int(np.ceil(arguments.radius)) + 1
  psf = np.asarray(kernels.disk(arguments.radius, size))
  deconvolution = deblur_jax.load('total_variation', psf=psf)

  results = {
    'blurred': blurred,
    arguments.weights: network(blurred),
    'total_variation': deconvolution(blurred),
  }
  for name, result in results.items():
    pair = (picture.astype(np.float32) / 255 for picture in (result, sharp))
    print(f'{name:16} {METRICS["psnr"](*pair):.2f} dB')
  shown = np.concatenate([*results.values(), sharp], axis=1)
  PIL.Image.fromarray(shown).save(arguments.output, quality=85)


if __name__ == '__main__':
  main()
