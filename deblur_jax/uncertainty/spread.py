"""How much a method disagrees with itself or with others, without knowing the sharp picture."""

from collections.abc import Callable, Iterable
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import tiling
from deblur_jax.nn.conv import Conv, ConvTranspose, DepthwiseConv

Spread = Callable[[np.ndarray], np.ndarray]
"""`[b h w c]` -> the spread of each value, of the same shape, in the units of the images."""

FLOOR = 1 / 255
"""Added to every spread: where all results agree, the picture is still rounded to 8 bits."""

DROPPED, DRAWS = 0.05, 8
"""Share of the channels that Monte Carlo dropout sets to 0, and how often it does so."""


def of_turns(restore: Callable[[np.ndarray], Any]) -> Spread:
  """The standard deviation of `restore` over the eight orientations of an image, plus `FLOOR`.

  Costs eight times as much as `restore`.
  """
  return lambda images: of_results(tiling.turned(restore, images))


def of_results(results: Iterable[Any]) -> np.ndarray:
  """The standard deviation over several results for the same images, plus `FLOOR`."""
  total = squares = 0.0
  count = 0
  for restored in results:
    restored = np.asarray(restored, np.float64)  # differences of squares lose half of the digits
    total, squares = total + restored, squares + np.square(restored)
    count += 1
  variance = squares / count - np.square(total / count)
  return (np.sqrt(np.maximum(variance, 0)) + FLOOR).astype(np.float32)


def of_dropout(model: nn.Module, params: Any, *, share: float = DROPPED, seed: int = 0) -> Spread:
  """The standard deviation over `DRAWS` results of a network that drops channels at random.

  The same channels for every image, drawn for each layer of convolutions or matrix products except
  those with three channels, which make images (Gal and Ghahramani 2016, as injected into networks
  trained without by Ledda et al. 2023, arXiv:2302.02924).
  """

  @jax.jit
  def run(key, images):
    layers = itertools.count()

    def drop(call, arguments, options, context):
      result = call(*arguments, **options)
      kinds = (Conv, ConvTranspose, DepthwiseConv, nn.Conv, nn.Dense)
      if not isinstance(context.module, kinds) or result.shape[-1] <= 3:
        return result
      own = jax.random.fold_in(key, next(layers))
      kept = jax.random.bernoulli(own, 1 - share, (result.shape[-1],))
      return result * jnp.reshape(kept / (1 - share), (1,) * (result.ndim - 1) + (-1,))

    with nn.intercept_methods(drop):
      output: Any = model.apply({'params': params}, images)
      return output['restored']

  keys = jax.random.split(jax.random.key(seed), DRAWS)
  return lambda images: of_results(run(key, images) for key in keys)


def of_samples(model: nn.Module, params: Any) -> Spread:
  """The standard deviation over `DRAWS` samples of a network that samples, plus `FLOOR`.

  Raises ValueError if the network restores a picture in one way only.
  """
  if not getattr(model, 'samples', False):
    raise ValueError('this network restores a picture in one way only: there are no samples')

  @jax.jit
  def run(key, images):
    output: Any = model.apply({'params': params}, images, rngs={'noise': key})
    return output['restored']

  keys = jax.random.split(jax.random.key(0), DRAWS)
  return lambda images: of_results(run(key, images) for key in keys)


def of_stages(model: nn.Module, params: Any) -> Spread:
  """The standard deviation over the results of a network's stages.

  Costs as much as the network. Raises ValueError if the network has fewer than two.
  """

  @jax.jit
  def run(images):
    output: Any = model.apply({'params': params}, images)
    return output.get('stages', ())

  def spread(images: np.ndarray) -> np.ndarray:
    stages = run(images)
    if len(stages) < 2 or any(stage.shape != images.shape for stage in stages):
      raise ValueError('this network does not have several stages of the size of the image')
    return of_results(stages)

  return spread


def of_head(model: nn.Module, params: Any) -> Spread:
  """Half the width of the interval that a network itself predicts, plus `FLOOR`.

  Raises ValueError if it predicts none, see `models.headed`.
  """

  @jax.jit
  def run(images):
    output: Any = model.apply({'params': params}, images)
    return output.get('half_width')

  def spread(images: np.ndarray) -> np.ndarray:
    found = run(images)
    if found is None:
      raise ValueError('this network predicts no intervals: train one with config.head')
    return np.asarray(found) + np.float32(FLOOR)

  return spread
