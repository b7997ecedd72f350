"""Whether weights fit a network, and an error that says all that does not."""

from collections.abc import Mapping
from typing import Any

from flax import traverse_util
import numpy as np


class DoesNotFit(ValueError):
  """Weights whose names or shapes are not those of the network."""


def check(found: Mapping[str, Any], expected: Mapping[str, Any], *, what: str) -> None:
  """Nothing, where the names and shapes of two nested dicts are the same.

  Leaves are arrays or `jax.ShapeDtypeStruct`s; dtypes are not compared. `what` names the weights in
  the error, such as 'weights.safetensors for mprnet'.

  Raises:
    DoesNotFit: listing every missing, extra and mis-shaped name.
  """
  found_shapes, expected_shapes = _shapes(found), _shapes(expected)
  missing = sorted(expected_shapes.keys() - found_shapes.keys())
  extra = sorted(found_shapes.keys() - expected_shapes.keys())
  shared = sorted(expected_shapes.keys() & found_shapes.keys())
  wrong = [name for name in shared if found_shapes[name] != expected_shapes[name]]
  if not missing and not extra and not wrong:
    return
  lines = [
    f'{what}: {len(missing)} missing, {len(extra)} extra, {len(wrong)} of another shape '
    f'(of {len(expected_shapes)}); use the variant and arguments that the weights were made with'
  ]
  lines += [f'  missing  {name} {_text(expected_shapes[name])}' for name in missing]
  lines += [f'  extra    {name} {_text(found_shapes[name])}' for name in extra]
  lines += [
    f'  shape    {name} is {_text(found_shapes[name])}, expected {_text(expected_shapes[name])}'
    for name in wrong
  ]
  raise DoesNotFit('\n'.join(lines))


def shared(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
  """What of the nested dict `found` is in `expected` too, by name."""
  names = traverse_util.flatten_dict(dict(expected)).keys()
  flat = traverse_util.flatten_dict(dict(found))
  return traverse_util.unflatten_dict({name: flat[name] for name in flat if name in names})


def _shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  flat = traverse_util.flatten_dict(dict(tree), sep='/')
  return {name: tuple(np.shape(leaf)) for name, leaf in flat.items()}


def _text(shape: tuple[int, ...]) -> str:
  return f'[{" ".join(map(str, shape))}]'
