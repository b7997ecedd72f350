"""What methods make of each kind of blur: `python tools/weights_table.py general mobile wiener`.

Every picture of a folder (`--pictures`, such as Kodak's; test/ in it where there is one) is blurred
once by each kind and eight times by the mix of them all, the same in every run. To these come the
pairs of `--pairs SOURCE:DIRECTORY`. Prints a Markdown table of PSNR / SSIM, of the milliseconds
that a picture takes and of its mean brightness, in linear light, against that of the sharp one;
`--json FILE` keeps the scores for ship_weights.py, each set by a name that distinguishes it from
the same blur of other pictures. Classical methods are given the PSF, and are left out if the blur
has no single PSF.
"""

import argparse
import json
import math
import pathlib
import statistics
import time

import jax
import numpy as np

from deblur_jax import color, tiling, zoo
from deblur_jax.configs.restore_general import BLUR
from deblur_jax.evaluation import blurred_set, costs, restoration
from deblur_jax.methods import is_solver

CAMERA = ' | poisson(0..0.005) | jpeg(90..98)'
KINDS = {
  'sharp': 'sharp',
  'Gaussian 1.5, noise 1 %': 'gaussian(1.5) | noise(0.01)',
  'Gaussian 0.5 to 3': 'gaussian(0.5..3)' + CAMERA,
  'disk 1 to 5': 'disk(1..5)' + CAMERA,
  'bokeh 1 to 6': 'bokeh(1..6)' + CAMERA,
  'line 5 to 25': 'motion(5..25)' + CAMERA,
  'shake 5 to 31': 'shake(5..31)' + CAMERA,
  'shake 5 to 31, saturated': 'shake(5..31) | poisson(0..0.005) | saturate(1.5..2) | jpeg(90..98)',
  'rotating camera 5 to 21': 'camera(5..21)' + CAMERA,
  'moving object 5 to 24': 'objects(5..24)' + CAMERA,
  'turbulence 1 to 2': 'turbulence(1..2)' + CAMERA,
  'mix of restore_general': BLUR,
}
DRAWS = {BLUR: 8}  # One draw would say too little about a mix.


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('methods', nargs='+', help='weights by name, runs, files, or solvers')
  parser.add_argument('--pictures', required=True, help='folder of sharp pictures')
  parser.add_argument('--kinds', default=';'.join(KINDS), help='of blur, separated by semicolons')
  parser.add_argument(
    '--crop', type=int, default=0, metavar='SIDE', help='only the central square of each picture'
  )
  parser.add_argument('--pairs', action='append', default=[], metavar='SOURCE:DIRECTORY')
  parser.add_argument('--skip', default='', metavar='TEXT', help='leave out pairs named so')
  parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='write the scores there')
  arguments = parser.parse_args()
  sets = {
    name: blurred_set.open_set(
      'sharp',
      'all',
      directory=arguments.pictures,
      blur=blur,
      draws=DRAWS.get(blur, 1),
      crop=arguments.crop,
    )
    for name, blur in ((name, KINDS[name]) for name in arguments.kinds.split(';') if name)
  }
  for text in arguments.pairs:
    source, _, directory = text.partition(':')
    sets[source] = blurred_set.open_set(source, directory=directory)
  methods = {name: zoo.load(name) for name in arguments.methods}
  print(f'On {costs.device_name()}.\n')
  print(f'| blur | pictures | blurred | {" | ".join(methods)} |')
  print(f'|---|---|---|{"---|" * len(methods)}')
  times, brighter, kept = {name: [] for name in methods}, {name: [] for name in methods}, {}
  for name, pictures in sets.items():
    examples = [
      one
      for one in map(pictures.__getitem__, range(len(pictures)))
      if not arguments.skip or arguments.skip not in one['name']
    ]
    found = {'blurred': [pictures.score(one['blurred'], one) for one in examples]}
    known = all('psf' in one for one in examples)
    for method in methods:
      if known or not is_solver(method):
        found[method] = [
          _score(methods[method], one, pictures, times[method], brighter[method])
          for one in examples
        ]
    means = _means(found)
    scored = f'{name} ({pathlib.Path(arguments.pictures).name})' if name in KINDS else name
    kept[scored] = {
      method: scores | {'protocol': pictures.protocol} for method, scores in means.items()
    }
    cells = [_cell(kept[scored].get(method)) for method in ('blurred', *methods)]
    print(f'| {name} | {len(examples)} | {" | ".join(cells)} |', flush=True)
  row = ' | '.join(f'{1000 * statistics.median(seconds):.0f}' for seconds in times.values())
  print(f'| ms a picture, median | | | {row} |')
  row = ' | '.join(f'{np.mean(ratios):+.2%}' for ratios in brighter.values())
  print(f'| mean brightness | | | {row} |')
  if arguments.json:
    arguments.json.write_text(json.dumps(kept, indent=2) + '\n')


def _score(method, example, pictures, times, brighter):
  """The scores of one picture; appends its seconds, and its brightness against the sharp one's."""
  known = {'psf': example['psf']} if 'psf' in example else {}
  height, width = example['blurred'].shape[:2]
  multiple = method.needs.multiple
  padded = tiling.pad(
    example['blurred'][None], tiling.round_up(height, multiple), tiling.round_up(width, multiple)
  )
  padded = jax.device_put(padded.astype(np.float32) / 255)
  begin = time.perf_counter()
  restored = np.asarray(method.restore(padded, **known))[0, :height, :width]
  times.append(time.perf_counter() - begin)
  light = [_light(restored), _light(example['sharp'] / 255)]
  brighter.append(light[0] / light[1] - 1)
  return pictures.score(restored, example)


def _light(image) -> float:
  """The mean in linear light, which blur does not change."""
  return float(color.SRGB.to_linear(np.clip(image, 0, 1).astype(np.float32)).mean())


def _means(found):
  """Method -> metric -> mean, each method by itself if all blurred pictures are sharp already."""
  groups = [found]
  if not any(math.isfinite(scores['psnr']) for scores in found['blurred']):
    groups = [{method: scores} for method, scores in found.items()]
  means = {}
  for group in groups:
    rows = zip(*group.values(), strict=True)
    means |= restoration.means(dict(zip(group, row, strict=True)) for row in rows)
  return means


def _cell(mean) -> str:
  # Without PSNR: all pictures of the set are sharp already.
  return f'{mean.get("psnr", math.inf):.2f} / {mean["ssim"]:.3f}' if mean else ''


if __name__ == '__main__':
  main()
