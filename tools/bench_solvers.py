"""Times classical methods against scikit-image's: `python tools/bench_solvers.py [--side 512]`.

The functions of a row run alternately, so that background load affects both. Milliseconds are
'minimum / median', compiled and warm; a ratio is the median over the rounds, above 1 if ours is
faster.
"""

import argparse
import functools
import pathlib
import sys
import time
import warnings

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from skimage import data, restoration

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax import solvers
from deblur_jax.blur import kernels
from deblur_jax.blur.operators import Convolution
from deblur_jax.solvers.non_local_means import non_local_means


def rivals(colors, psf):
  """Row -> our function and the one it is compared with; 'periodic' where scikit-image is too."""
  blurred = np.ascontiguousarray(colors[..., 1])
  steps = functools.partial(solvers.richardson_lucy, blurred, psf, 30)
  peer_steps = functools.partial(restoration.richardson_lucy, blurred, psf, 30, clip=False)
  peer_wiener = functools.partial(restoration.wiener, blurred, psf, 0.02, clip=False)
  means = {'patch_size': 5, 'patch_distance': 8, 'h': 0.008}
  return {
    'wiener, periodic': (
      lambda: solvers.wiener(blurred, psf, 0.02, boundary='wrap'),
      peer_wiener,
    ),
    'wiener': (lambda: solvers.wiener(blurred, psf, 0.02), peer_wiener),
    'richardson_lucy, 30 steps, periodic': (
      lambda: solvers.richardson_lucy(blurred, psf, 30, boundary='wrap'),
      peer_steps,
    ),
    'richardson_lucy, 30 steps': (steps, peer_steps),
    'richardson_lucy, 30 steps, color': (
      lambda: solvers.richardson_lucy(colors, psf, 30),
      lambda: [
        restoration.richardson_lucy(channel, psf, 30, clip=False)
        for channel in np.ascontiguousarray(np.moveaxis(colors, -1, 0))
      ],
    ),
    'total_variation, 50 steps, peer: our richardson_lucy': (
      lambda: solvers.total_variation(blurred, psf, 5e-4, 50),
      steps,
    ),
    'hyper_laplacian, peer: our richardson_lucy': (
      lambda: solvers.hyper_laplacian(blurred, psf, 5e-4),
      steps,
    ),
    'unsupervised_wiener': (
      lambda: solvers.unsupervised_wiener(blurred, psf),
      lambda: restoration.unsupervised_wiener(blurred, psf, clip=False, rng=0),
    ),
    'non_local_means': (
      lambda: non_local_means(blurred, 0.01, **means),
      lambda: restoration.denoise_nl_means(blurred, fast_mode=True, sigma=0.01, **means),
    ),
  }


def times(functions, repeats):
  """Milliseconds `[function, repeat]`; the functions alternate, after one untimed round."""
  taken = np.zeros((len(functions), repeats + 1))
  for i in range(repeats + 1):
    for j, function in enumerate(functions):
      start = time.perf_counter()
      jax.block_until_ready(function())
      taken[j, i] = 1e3 * (time.perf_counter() - start)
  return taken[:, 1:]


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--side', type=int, default=512, help='side of the picture, up to 512')
  parser.add_argument('--repeats', type=int, default=9)
  flags = parser.parse_args()
  warnings.simplefilter('ignore')  # of scikit-image, about float32
  psf = np.asarray(kernels.motion(21, 30, 25))
  sharp = data.astronaut()[: flags.side, : flags.side].astype(np.float32) / 255
  noise = 0.01 * np.random.default_rng(0).standard_normal(sharp.shape)
  blurred = np.asarray(Convolution(psf).apply(sharp)) + noise
  table = Table(title=f'{flags.side}x{flags.side}, PSF 25x25, milliseconds')
  for heading in ('', 'ours', 'peer', 'ratio'):
    table.add_column(heading, justify='right' if table.columns else 'left')
  for name, pair in rivals(blurred.astype(np.float32), psf).items():
    taken = times(pair, flags.repeats)
    shown = [f'{one.min():.1f} / {np.median(one):.1f}' for one in taken]
    table.add_row(name, *shown, f'{np.median(taken[1] / taken[0]):.2f}')
  Console().print(table)


if __name__ == '__main__':
  main()
