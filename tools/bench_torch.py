"""Networks against the same ones in PyTorch, on the CPU: `python tools/bench_torch.py [NAME ...]`.

Both have the same weights and as many threads, PyTorch in the channels_last layout, and take turns
on one 256x256 picture. Needs `pip install 'deblur-jax[convert,parity]'`. Prints a Markdown table of
median milliseconds, and of the median of the ratios of each turn.
"""

import os
import pathlib
import statistics
import sys
import time

import jax
import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax import convert
from deblur_jax.evaluation import costs
from tests.test_parity import PEERS, peer

TURNS, FEWEST, SECONDS = 7, 3, 30.0  # a network that has had its seconds takes the fewest


def main(names: list[str]) -> None:
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.set_grad_enabled(False)
  print(f'On {costs.device_name()}; PyTorch {torch.__version__}, JAX {jax.__version__}.\n')
  print('| network | deblur_jax ms | PyTorch ms | ratio |')
  print('|---|---:|---:|---:|')
  image = np.random.default_rng(0).random((1, 256, 256, 3), np.float32)
  for name in names or PEERS:
    network = peer(name)
    model, params = convert.from_torch(name, network.state_dict())
    params = jax.device_put(params)
    apply = jax.jit(lambda params, x, model=model: model.apply({'params': params}, x)['restored'])
    network = network.to(memory_format=torch.channels_last)
    tensor = torch.tensor(image.transpose(0, 3, 1, 2)).to(memory_format=torch.channels_last)
    calls = (lambda: apply(params, image).block_until_ready(), lambda: network(tensor))
    turns = []
    while len(turns) <= FEWEST or (len(turns) <= TURNS and sum(map(sum, turns)) < SECONDS):
      seconds = []
      for call in calls:
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
      turns.append(seconds)
    ours, theirs = (1000 * statistics.median(one) for one in zip(*turns[1:], strict=True))
    ratio = statistics.median(a / b for a, b in turns[1:])
    print(f'| {name} | {ours:.0f} | {theirs:.0f} | {ratio:.2f} |', flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
