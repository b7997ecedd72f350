"""Estimates PSFs from blurred pictures and prints their quality, as a Markdown table.

  python tools/blind_table.py [--data FOLDER] [--size 31]

Six cases from scikit-image's pictures, shaken along random paths 24 pixels long with noise of
0.005; and Levin's cases, if FOLDER is given (see levin_table.py). Both the estimated and the true
PSF are deconvolved by total variation. PSNR in dB is after the best shift in quarters of a pixel,
as an estimated PSF may be off-center; the error ratio compares the squared errors of both results
(Levin et al., "Understanding and evaluating blind deconvolution algorithms", CVPR 2009).
"""

import argparse
from collections.abc import Iterator
import pathlib
import time

import jax
from levin_table import Case, psnr, read
import numpy as np
import scipy.ndimage
import scipy.signal
from skimage import color, data

from deblur_jax.blur import trajectories
from deblur_jax.solvers import estimate_psf
from deblur_jax.solvers.total_variation import total_variation

LENGTH, SIZE, SIGMA, SIDE = 24.0, 31, 0.005, 400
QUARTERS = (0, 0.25, 0.5, 0.75)


def shaken() -> Iterator[Case]:
  """Three pictures under two kernels each, cropped to what a camera would see."""
  for name in ('camera', 'astronaut', 'coffee'):
    picture = getattr(data, name)()[:SIDE, 50 : 50 + SIDE]
    picture = color.rgb2gray(picture) if picture.ndim == 3 else picture / 255
    for seed in (3, 5):
      path = LENGTH * trajectories.trajectory(jax.random.key(seed))
      path -= path.mean(0, keepdims=True)
      psf = np.asarray(trajectories.render(path, SIZE))
      blurred = scipy.signal.fftconvolve(picture, psf, 'valid')
      blurred += SIGMA * np.random.default_rng(seed).standard_normal(blurred.shape)
      inner = slice(SIZE // 2, -(SIZE // 2))
      yield Case(f'{name}_{seed}', blurred.astype(np.float32), picture[inner, inner], psf)


def best_psnr(restored: np.ndarray, sharp: np.ndarray) -> float:
  """PSNR without the border, after the best shift in quarters of a pixel."""
  restored = np.asarray(restored)
  shifts = [(down, right) for down in QUARTERS for right in QUARTERS]
  return max(psnr(scipy.ndimage.shift(restored, shift, order=1), sharp) for shift in shifts)


def row(case: Case, size: int) -> list[float]:
  """Likeness, confidence, PSNR blurred, blind and with the true PSF, error ratio, seconds."""
  begin = time.perf_counter()
  found = jax.block_until_ready(estimate_psf.estimate(case.blurred, size))
  seconds = time.perf_counter() - begin
  like = float(estimate_psf.likeness(found.psf, case.psf))
  pictures = case.blurred, *(total_variation(case.blurred, psf) for psf in (found.psf, case.psf))
  before, after, best = (best_psnr(one, case.sharp) for one in pictures)
  ratio = 10 ** ((best - after) / 10)
  return [like, float(found.confidence), before, after, best, ratio, seconds]


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', type=pathlib.Path, help="folder of Levin's .mat files")
  parser.add_argument(
    '--size', type=int, default=estimate_psf.SIZE, help='side of the PSF to estimate'
  )
  flags = parser.parse_args()
  print('| case | likeness | confidence | blurred | blind | true PSF | error ratio | seconds |')
  print('|---|' + '--:|' * 7)
  for cases in (list(shaken()), read(flags.data) if flags.data else []):
    rows = []
    for case in cases:
      rows.append(row(case, flags.size))
      show(case.name, rows[-1])
    if rows:
      show('mean', np.mean(rows, 0))
      print(f'\nError ratio below 3: {np.mean(np.array(rows)[:, 5] < 3):.0%}\n', flush=True)


def show(name: str, figures: list[float]) -> None:
  """Prints a line of the table."""
  like, confidence, before, after, best, ratio, seconds = figures
  print(
    f'| {name} | {like:.2f} | {confidence:.2f} | {before:.1f} | {after:.1f} | {best:.1f} '
    f'| {ratio:.2f} | {seconds:.1f} |',
    flush=True,
  )


if __name__ == '__main__':
  main()
