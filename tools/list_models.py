"""Writes deblur_jax/cli/models.txt, the part of `deblur-jax models` that is the same everywhere.

Run it after adding a network, a variant, a classical method or published weights:

  python tools/list_models.py
"""

from collections.abc import Iterator
import pathlib
import textwrap
from typing import Any

import jax

from deblur_jax import convert, models, solvers, tiling, zoo
from deblur_jax.evaluation import costs, quoted

LIST = pathlib.Path(zoo.__file__).parent / 'cli' / 'models.txt'
WIDTH = 80


def lines() -> Iterator[str]:
  """All lines of the list."""
  yield 'Classical methods, without weights (--weights NAME, most with --psf)'
  indent = '  '
  names = ', '.join(solvers.SOLVERS)
  yield from textwrap.wrap(names, WIDTH, initial_indent=indent, subsequent_indent=indent)
  yield ''
  yield 'Published weights (deblur-jax convert): license; scores on GoPro, quoted'
  yield from _published()
  yield ''
  yield 'Networks'
  yield (
    f'  {"network":<13}{"variant":<15}{"parameters":>11}{"GMACs":>9}{"sides":>7}{"field":>8}  tiles'
  )
  for name in models.names():
    for variant in models.variants(name):
      if variant != 'smoke':  # only for tests
        yield network(name, variant, gmacs(name, variant))
  yield 'GMACs: billions of multiply-adds at 256x256, of convolutions and matrix products'
  yield 'sides: the multiple that sides are padded to, or the only supported size'
  yield 'field: receptive field, side of the square that a pixel depends on, or global'
  yield 'tiles: whether tiling gives exactly the result of the whole picture'


def network(name: str, variant: str, gmacs: float) -> str:
  """The line of a variant of a network."""
  model = models.make(name, variant)
  needs = model.needs
  sides = f'= {needs.side}' if needs.side else needs.multiple
  count = sum(leaf.size for leaf in jax.tree.leaves(models.shapes(model)))
  return (
    f'  {name:<13}{variant:<15}{count:>11,}{gmacs:>9.2f}{sides:>7}{needs.field or "global":>8}'
    f'  {needs.tiling}'
  )


def gmacs(name: str, variant: str) -> float:
  """Billions of multiply-adds at 256x256."""
  model = models.make(name, variant)
  params, needs = models.shapes(model), model.needs
  image = jax.ShapeDtypeStruct((1, *[needs.square(costs.SMALL[0])] * 2, 3), 'float32')

  def apply(params: Any, image: jax.Array) -> Any:
    return model.apply({'params': params}, image)

  return costs.count_macs(apply, params, image) * tiling.count(*costs.SMALL, needs) / 1e9


def _published() -> Iterator[str]:
  for name in convert.names():
    yield f'  {name:<13}{convert.license_of(name)}'
    for line in quoted.GOPRO.values():
      network, variant = line.ours or ('', '')
      if network == name:
        ssim = f'{line.ssim:.4f}' if line.ssim else ''
        yield f'  {"":<13}{variant:<12}{line.psnr:>6.2f} dB  {ssim:<8}{line.source}'


if __name__ == '__main__':
  LIST.write_text(''.join(f'{line}\n' for line in lines()))
