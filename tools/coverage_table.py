"""Whether calibrated intervals keep their promise on other blur: `python tools/coverage_table.py`.

  python tools/coverage_table.py OUT.safetensors --pictures KODAK 'gaussian(1..2)' 'disk(2..4)'

OUT.safetensors is from deblur-jax calibrate. For each blur: the share of values inside their
intervals, over all pictures and in the worst one, and the mean width in levels of 255.
"""

import argparse

import numpy as np

from deblur_jax import weights
from deblur_jax.evaluation import blurred_set
from deblur_jax.photos import restorer
from deblur_jax.types import as_float
from deblur_jax.uncertainty import conformal


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('weights')
  parser.add_argument('blur', nargs='+')
  parser.add_argument('--pictures', required=True, help='folder of sharp pictures')
  arguments = parser.parse_args()
  calibration = conformal.Calibration(**weights.read(arguments.weights)[1]['uncertainty'])
  network = restorer.load(arguments.weights)
  print(f'{calibration.pictures} pictures; promised: at least {1 - calibration.risk:.0%}\n')
  print('| blur | inside | worst picture | width | rank correlation of spread and error |')
  print('|---|---|---|---|---|')
  for blur in arguments.blur:
    pictures = blurred_set.open_set(
      'sharp', 'all', directory=arguments.pictures, blur=blur, crop=256
    )
    inside, widths, ranks = [], [], []
    for i in range(len(pictures)):
      blurred, sharp = pictures[i]['blurred'], pictures[i]['sharp']
      spreads = np.concatenate([one for _, one in network.spreads(blurred[None])], axis=1)[0]
      errors = np.abs(as_float(sharp) - as_float(network(blurred)))
      inside.append(conformal.coverage(errors / spreads, calibration.scale))
      widths.append(2 * 255 * calibration.scale * float(spreads.mean()))
      ranks.append(_correlation(spreads, errors))
    row = f'{np.mean(inside):.1%} | {min(inside):.1%} | {np.mean(widths):.1f}'
    print(f'| {blur} | {row} | {np.mean(ranks):.2f} |', flush=True)


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
  """Spearman's, of means over squares of 8x8 pixels: single errors are mostly noise."""
  ranks = []
  for plane in (one.mean(-1), two.mean(-1)):
    blocks = plane.reshape(plane.shape[0] // 8, 8, -1, 8).mean(axis=(1, 3))
    ranks.append(np.argsort(np.argsort(blocks, axis=None)))
  return float(np.corrcoef(*ranks)[0, 1])


if __name__ == '__main__':
  main()
