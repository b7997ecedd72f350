"""What each kind of uncertainty costs: `python tools/uncertainty_costs.py mobile maxim`.

For each network: milliseconds at 256x256 and 1280x720 and peak memory at 1280x720, of plain
restoration and of each spread that the network can have. Prints a Markdown table. A spread comes
on top of the restoration. `--with NAME` adds an ensemble with other weights, `--head FILE` a
network that was trained with a head. Every measurement has its own process, because the peak is
that of the process; run it on an idle machine.
"""

import argparse
import json
import subprocess
import sys

from deblur_jax import zoo

PLAIN = 'restoration'


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('networks', nargs='*')
  parser.add_argument('--with', dest='other', help='weights that form an ensemble')
  parser.add_argument('--head', help='weights of a network with a head')
  parser.add_argument('--one', nargs=2, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.one:
    print(json.dumps(measured(*arguments.one)))
    return
  print('| network | of | ms, 256x256 | ms, 1280x720 | peak MiB, 1280x720 |\n|---|---|---|---|---|')
  for name in [*arguments.networks, *([arguments.head] if arguments.head else [])]:
    kinds = [PLAIN, 'turns', 'dropout', *(['stages'] if has_stages(name) else [])]
    kinds += [arguments.other] if arguments.other else []
    kinds = [PLAIN, 'head'] if name == arguments.head else kinds
    for kind in kinds:
      command = [sys.executable, __file__, '--one', name, kind]
      done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
      small, large, memory = json.loads(done.stdout.splitlines()[-1])
      print(f'| {name} | {kind} | {small:.0f} | {large:.0f} | {memory} |', flush=True)


def has_stages(name: str) -> bool:
  """Whether the network has several results, such as MAXIM with all of its stages."""
  return getattr(zoo.network(name)[0], 'stages', 1) > 1


def measured(name: str, kind: str) -> tuple[float, float, int]:
  """(ms at 256x256, ms at 1280x720, peak MiB)."""
  from deblur_jax.evaluation import costs
  from deblur_jax.photos import restorer

  found = restorer.load(name, spread_of='turns' if kind == PLAIN else kind)
  method = found.method
  if kind != PLAIN:
    spread = found.find_spread or restorer.spread.of_turns(method.restore)
    method = method._replace(restore=spread)
  small, large = (costs.milliseconds(method, size)[0] for size in (costs.SMALL, costs.LARGE))
  return small, large, costs.peak_mib()


if __name__ == '__main__':
  main()
