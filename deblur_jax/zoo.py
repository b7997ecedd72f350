"""A name for a method, and the method: what restores images, whatever it is.

Nobody downstream asks whether it is a network or a solver. A name is that of weights that come with
the package, a run's folder, a `.safetensors` file, or one of `solvers.SOLVERS`.
"""

from collections.abc import Mapping
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from deblur_jax import fit, models, weights
from deblur_jax.blur import light
from deblur_jax.solvers import SOLVERS, WITHOUT_PSF
from deblur_jax.types import Needs, Restore

DEFAULT = 'general'
"""The weights in the package that are taken where none are named."""

SHIPPED = pathlib.Path(__file__).parent / 'weights'

RUN_WEIGHTS = 'weights.safetensors'
"""What a run's folder calls its best weights."""

LARGEST_PSF = 64
"""Context that a solver's tiles have where the PSF comes with the pictures."""

TRIAL_SIDE = 64
"""Side of the image that a network's parameter shapes are asked for with; nothing is computed."""


class Method(NamedTuple):
  """A way to restore images, and what it needs of them."""

  name: str
  restore: Restore
  """`[b h w 3]` float32 -> the same, compiled once a shape; sides are multiples of the needs'."""
  needs: Needs


def load(
  name: str | os.PathLike[str] = DEFAULT,
  *,
  dtype: str | None = None,
  psf: Any = None,
  settings: Mapping[str, Any] | None = None,
) -> Method:
  """The method that `name` stands for: a solver, or weights, see `find`.

  `dtype` is what a network computes in, in place of what its manifest says; `psf` `[kh kw]` is what
  blurred the pictures, for a solver. `settings` replace arguments of the network: {'stages': 1} is
  MAXIM up to its first stage, {'tlc': 384} local statistics. Raises FileNotFoundError if there is
  nothing of that name, and ValueError if the weights are damaged, are of an unknown network, do not
  fit it, or come with a PSF, or if a solver comes with settings.
  """
  settings = dict(settings or {})
  if is_solver(name):
    if settings:
      raise ValueError(f'{name} is no network: it has no {", ".join(settings)} to set')
    return _solver(os.fspath(name), psf)
  path = find(name)
  if psf is not None:
    raise ValueError(f'{name} is a network, which takes no PSF; {", ".join(SOLVERS)} do')
  params, manifest = weights.read(path)
  try:
    network, arguments = manifest['network'], {**manifest['arguments'], **settings}
  except KeyError as error:
    raise weights.WeightsError(f'{path}: the manifest has no {error} entry') from None
  if dtype := dtype or arguments.get('dtype'):
    arguments['dtype'] = jnp.dtype(dtype)
  model = models.make(network, **arguments)
  expected = shapes(model)
  if 'stages' in settings:
    params = fit.shared(params, expected)
  fit.check(params, expected, what=f'{path} ({network})')
  params = jax.device_put(params)

  @jax.jit
  def apply(params, blurred):
    return model.apply({'params': params}, blurred)['restored']

  def restore(blurred, **known):
    del known  # A network was trained to do without.
    return apply(params, blurred)

  return Method(path.parent.name if path.name == RUN_WEIGHTS else path.stem, restore, model.needs)


def is_solver(name: str | os.PathLike[str]) -> bool:
  """Whether `name` is that of a classical method; './wiener' is the folder or file of that name."""
  return os.fspath(name) in SOLVERS


def _solver(name: str, psf: Any) -> Method:
  """A classical method as one for pictures: it works in linear light, in which blur is linear."""

  to_linear, to_srgb = jax.jit(light.to_linear), jax.jit(light.to_srgb)

  def restore(blurred, *, psf=psf, **known):
    del known  # Noise is estimated.
    if psf is None and name not in WITHOUT_PSF:
      raise ValueError(f'{name} needs the PSF that blurred the picture')
    psf = None if psf is None else jnp.asarray(psf, jnp.float32)
    # Not compiled as one: solvers compile themselves, and on a CPU take a few channels at once.
    return to_srgb(SOLVERS[name](to_linear(blurred), psf))

  reach = LARGEST_PSF if psf is None else max(psf.shape)
  return Method(name, restore, Needs(tiling='approximate', halo=2 * reach, borders=True))


def shapes(model) -> dict:
  """The parameters of a network as `jax.ShapeDtypeStruct`s, nested."""
  side = model.needs.square(TRIAL_SIDE)
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), image)['params']


def shipped() -> dict[str, pathlib.Path]:
  """Name -> file of the weights that come with the package."""
  return {path.stem: path for path in sorted(SHIPPED.glob('*.safetensors'))}


def find(name: str | os.PathLike[str]) -> pathlib.Path:
  """The weights file that `name` stands for.

  A name of `shipped` weights, a run's folder or a `.safetensors` file; './general' is the folder
  or file where 'general' is shipped. Raises FileNotFoundError with what can be given.
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
    f"{path}: no such weights; there are: {can}a run's folder (holding {RUN_WEIGHTS}), a "
    f'.safetensors file, or without weights {", ".join(SOLVERS)}'
  )
