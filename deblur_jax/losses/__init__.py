"""(restored, sharp) -> a number to train on, one per image `[b]`."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from deblur_jax import spec
from deblur_jax.losses import adversarial, interval, perceptual, pixel

__all__ = ['LOSSES', 'Loss', 'adversarial', 'interval', 'parse', 'perceptual', 'pixel']

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

  Raises ValueError for a weight that is not a number, and a loss that is unknown, given twice,
  given options that it does not take, or does not return one value per image.
  """
  found: dict[str, tuple[float, Loss]] = {}
  for term in text.split('+') if text.strip() else ():
    weight, star, name = term.partition('*')
    try:
      value = float(weight if star else '')
    except ValueError:
      raise ValueError(
        f'cannot read {term.strip()!r} in the loss {text!r}: write WEIGHT*NAME'
      ) from None
    for own, loss in spec.functions('loss', name, LOSSES).items():
      if own in found:
        raise ValueError(f'loss {text!r}: {own!r} is given twice')
      _check(name.strip(), loss)
      found[own] = value, loss
  return found


def _check(name: str, loss: Loss) -> None:
  """Raises ValueError if `loss` fails for two images or does not return two values."""
  images = jax.ShapeDtypeStruct((2, 256, 256, 3), jnp.float32)
  try:
    result = jax.eval_shape(loss, images, images)  # computes nothing
  except (TypeError, ValueError) as error:
    reason = str(error).partition('\n')[0]
    raise ValueError(f'loss {name!r}: {reason}') from error
  shape = getattr(result, 'shape', None)
  if shape != (2,):
    found = f'shape {list(shape)}' if shape is not None else type(result).__name__
    raise ValueError(
      f'loss {name!r} must return one value per image: shape [2] for 2 images, not {found}'
    )
