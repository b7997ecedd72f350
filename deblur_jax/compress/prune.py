"""Structured pruning: a trained network -> a plain, narrower one with its most useful channels.

All channel counts of a network are proportional to one argument, its width. Pruning chooses the
width that keeps the wanted share of the parameters, and in every group (see `groups`) the channels
with the highest scores. The result computes what the original computes if its other channels are 0
everywhere, and its normalizations over channels take their statistics over the channels that stay.
"""

import bisect
from collections.abc import Callable, Iterable, Mapping
import os
from typing import Any, NamedTuple

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import methods, models, weights, zoo
from deblur_jax.blur import synthesis
from deblur_jax.compress import groups
from deblur_jax.data import ops, pipeline, sources
from deblur_jax.losses.pixel import psnr
from deblur_jax.trainers.supervised import supervised
from deblur_jax.types import as_float

NETWORKS: dict[str, Callable[[Any, groups.Tied], None]] = {
  'nafnet': groups.nafnet,
  'maxim': groups.maxim,
}
"""The networks that can be pruned, and what adds their parameters to a `Tied`."""

BATCHES, BATCH, CROP = 16, 4, 128
"""Of the pictures that Taylor scores are computed from: batches, their size, side of the crops."""

ORIGIN = ('license', 'attribution', 'origin', 'source', 'changes')
"""Entries of a manifest that hold for pruned weights too; scores and training do not."""

Parameters = dict[str, np.ndarray]
"""Joined names -> values."""


class Pruned(NamedTuple):
  """A narrower network."""

  model: Any
  params: dict[str, Any]
  kept: dict[str, np.ndarray]
  """Group -> the channels of the original that it has, in ascending order."""
  before: int
  """Parameters of the original."""
  after: int
  """Parameters that it has."""
  change: str
  """Such as 'width 16 to 8'."""


def file(
  name: str,
  output: str | os.PathLike[str],
  *,
  keep: float,
  pictures: str | None = None,
  blur: str = synthesis.MIXED,
  settings: Mapping[str, Any] | None = None,
) -> Pruned:
  """Prunes the weights called `name`, see `methods.find`, and writes them to `output`.

  Channels are scored by `taylor` with `pictures`, a folder of sharp ones that `blur` is added to,
  and otherwise by magnitude. `settings` replace arguments of the network before it is pruned.
  Raises ValueError and FileNotFoundError as `zoo.network`, `prune`, `sources.open` and
  `synthesis.parse`.
  """
  if methods.is_solver(name):
    raise ValueError(f'{name} is a classical method: it has no weights to prune')
  path = methods.find(name)
  if path.suffix in methods.EXPORTED:
    raise ValueError(f'{path} is an exported network: prune the weights that it was made of')
  model, params, manifest = zoo.network(path, settings=settings)
  network = manifest['network']
  _width(network)  # Fails before the pictures are read.
  scored = {'by': 'magnitude'}
  if pictures is None:
    importance = [_flat(jax.tree.map(np.abs, params))]
  else:
    source = sources.open('sharp', 'all', directory=pictures)
    importance = taylor(model, params, source, blur)
    scored = {'by': 'taylor', 'pictures': len(source), 'digest': sources.digest(source)}
    scored['blur'] = blur
  pruned = prune(network, model, params, importance, keep=keep)
  width = _width(network)
  origin = {key: manifest[key] for key in ORIGIN if key in manifest}
  changes = [manifest['changes']] if 'changes' in manifest else []
  origin['changes'] = '; '.join([*changes, f'pruned from {pruned.change}'])
  record = {'weights': os.fspath(name), 'sha256': manifest['sha256']}
  record |= {'scores': scored, 'parameters': [pruned.before, pruned.after]}
  arguments = manifest['arguments'] | {width: getattr(pruned.model, width)}
  manifest = {'network': network, 'arguments': arguments, **origin, 'pruned': record}
  weights.write(output, pruned.params, manifest)
  return pruned


def prune(
  network: str,
  model: Any,
  params: Mapping[str, Any],
  importance: Iterable[Mapping[str, np.ndarray]],
  *,
  keep: float,
) -> Pruned:
  """`model` and `params` of the network called `network` with about `keep` of the parameters.

  Each `importance` has the shapes of the parameters, by joined names; a channel's score is the sum
  of all their values that belong to it. Raises ValueError if the network cannot be pruned, or not
  that far.
  """
  width, flat = _width(network), _flat(params)
  tied = groups.Tied({name: value.shape for name, value in flat.items()})
  NETWORKS[network](model, tied)
  smaller = _narrower(network, model, tied, keep)
  old, new = getattr(model, width), getattr(smaller, width)
  sizes = tied.scaled(old, new)
  kept = {
    group: np.sort(np.argsort(-score, kind='stable')[: sizes[group]])
    for group, score in scores(tied, importance).items()
  }
  cut = traverse_util.unflatten_dict(_cut(tied, flat, kept), sep='/')
  weights.check_fit(cut, models.shapes(smaller), what=f'{network} of {width} {new}')
  before, after = tied.count(tied.sizes()), tied.count(sizes)
  return Pruned(smaller, cut, kept, before, after, f'{width} {old} to {new}')


def scores(
  tied: groups.Tied, importance: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
  """Group -> the sum of every `importance` for each of its channels."""
  sizes = tied.sizes()
  found = {group: np.zeros(size) for group, size in sizes.items()}
  for each in importance:
    for name, axes in tied.axes.items():
      for number, axis in enumerate(axes):
        others = tuple(i for i in range(len(axes)) if i != number)
        if axis.groups:
          for group, sums in axis.sums(each[name].sum(others), sizes):
            found[group] += sums
  return found


def taylor(
  model: Any, params: Mapping[str, Any], source: sources.Source, blur: str
) -> Iterable[Parameters]:
  """|w dL/dw| of every parameter for batches of `source`, first-order changes of the loss L.

  L is the negative PSNR, summed over stages. Sharp pictures are blurred by `blur`, a mix of
  `synthesis`.
  """
  degrade = synthesis.parse(blur)
  augment = ops.parse(f'crop({model.needs.square(CROP)}) | dihedral')
  batches: Any = pipeline.batches(source, augment, batch_size=BATCH, seed=0)

  @jax.jit
  def change(params, key, sharp):
    sharp = as_float(sharp)
    blurred = degrade(key, sharp)

    def loss(params):
      judged = supervised(model, model.apply({'params': params}, blurred), sharp)
      return sum(psnr(*pair).mean() for pair in judged)

    return jax.tree.map(lambda w, slope: jnp.abs(w * slope), params, jax.grad(loss)(params))

  for step in range(BATCHES):
    key = jax.random.fold_in(jax.random.key(0), step)
    yield _flat(change(params, key, batches[step]['sharp']))


def _narrower(network: str, model: Any, tied: groups.Tied, keep: float) -> Any:
  """The network of the width that keeps nearest to `keep` of the parameters, never all."""
  if not 0 < keep < 1:
    raise ValueError(f'the share of parameters to keep must be between 0 and 1, not {keep}')
  width = _width(network)
  old = getattr(model, width)
  widths = range(getattr(model, 'reduction', 1), old)
  if not widths:
    raise ValueError(f'{network} of {width} {old} cannot be any narrower')

  def share(new: int) -> float:
    return tied.count(tied.scaled(old, new)) / tied.count(tied.sizes())

  if keep < share(widths[0]):
    raise ValueError(
      f'the smallest {network} with these arguments, of {width} {widths[0]}, keeps '
      f'{share(widths[0]):.3f} of the parameters, not {keep}'
    )
  above = bisect.bisect_left(widths, keep, key=share)
  near = widths[max(above - 1, 0) : above + 1]
  return model.clone(**{width: min(near, key=lambda new: abs(share(new) - keep))})


def _cut(tied: groups.Tied, flat: Parameters, kept: Mapping[str, np.ndarray]) -> Parameters:
  """The parameters without the channels that are not `kept`."""
  sizes, cut = tied.sizes(), dict(flat)
  for name, axes in tied.axes.items():
    for number, axis in enumerate(axes):
      if axis.groups:
        cut[name] = np.take(cut[name], axis.indices(kept, sizes), axis=number)
  return cut


def _width(network: str) -> str:
  """The argument that all channel counts of a network are proportional to."""
  if network not in NETWORKS:
    raise ValueError(f'{network} cannot be pruned, only {" and ".join(NETWORKS)}')
  return models.WIDTHS[network]


def _flat(params: Mapping[str, Any]) -> Parameters:
  return {name: np.asarray(v) for name, v in traverse_util.flatten_dict(params, sep='/').items()}
