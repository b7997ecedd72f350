"""Networks that restore in steps: `python tools/steps_table.py RUN [--steps 1 4 10] [--samples 8]`.

Prints a Markdown table for the test pictures of the built-in set, blurred as in training: PSNR and
SSIM against the sharp picture, and two measures of sharpness that need no weights: blur effect
(Crete et al. 2007; 0 sharp, 1 blurred) and the variance of the Laplacian as a share of the sharp
picture's. With --samples also for the mean of that many results. --figure FILE.png draws the curve.
"""

import argparse
import functools
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax import tiling, zoo
from deblur_jax.blur.synthesis import MIXED
from deblur_jax.data import sources
from deblur_jax.evaluation.blurred_set import Blurred
from deblur_jax.metrics import METRICS, SHARPNESS
from deblur_jax.types import as_float


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('run', help="a run's folder or a weights file")
  parser.add_argument('--steps', type=int, nargs='+', default=[1, 2, 4, 10], metavar='N')
  parser.add_argument('--samples', type=int, default=1, metavar='N', help='results to average')
  parser.add_argument('--pictures', type=int, default=24, metavar='N')
  parser.add_argument('--figure', type=pathlib.Path, metavar='FILE.png')
  arguments = parser.parse_args()
  pictures = Blurred(sources.open('builtin', 'test'), MIXED, limit=arguments.pictures)
  pairs = [
    (as_float(pictures[i]['blurred']), as_float(pictures[i]['sharp'])) for i in range(len(pictures))
  ]
  print('| result | PSNR | SSIM | blur effect | Laplacian |')
  print('|---|---:|---:|---:|---:|')
  row('blurred', [blurred for blurred, _ in pairs], pairs)
  row('sharp', [sharp for _, sharp in pairs], pairs)
  curve = []
  for steps in arguments.steps:
    method = zoo.load(arguments.run, settings={'steps': steps})
    seeds = range(arguments.samples if method.samples else 1)
    restorers = [functools.partial(method.restore, seed=seed) for seed in seeds]
    drawn = [
      [tiling.tiled(restorer, blurred, method.needs) for blurred, _ in pairs]
      for restorer in restorers
    ]
    curve.append((steps, *row(f'{steps} steps', drawn[0], pairs)))
    if len(drawn) > 1:
      means = [np.mean(samples, axis=0) for samples in zip(*drawn, strict=True)]
      row(f'{steps} steps, mean of {len(drawn)}', means, pairs)
  if arguments.figure:
    draw(curve, arguments.figure)


def row(name: str, restored: list, pairs: list) -> tuple[float, float]:
  """Prints a line of the table; returns (PSNR, share of the Laplacian's variance)."""
  found = [np.clip(one, 0, 1)[None] for one in restored]
  sharp = [one[None] for _, one in pairs]
  psnr, ssim = (
    float(np.mean([METRICS[metric](*two)[0] for two in zip(found, sharp, strict=True)]))
    for metric in ('psnr', 'ssim')
  )
  effect = float(np.mean([SHARPNESS['blur_effect'](one)[0] for one in found]))
  share = float(
    np.median(
      [
        SHARPNESS['laplacian'](one)[0] / SHARPNESS['laplacian'](other)[0]
        for one, other in zip(found, sharp, strict=True)
      ]
    )
  )
  print(f'| {name} | {psnr:.2f} | {ssim:.4f} | {effect:.3f} | {share:.2f} |', flush=True)
  return psnr, share


def draw(curve: list, path: pathlib.Path) -> None:
  """PSNR and sharpness over the number of steps."""
  from matplotlib import figure

  steps, psnr, share = zip(*curve, strict=True)
  drawing = figure.Figure(figsize=(6, 3.2), layout='constrained')
  left = drawing.subplots()
  left.plot(steps, psnr, 'o-', color='tab:blue')
  left.set(xlabel='steps', xticks=steps)
  left.set_ylabel('PSNR (dB)', color='tab:blue')
  right = left.twinx()
  right.plot(steps, share, 's-', color='tab:red')
  right.set_ylabel("Laplacian's variance, share of sharp", color='tab:red')
  drawing.savefig(path, dpi=110)


if __name__ == '__main__':
  main()
