"""A name for a method, and the method: what restores images, whatever it is.

Nobody downstream asks whether it is a network, a solver or an ensemble. So far a name is that of
weights that come with the package, a run's folder or a `.safetensors` file.
"""

import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp

from deblur_jax import fit, models, weights
from deblur_jax.types import Needs, Restore

DEFAULT = 'general'
"""The weights in the package that are taken where none are named."""

SHIPPED = pathlib.Path(__file__).parent / 'weights'

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


def load(name: str | os.PathLike[str] = DEFAULT, *, dtype: str | None = None) -> Method:
  """The method that `name` stands for: see `find`.

  `dtype` is what a network computes in, in place of what its manifest says. Raises
  FileNotFoundError where there is nothing of that name, and ValueError where the weights are
  damaged, are of an unknown network or do not fit it.
  """
  path = find(name)
  params, manifest = weights.read(path)
  try:
    network, arguments = manifest['network'], dict(manifest['arguments'])
  except KeyError as error:
    raise weights.WeightsError(f'{path}: the manifest has no {error} entry') from None
  if dtype := dtype or arguments.get('dtype'):
    arguments['dtype'] = jnp.dtype(dtype)
  model = models.make(network, **arguments)
  fit.check(params, shapes(model), what=f'{path} ({network})')
  params = jax.device_put(params)

  @jax.jit
  def apply(params, blurred):
    return model.apply({'params': params}, blurred)['restored']

  def restore(blurred, **known):
    del known  # A network was trained to do without.
    return apply(params, blurred)

  return Method(path.parent.name if path.name == RUN_WEIGHTS else path.stem, restore, model.needs)


def shapes(model) -> dict:
  """The parameters of a network as `jax.ShapeDtypeStruct`s, nested."""
  multiple = model.needs.multiple
  side = multiple * -(-TRIAL_SIDE // multiple)
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), image)['params']


def shipped() -> dict[str, pathlib.Path]:
  """Name -> file of the weights that come with the package."""
  return {path.stem: path for path in sorted(SHIPPED.glob('*.safetensors'))}


def find(name: str | os.PathLike[str]) -> pathlib.Path:
  """The weights file that `name` stands for.

  A name of `shipped` weights, a run's folder or a `.safetensors` file; './general' is the folder or
  file where 'general' is shipped. Raises FileNotFoundError with what can be given.
  """
  known = shipped()
  if os.fspath(name) in known:
    return known[os.fspath(name)]
  path = pathlib.Path(name)
  if path.is_dir():
    if not (path / RUN_WEIGHTS).is_file():
      raise FileNotFoundError(
        f'{path}: no {RUN_WEIGHTS} in this folder; a run writes it when it first evaluates'
      )
    return path / RUN_WEIGHTS
  if path.is_file():
    return path
  can = f'{", ".join(known)}, ' if known else ''
  raise FileNotFoundError(
    f"{path}: no such weights; there are: {can}a run's folder (holding {RUN_WEIGHTS}) or a "
    '.safetensors file'
  )
