"""A network with its weights -> one file that runs without this package: ONNX or StableHLO."""

from collections.abc import Callable, Mapping
import dataclasses
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import lazy, zoo
from deblur_jax.types import Needs

if TYPE_CHECKING:
  from deblur_jax.export import onnx, stablehlo

__all__ = ['Request', 'difference', 'of_weights', 'onnx', 'stablehlo']

TOLERANCE = {'float32': 1e-4, 'float16': 2e-2}
"""Largest difference from JAX, relative to the standard deviation of its output, by type."""


class Request(NamedTuple):
  """What to export, and for which inputs."""

  apply: Callable[[jax.Array], jax.Array]
  """`[b h w 3]` float32 -> the same, traceable."""
  needs: Needs
  manifest: Mapping[str, Any]
  """Written into the file: network, arguments, digest, license, needs."""
  size: tuple[int, int] | None = None
  """(height, width) that the file takes; None for any multiples of `needs.multiple`."""
  batch: int | None = 1
  """Images at a time; None for any number."""
  dtype: str = 'float32'
  """Of the computation; inputs and outputs are float32."""

  def trial_shapes(self) -> list[tuple[int, int, int, int]]:
    """Three shapes of inputs to try the file with, one of them not square."""
    m = max(self.needs.multiple, 16)
    m += -m % self.needs.multiple
    sizes = [self.size] * 3 if self.size else [(4 * m, 4 * m), (3 * m, 5 * m), (6 * m, 2 * m)]
    batches = [self.batch] * 3 if self.batch else [1, 2, 3]
    return [(batch, *size, 3) for batch, size in zip(batches, sizes, strict=True)]


def of_weights(
  name: str,
  *,
  size: tuple[int, int] | None = None,
  batch: int | None = 1,
  dtype: str = 'float32',
  settings: Mapping[str, Any] | None = None,
) -> Request:
  """The request to export the weights called `name`, see `methods.find`; the rest as in `Request`.

  `settings` replace arguments of the network. Raises ValueError if the network cannot take images
  of `size`, and as `zoo.load` does.
  """
  model, params, manifest = zoo.network(name, settings=settings)
  needs = model.needs
  if size and (any(side % needs.multiple for side in size) or needs.side not in (0, *size)):
    wanted = f'squares of {needs.side}' if needs.side else f'multiples of {needs.multiple}'
    raise ValueError(f'{manifest["network"]} takes {wanted}, not {size[0]}x{size[1]}')
  if needs.side:
    size = (needs.side, needs.side)
  if dtype != 'float32':
    model = model.clone(dtype=jnp.dtype(dtype))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)

  def apply(images: jax.Array) -> jax.Array:
    images = images.astype(dtype)
    return model.apply({'params': params}, images)['restored'].astype(jnp.float32)

  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  manifest |= {'parameters': count, 'dtype': dtype, 'deblur_jax': metadata.version('deblur-jax')}
  side = min(size) if size else 0
  manifest['needs'] = dataclasses.asdict(dataclasses.replace(needs, side=side))
  return Request(apply, needs, manifest, size, batch, dtype)


def difference(request: Request, run: Callable[[np.ndarray], np.ndarray]) -> float:
  """The largest difference between `run`, the file, and JAX on three random inputs.

  Raises ValueError if it is beyond `TOLERANCE`.
  """
  reference, generator, largest = jax.jit(request.apply), np.random.default_rng(0), 0.0
  for shape in request.trial_shapes():
    images = generator.uniform(size=shape).astype(np.float32)
    expected = np.asarray(reference(images))
    error = float(np.abs(run(images) - expected).max())
    if not error <= TOLERANCE[request.dtype] * expected.std():
      size = 'x'.join(map(str, shape[1:3]))
      raise ValueError(
        f'the exported file differs from JAX by {error:.2g} on a picture of {size}: not written'
      )
    largest = max(largest, error)
  return largest


__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, ''))
