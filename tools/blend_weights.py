"""Puts a MAXIM and a NAFNet into one file: `python tools/blend_weights.py maxim NAFNET OUT`.

Takes the first stage of the MAXIM. The file holds both networks for `models/blend.py`, as int8,
and the manifests that they came with.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax import methods, models, weights, zoo


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('motion', help='weights of a MAXIM: a name, a run or a file')
  parser.add_argument('other', help='weights of a NAFNet')
  parser.add_argument('output', type=pathlib.Path)
  arguments = parser.parse_args()
  motion, origin = weights.read(methods.find(arguments.motion))
  other, small = weights.read(methods.find(arguments.other))
  model = models.make(
    'blend', motion={**origin['arguments'], 'stages': 1}, other=small['arguments']
  )
  params = weights.shared({'maxim': motion, 'nafnet': other}, zoo.shapes(model))
  weights.check_fit(params, zoo.shapes(model), what='both')
  keys = ('license', 'attribution', 'origin', 'source', 'command', 'settings', 'data', 'hours')
  manifest = {
    'network': 'blend',
    'arguments': {'motion': {**origin['arguments'], 'stages': 1}, 'other': small['arguments']},
    'license': 'Apache-2.0',
    'made of': {
      'motion': {key: origin[key] for key in keys if key in origin},
      'other': {key: small[key] for key in (*keys, 'hardware', 'step') if key in small},
    },
  }
  weights.write(arguments.output, params, manifest, dtype='int8')
  print(f'{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB')


if __name__ == '__main__':
  main()
