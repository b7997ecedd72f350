"""Measures how often the diagnosis is right, on sharp pictures and on known blurs.

  python tools/diagnosis_table.py FOLDER [FOLDER ...] [--seed 0]

FOLDER holds sharp photographs. Drawn sharp pictures (stripes, a bar code, text, a night sky), which
must be called sharp or unclear, are added. Prints a Markdown table.
"""

import argparse
from collections.abc import Iterator
import pathlib

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import scipy.signal

from deblur_jax import color
from deblur_jax.blur import kernels
from deblur_jax.photos import diagnosis

SIDE = 480
"""Side in pixels of the part of each picture that is used, from its top left."""

NOISE = 0.01
"""Standard deviation, added to every second picture."""

SUFFIXES = ('.png', '.jpg', '.webp')
KINDS = {'gaussian': 'defocus', 'disk': 'defocus', 'motion': 'motion', 'sharp': 'sharp'}


def blurs() -> Iterator[tuple[str, np.ndarray | None, float]]:
  """Yields (name, kernel or None, size as the diagnosis measures it)."""
  yield 'sharp', None, 0.0
  for sigma in (1.0, 2.0, 4.0):
    yield f'gaussian {sigma:g}', np.asarray(kernels.gaussian(sigma, 33)), sigma
  for radius in (2.0, 5.0):
    yield f'disk {radius:g}', np.asarray(kernels.disk(radius, 13)), radius / 2
  for length, angle in ((9.0, 20.0), (15.0, 75.0), (25.0, 130.0)):
    yield f'motion {length:g}', np.asarray(kernels.motion(length, angle, 27)), length


def drawn(seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (name, sharp picture `[h w 3]` in [0, 1]) of drawings."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:SIDE, :SIDE]
  for name, plane in {
    'stripes': x // 8 % 2,
    'slanted stripes': (x + 2 * y) // 20 % 2,
    'bar code': np.repeat(rng.integers(0, 2, SIDE // 4), 4)[x],
    'checkerboard': (x // 40 + y // 40) % 2,
  }.items():
    yield name, np.repeat(0.1 + 0.8 * plane[..., None], 3, -1)
  page = PIL.Image.new('L', (SIDE, SIDE), 'white')
  font = PIL.ImageFont.load_default(16)
  for line in range(0, SIDE, 22):
    words = ' '.join(''.join(rng.choice(list('etaoinshrdlu'), 6)) for _ in range(9))
    PIL.ImageDraw.Draw(page).text((8, line), words, 'black', font)
  yield 'text', np.repeat(np.asarray(page, np.float32)[..., None] / 255, 3, -1)
  night = np.full((SIDE, SIDE), 0.02)
  night[rng.integers(0, SIDE, 200), rng.integers(0, SIDE, 200)] = rng.random(200)
  yield 'night', np.repeat(night[..., None], 3, -1)


def cases(
  folders: list[pathlib.Path], seed: int = 0
) -> Iterator[tuple[str, str, float, np.ndarray]]:
  """Yields (blur, its kind, its size, uint8 picture); every second picture with noise."""
  rng = np.random.default_rng(seed)
  paths = sorted(path for folder in folders for path in folder.iterdir() if path.suffix in SUFFIXES)
  for number, path in enumerate(paths):
    with PIL.Image.open(path) as image:
      sharp = np.asarray(image.convert('RGB'), np.float32)[:SIDE, :SIDE] / 255
    for which, (name, kernel, size) in enumerate(blurs()):
      noise = NOISE * ((number + which) % 2)
      yield name, KINDS[name.split()[0]], size, _blurred(sharp, kernel, noise, rng)
  for name, image in drawn(seed):
    for noise in (0.0, NOISE):
      yield f'drawn: {name}', 'sharp', 0.0, _blurred(image, None, noise, rng)


def _blurred(sharp, kernel, noise, rng) -> np.ndarray:
  if kernel is not None:
    linear = np.asarray(color.SRGB.to_linear(sharp))
    reach = len(kernel) // 2
    linear = np.pad(linear, ((reach, reach), (reach, reach), (0, 0)), 'reflect')
    linear = scipy.signal.fftconvolve(linear, kernel[..., None], 'valid', axes=(0, 1))
    sharp = np.asarray(color.SRGB.from_linear(linear))
  noisy = sharp + rng.normal(0, noise, sharp.shape) if noise else sharp
  return np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8)


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('folders', nargs='+', type=pathlib.Path)
  parser.add_argument('--seed', type=int, default=0, help='of noise and drawings')
  arguments = parser.parse_args()
  rows: dict[str, list[tuple[bool, bool, bool]]] = {}
  for name, kind, size, image in cases(arguments.folders, arguments.seed):
    samples = diagnosis.windows(image.shape, lambda a, b, image=image: image[a:b])
    found = diagnosis.blur(samples, min(image.shape[:2]))
    right = found.kind == kind
    near = right and (size == 0 or abs(found.pixels - size) <= 0.3 * size)
    rows.setdefault(name, []).append((right, near, found.kind == 'unknown'))
  print('| blur | pictures | kind right | size within 30 % | unclear | wrong |')
  print('|---|---|---|---|---|---|')
  rows['all'] = [mark for marks in rows.values() for mark in marks]
  for name, marks in rows.items():
    right, near, unclear = np.mean(marks, 0) * 100
    print(
      f'| {name} | {len(marks)} | {right:.0f} % | {near:.0f} % | {unclear:.0f} % '
      f'| {abs(100 - right - unclear):.0f} % |'
    )


if __name__ == '__main__':
  main()
