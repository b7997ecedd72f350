"""A network with a head that predicts how far each of its values may be off.

The head is four convolutions of the blurred and the restored picture, so any network can have one.
What it learns does not change the network. `config.head` trains it (see docs/uncertainty.md).
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax import models
from deblur_jax.losses.interval import LEAST, MOST
from deblur_jax.nn.conv import Conv
from deblur_jax.types import Needs

NAME = f'{__name__}:Model'
"""The name of this network in configs and manifests."""

KINDS = 'quantiles', 'variance'

LAYERS = 4

START = 0.03
"""Half the width of the intervals, or standard deviation, about which training starts."""

VARIANTS = {'default': {'network': 'nafnet', 'arguments': {'variant': 'smoke'}}}


class Headed(nn.Module):
  """A network and its head; the result is the network's."""

  network: str
  arguments: tuple[tuple[str, Any], ...]
  """Of the network: (name, value)."""
  kind: str = 'quantiles'
  """Or 'variance'."""
  features: int = 16
  dtype: Any = jnp.float32

  @nn.nowrap
  def bare(self) -> Any:
    """The network, without parameters."""
    return models.make(self.network, **dict(self.arguments), dtype=self.dtype)

  @property
  def needs(self) -> Needs:
    needs = self.bare().needs
    reach = None if needs.reach is None else needs.reach + LAYERS
    halo = needs.halo if needs.tiling == 'none' else needs.halo + LAYERS
    return dataclasses.replace(needs, halo=halo, reach=reach)

  @nn.nowrap
  def pyramid(self, sharp: jax.Array) -> Any:
    """What the scales of the network are compared with."""
    return self.bare().pyramid(sharp)

  def setup(self):
    self.base = self.bare()
    outputs = {'quantiles': 6, 'variance': 3}[self.kind]
    widths = [self.features] * (LAYERS - 1) + [outputs]
    self.head = [Conv(width, 3, dtype=self.dtype) for width in widths]

  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    output = self.base(blurred, train=train)
    restored = jax.lax.stop_gradient(output['restored'])
    x = jnp.concatenate([blurred, restored, jnp.abs(restored - blurred)], axis=-1)
    for layer in self.head[:-1]:
      x = nn.silu(layer(x))  # units of ReLU die at high learning rates
    x = self.head[-1](x).astype(jnp.float32)
    if self.kind == 'quantiles':
      below, above = jnp.split(START * jnp.exp(x), 2, axis=-1)
      half, found = (below + above) / 2, {'low': restored - below, 'high': restored + above}
    else:
      log_variance = jnp.clip(x + 2 * jnp.log(START), LEAST, MOST)
      half, found = jnp.exp(log_variance / 2), {'log_variance': log_variance}
    return {**output, **found, 'half_width': half}


def Model(variant: str = 'default', **overrides: Any) -> Headed:
  """A `Headed` as `VARIANTS` has it, with `overrides`.

  `arguments` is a dict, or pairs as a `Headed` keeps them. Raises ValueError for an unknown kind.
  """
  values = {**VARIANTS[variant], **overrides}
  if values.get('kind', KINDS[0]) not in KINDS:
    raise ValueError(f'no head {values["kind"]!r} (known: {", ".join(KINDS)})')
  values['arguments'] = models.hashable(dict(values['arguments']))
  return Headed(**values)


def around(network: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
  """`config.model` for a head on the network of another `config.model`."""
  arguments = {name: value for name, value in network.items() if name not in ('name', 'dtype')}
  pairs = [[name, value] for name, value in sorted(arguments.items())]
  return {'name': NAME, 'network': network['name'], 'arguments': pairs, **settings}
