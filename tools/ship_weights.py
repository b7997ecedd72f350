"""Makes a run's best weights a file of the package: `python tools/ship_weights.py RUN NAME`.

They are stored as int8 in `deblur_jax/pretrained/NAME.safetensors`, with a manifest of what they
are for, how they came about and what they reach: the run's configuration and steps, the pictures
that it was shown and their licenses (`--data FILE`, JSON), command, hours and hardware, and scores
(`--scores FILE`, from weights_table.py).
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax import methods, weights

SETTINGS = ('blur', 'data', 'loss', 'optim', 'batch_size', 'steps', 'ema', 'seed')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('run', type=pathlib.Path)
  parser.add_argument('name')
  parser.add_argument('--command', required=True, help='that the run was started with')
  parser.add_argument('--hours', type=float, required=True, help='that it took')
  parser.add_argument('--hardware', required=True, help='that it ran on')
  parser.add_argument('--data', type=pathlib.Path, required=True, metavar='FILE')
  parser.add_argument('--scores', type=pathlib.Path, required=True, metavar='FILE')
  arguments = parser.parse_args()
  params, manifest = weights.read(arguments.run / methods.RUN_WEIGHTS)
  config = json.loads((arguments.run / 'config.json').read_text())
  manifest['step'] += _steps_before(config)
  # "blurred" beside them: a score says little without that of doing nothing.
  scores = {
    kind: methods[arguments.name] | {'blurred': methods['blurred'].get('psnr')}
    for kind, methods in json.loads(arguments.scores.read_text()).items()
  }
  manifest |= {
    'license': 'Apache-2.0',
    'command': arguments.command,
    'settings': settings(config),
    'data': json.loads(arguments.data.read_text()),
    'hours': arguments.hours,
    'hardware': arguments.hardware,
    'scores': scores,
  }
  path = methods.SHIPPED / f'{arguments.name}.safetensors'
  path.parent.mkdir(exist_ok=True)
  weights.write(path, params, manifest, dtype='int8')
  print(f'{path}: {path.stat().st_size / 1e6:.2f} MB')


def settings(config: dict) -> dict:
  """What a manifest says about how weights were trained: no folders of this machine."""
  mixture = {
    name: {'source': part['source'], 'share': part['share']}
    for name, part in config['data']['mixture'].items()
  }
  return {name: config[name] for name in SETTINGS} | {'data': config['data'] | {'mixture': mixture}}


def _steps_before(config: dict) -> int:
  """Those of the runs whose weights a run started with."""
  path = pathlib.Path(config.get('start', ''), 'config.json')
  if not config.get('start') or not path.is_file():
    return 0
  before = json.loads(path.read_text())
  return before['steps'] + _steps_before(before)


if __name__ == '__main__':
  main()
