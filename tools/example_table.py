"""How close `restore --example` brings pictures to examples: the table in docs/guidance.md.

  python tools/example_table.py EXAMPLES KODAK

Ten pairs: the middle 160 pixels of a picture of KODAK, blurred by a Gaussian and with noise, and
the middle 320 pixels of another photograph, of EXAMPLES, both in the order of their names.
"""

import argparse
import dataclasses
import itertools
import pathlib

import cv2
import numpy as np
import PIL.Image

from deblur_jax.guidance import example
from deblur_jax.photos import guided

SIGMAS, NOISES = (1.0, 1.2, 1.4, 1.6, 1.8), (0.01, 0.02, 0.03, 0.04)


def middle(path: pathlib.Path, side: int) -> np.ndarray:
  """The middle of a picture, uint8 `[side side 3]`."""
  image = np.asarray(PIL.Image.open(path).convert('RGB'))
  top, left = ((length - side) // 2 for length in image.shape[:2])
  return image[top : top + side, left : left + side]


def main() -> None:
  """Prints a row for each pair, and the means."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('examples', type=pathlib.Path)
  parser.add_argument('pictures', type=pathlib.Path)
  parser.add_argument('--pairs', type=int, default=10)
  arguments = parser.parse_args()
  liked = sorted(arguments.examples.iterdir())[: arguments.pairs]
  rng, found, restorer = np.random.default_rng(1), [], guided.load(like=liked[0])
  settings = zip(itertools.cycle(SIGMAS), itertools.cycle(NOISES), strict=False)
  sharp = sorted(arguments.pictures.iterdir())
  for like, path, (sigma, noise) in zip(liked, sharp, settings, strict=False):
    image = cv2.GaussianBlur(middle(path, 160) / np.float32(255), (0, 0), sigma)
    image = np.clip(image + rng.normal(0, noise, image.shape), 0, 1)
    image = np.rint(255 * image).astype(np.uint8)
    wanted = example.look(middle(like, 320))
    result = dataclasses.replace(restorer, like=wanted)(image)
    found.append([wanted.distance(example.look(one)) for one in (image, result)])
    print(f'| {sigma} | {noise} | {found[-1][0]:.2f} | {found[-1][1]:.2f} |', flush=True)
  before, after = np.mean(found, 0)
  halved = sum(after <= before / 2 for before, after in found)
  print(f'mean {before:.2f} -> {after:.2f}; at least halved in {halved} of {len(found)}')


if __name__ == '__main__':
  main()
