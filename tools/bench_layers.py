"""Times the layers of `nn/` in their plain and their fast form, forward and gradient, as a table.

  python tools/bench_layers.py [--size 128] [--channels 64] [--repeats 6] [--network small]

Run it on an otherwise idle machine. The forms alternate, so that background load affects both.
Milliseconds are 'minimum / median'; the gain is the ratio of the minima.
"""

import argparse
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax import models
from deblur_jax.nn import conv, resample


def cases(size, channels, network):
  """(name, function, arguments) of each layer; the form is chosen when the function is traced."""
  keys = iter(jax.random.split(jax.random.key(0), 16))
  x = jax.random.normal(next(keys), (1, size, size, channels))

  def kernel(k, inputs):
    return jax.random.normal(next(keys), (k, k, inputs, channels)) / (k * inputs**0.5)

  def transpose(padding):
    return lambda x, kernel: conv.conv_transpose(x, kernel, stride=2, padding=padding)

  def bilinear(x):
    if conv.fast():
      return resample.upsample2_bilinear(x)
    return jax.image.resize(x, (1, 2 * size, 2 * size, channels), 'bilinear')

  yield 'depthwise 3x3', conv.depthwise_conv, (x, kernel(3, 1))
  yield 'depthwise 7x7', conv.depthwise_conv, (x, kernel(7, 1))
  yield 'pointwise', conv.conv, (x, kernel(1, channels))
  yield 'transposed 2x2 s2', transpose(0), (x, kernel(2, channels))
  yield 'transposed 4x4 s2', transpose(1), (x, kernel(4, channels))
  yield 'bilinear x2', bilinear, (x,)

  model = models.make('nafnet', network)
  image = jax.random.uniform(next(keys), (1, size, size, 3))
  params = model.init(next(keys), image)['params']
  params = jax.tree.map(lambda leaf: leaf + 0.01, params)  # beta and gamma are initially zero
  yield (
    f'NAFNet {network}',
    lambda params, image: model.apply({'params': params}, image)['restored'],
    (params, image),
  )


def compiled(function, arguments):
  """`function` and its gradient, compiled."""

  def gradient(*arguments):
    positions = tuple(range(len(arguments)))
    return jax.grad(lambda *a: jnp.sum(function(*a) ** 2), positions)(*arguments)

  def forward(*arguments):
    return function(*arguments)  # a new function, so that jit traces it in the current form

  made = jax.jit(forward), jax.jit(gradient)
  for each in made:
    jax.block_until_ready(each(*arguments))
  return made


def times(functions, arguments, repeats):
  """Milliseconds `[function, repeat]`; the functions alternate."""
  taken = np.zeros((len(functions), repeats))
  for i in range(repeats):
    for j, function in enumerate(functions):
      start = time.perf_counter()
      jax.block_until_ready(function(*arguments))
      taken[j, i] = 1e3 * (time.perf_counter() - start)
  return taken


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--size', type=int, default=128)
  parser.add_argument('--channels', type=int, default=64)
  parser.add_argument('--repeats', type=int, default=6)
  parser.add_argument('--network', default='small', help='variant of NAFNet')
  flags = parser.parse_args()

  if not conv.fast():
    raise SystemExit(f'the fast forms are for the CPU; this is {jax.default_backend()}')
  table = Table(title=f'{flags.size}x{flags.size}x{flags.channels}, {flags.repeats} runs, ms')
  for heading in ('layer', 'forward plain', 'fast', 'gain', 'gradient plain', 'fast', 'gain'):
    table.add_column(heading, justify='left' if heading == 'layer' else 'right')
  for name, function, arguments in cases(flags.size, flags.channels, flags.network):
    with conv.plain():
      plain = compiled(function, arguments)
    fast = compiled(function, arguments)
    row = [name]
    for pair in zip(plain, fast, strict=True):
      taken = times(pair, arguments, flags.repeats)
      row += [f'{t.min():.2f} / {np.median(t):.2f}' for t in taken]
      row.append(f'{taken[0].min() / taken[1].min():.1f}x')
    table.add_row(*row)
  Console().print(table)


if __name__ == '__main__':
  main()
