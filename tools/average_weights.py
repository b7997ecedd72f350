"""Averages weights before and after fine-tuning: `python tools/average_weights.py BEFORE RUN OUT`.

After M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, arXiv:2109.01903: a
network in between keeps more of what it could do before than fine-tuning alone leaves it. Both are
a MAXIM's first stage; the result is stored as int8, without the heads that only training uses, and
with the manifests of both. `--command`, `--hardware` and `--data` are as in ship_weights.py.
"""

import argparse
import json
import pathlib
import sys

import jax

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from ship_weights import settings

from deblur_jax import methods, models, weights

ORIGIN = ('attribution', 'origin', 'source', 'license')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('before', help='weights that the run started from: a name or a file')
  parser.add_argument('run', type=pathlib.Path)
  parser.add_argument('output', type=pathlib.Path)
  parser.add_argument('--share', type=float, default=0.7, help='of the run in the average')
  parser.add_argument('--command', required=True, help='that the run was started with')
  parser.add_argument('--hardware', required=True, help='that it ran on')
  parser.add_argument('--data', type=pathlib.Path, required=True, metavar='FILE')
  parser.add_argument('--scores', type=pathlib.Path, metavar='FILE')
  arguments = parser.parse_args()
  before, origin = weights.read(methods.find(arguments.before))
  after, manifest = weights.read(methods.find(str(arguments.run)))
  network = {**manifest['arguments'], 'coarse_outputs': False}
  shapes = models.shapes(models.make(manifest['network'], **network))
  parts = [weights.shared(params, shapes) for params in (before, after)]
  for params in parts:
    weights.check_fit(params, shapes, what='both')
  share = arguments.share
  params = jax.tree.map(lambda old, new: (1 - share) * old + share * new, *parts)
  trained = {
    'command': arguments.command,
    'settings': settings(manifest['provenance']['config']),
    'data': json.loads(arguments.data.read_text()),
    'hours': manifest['provenance']['hours'],
    'hardware': arguments.hardware,
    'step': manifest['step'],
  }
  kept = {
    'network': manifest['network'],
    'arguments': network,
    'license': 'Apache-2.0',
    'made of': {
      'before fine-tuning': {key: origin[key] for key in ORIGIN if key in origin},
      'fine-tuned': {**trained, 'share': share},
    },
    'scores': json.loads(arguments.scores.read_text()) if arguments.scores else {},
  }
  weights.write(arguments.output, params, kept, dtype='int8')
  print(f'{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB')


if __name__ == '__main__':
  main()
