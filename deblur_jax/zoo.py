"""A name for a method, and the method: what restores images, whatever it is.

Nobody downstream asks whether it is a network, a solver or an ensemble. So far a name is a run's
folder or a `.safetensors` file.
"""

import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp

from deblur_jax import fit, models, weights
from deblur_jax.types import Needs, Restore

RUN_WEIGHTS = 'weights.safetensors'
"""What a run's folder calls its best weights."""

TRIAL_SIDE = 64
"""Side of the image that a network's parameter shapes are asked for with; nothing is computed."""


class Method(NamedTuple):
  """A way to restore images, and what it needs of them."""

  name: str
  restore: Restore
  """`[b h w 3]` float32 -> the same, compiled once a shape; sides are multiples of the needs'."""
  needs: Needs


def load(name: str | os.PathLike[str]) -> Method:
  """The method that `name` stands for: a run's folder or a `.safetensors` file.

  Raises FileNotFoundError where there is nothing of that name, and ValueError where the weights are
  damaged, are of an unknown network or do not fit it.
  """
  path = find(name)
  params, manifest = weights.read(path)
  try:
    network, arguments = manifest['network'], manifest['arguments']
  except KeyError as error:
    raise weights.WeightsError(f'{path}: the manifest has no {error} entry') from None
  model = models.make(network, **arguments)
  needs = model.needs
  side = needs.multiple * -(-TRIAL_SIDE // needs.multiple)
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  expected = jax.eval_shape(model.init, jax.random.key(0), image)['params']
  fit.check(params, expected, what=f'{path} ({network})')
  params = jax.device_put(params)

  @jax.jit
  def apply(params, blurred):
    return model.apply({'params': params}, blurred)['restored']

  def restore(blurred, **known):
    del known  # A network was trained to do without.
    return apply(params, blurred)

  return Method(path.parent.name if path.name == RUN_WEIGHTS else path.stem, restore, needs)


def find(name: str | os.PathLike[str]) -> pathlib.Path:
  """The weights file that `name` stands for, or FileNotFoundError with what can be given."""
  path = pathlib.Path(name)
  if path.is_dir():
    if not (path / RUN_WEIGHTS).is_file():
      raise FileNotFoundError(
        f'{path}: no {RUN_WEIGHTS} in this folder; a run writes it when it first evaluates'
      )
    return path / RUN_WEIGHTS
  if path.is_file():
    return path
  raise FileNotFoundError(
    f"{path}: no such weights; give a run's folder (holding {RUN_WEIGHTS}) or a .safetensors file"
  )
