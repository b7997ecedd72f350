"""(restored, sharp) -> a number to train on, one per image `[b]`."""

from collections.abc import Callable
import functools

import jax

from deblur_jax import spec
from deblur_jax.losses import pixel

Loss = Callable[[jax.Array, jax.Array], jax.Array]

LOSSES = {
  'l1': pixel.l1,
  'mse': pixel.mse,
  'charbonnier': pixel.charbonnier,
  'edge': pixel.edge,
  'fft': pixel.fft,
  'psnr': pixel.psnr,
  # Gains above 40 dB count less and less; otherwise pictures that are nearly sharp would outweigh
  # the blurred ones.
  'psnr_to_40': functools.partial(pixel.psnr, eps=1e-4),
}


def parse(text: str) -> dict[str, tuple[float, Loss]]:
  """Name -> (weight, loss) of `0.1*package.module:name(power=2) + 0.5*edge`.

  Raises ValueError for a weight that is not a number, and a loss that is unknown or given twice.
  """
  found: dict[str, tuple[float, Loss]] = {}
  for term in text.split('+') if text.strip() else ():
    weight, star, name = term.partition('*')
    try:
      value = float(weight)
    except ValueError:
      star = ''
    if not star:
      raise ValueError(f'cannot read {term.strip()!r} in the loss {text!r}: write WEIGHT*NAME')
    for own, loss in spec.functions('loss', name, LOSSES).items():
      if own in found:
        raise ValueError(f'loss {text!r}: {own!r} is given twice')
      found[own] = value, loss
  return found
