"""Restores Levin's 32 real camera shakes, or those in FOLDER, and prints a Markdown table.

  python tools/levin_table.py --data FOLDER [--methods wiener total_variation] [--each]

FOLDER has MATLAB files with `x` sharp, `y` blurred and `f` the measured PSF, as a correlation
(Levin et al., "Understanding and evaluating blind deconvolution algorithms", CVPR 2009). PSNR in dB
is without the border, after the best shift by whole pixels, as the measured PSFs are not exactly
centered.
"""

import argparse
from collections.abc import Callable
import pathlib
import sys
from typing import NamedTuple

import numpy as np
import scipy.io

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax import solvers

SHIFT, BORDER = 5, 15


class Case(NamedTuple):
  """A shaken picture, its sharp original, and the PSF between them."""

  name: str
  blurred: np.ndarray
  sharp: np.ndarray
  psf: np.ndarray


METHODS: dict[str, Callable[[Case], np.ndarray]] = {
  'blurred': lambda case: case.blurred,
  'wiener': lambda case: solvers.wiener(case.blurred, case.psf),
  'richardson_lucy': lambda case: solvers.richardson_lucy(case.blurred, case.psf),
  'total_variation': lambda case: solvers.total_variation(case.blurred, case.psf),
  'hyper_laplacian': lambda case: solvers.hyper_laplacian(case.blurred, case.psf),
}
"""Row -> what restores a case; a blind method ignores the PSF."""


def read(folder: pathlib.Path) -> list[Case]:
  """The cases in a folder."""
  paths = sorted(folder.glob('*.mat'))
  if not paths:
    raise SystemExit(f'{folder}: no .mat files')
  cases = []
  for path in paths:
    found = scipy.io.loadmat(path)
    sharp, blurred, psf = (found[name].astype(np.float32) for name in 'xyf')
    cases.append(Case(path.stem, blurred, sharp, psf[::-1, ::-1] / psf.sum()))
  return cases


def psnr(restored: np.ndarray, sharp: np.ndarray) -> float:
  """PSNR without the border, after the best shift by whole pixels."""
  restored, sharp = np.asarray(restored), np.asarray(sharp)
  height, width = (side - 2 * BORDER for side in sharp.shape)
  inner = sharp[BORDER:-BORDER, BORDER:-BORDER]
  starts = range(BORDER - SHIFT, BORDER + SHIFT + 1)
  errors = [
    np.mean(np.square(restored[top : top + height, left : left + width] - inner))
    for top in starts
    for left in starts
  ]
  return -10 * np.log10(min(errors))


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', type=pathlib.Path, required=True, help='folder of .mat files')
  parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS))
  parser.add_argument('--each', action='store_true', help='add a column for each case')
  flags = parser.parse_args()
  cases = read(flags.data)
  shown = [case.name for case in cases] if flags.each else []
  print('| method |', *(f'{heading} |' for heading in ('mean', 'worst', *shown)))
  print('|---|' + '--:|' * (2 + len(shown)))
  for name in flags.methods:
    found = [psnr(METHODS[name](case), case.sharp) for case in cases]
    values = (np.mean(found), np.min(found), *(found if flags.each else ()))
    print(f'| {name} |', *(f'{value:.2f} |' for value in values), flush=True)


if __name__ == '__main__':
  main()
