"""Loads a method of restoration by name, so that callers need not know whether it is a network.

A name is that of weights that come with the package, a run's folder, a `.safetensors` file, or one
of `solvers.SOLVERS`.
"""

from collections.abc import Mapping
import functools
import os
from typing import Any, NamedTuple

import jax
from jax.core import Tracer
import jax.numpy as jnp
import numpy as np

from deblur_jax import checks, color, exported, methods, models, weights
from deblur_jax.methods import DEFAULT, RUN_WEIGHTS, find, is_solver, shipped
from deblur_jax.solvers import SOLVERS, WITHOUT_PSF
from deblur_jax.types import Needs, Restore

LARGEST_PSF = 64
"""Context of a solver's tiles if the PSF is passed with the pictures."""


class Method(NamedTuple):
  """A way to restore images, and its requirements on them."""

  name: str
  restore: Restore
  """`[b h w 3]` float32 -> the same, compiled once per shape; sides multiples of `needs.multiple`.
  """
  needs: Needs
  samples: bool = False
  """Whether `restore(blurred, seed=N)` draws another result for every N."""
  reads_masks: bool = False
  """Whether `restore` also takes `[b h w 4]`, where 1 in the last channel is what is to stay."""


def load(
  name: str | os.PathLike[str] = DEFAULT,
  *,
  dtype: str | None = None,
  psf: Any = None,
  settings: Mapping[str, Any] | None = None,
) -> Method:
  """The method called `name`: a solver, or weights, see `find`.

  `dtype` replaces the manifest's as the dtype that a network computes in; `psf` `[kh kw]` is the
  PSF for a solver. `settings` replace arguments of the network: {'stages': 1} is MAXIM up to its
  first stage, {'tlc': 384} local statistics. Raises FileNotFoundError if there is no method of that
  name, and ValueError if the weights are damaged, are for an unknown network, or do not fit it or
  the settings, if a network is given a PSF, or if a solver is given settings.
  """
  settings = dict(settings or {})
  if is_solver(name):
    if settings:
      raise ValueError(f'{name} is a classical method and has no settings: {", ".join(settings)}')
    return _solver(os.fspath(name), psf)
  path = find(name)
  if psf is not None:
    classical = ', '.join(SOLVERS)
    raise ValueError(f'{name} is a network and takes no PSF; classical methods do: {classical}')
  if path.suffix in methods.EXPORTED:
    if settings or dtype not in (None, 'float32'):
      raise ValueError(f'{path} is an exported network: its arguments are fixed')
    network_in_file = exported.open_file(path)
    return Method(path.stem, network_in_file.restore, network_in_file.needs)
  model, params, _ = network(path, dtype=dtype, settings=settings)
  params = jax.device_put(params)

  def apply(params, blurred, seed):
    rngs = {} if seed is None else {'noise': jax.random.key(seed)}
    colors, spared = blurred[..., :3], blurred[..., 3:]
    more = {'spared': spared} if spared.shape[-1] else {}
    restored = model.apply({'params': params}, colors, rngs=rngs, **more)['restored']
    return jnp.concatenate([restored, spared], axis=-1) if more else restored

  compiled = jax.jit(apply, compiler_options=_compiler_options())

  samples = getattr(model, 'samples', False)
  reads_masks = getattr(model, 'reads_masks', False)

  def restore(blurred, *, seed=0, **known):
    del known  # Networks are trained to restore from the picture alone.
    checks.batch(blurred[..., :3] if reads_masks else blurred)
    checks.images(blurred, values=isinstance(blurred, np.ndarray))
    # Inside another jit, JAX refuses compiler options.
    run = apply if isinstance(blurred, Tracer) else compiled
    return run(params, blurred, seed if samples else None)

  called = path.parent.name if path.name == RUN_WEIGHTS else path.stem
  return Method(called, restore, model.needs, samples, reads_masks)


def network(
  name: str | os.PathLike[str],
  *,
  dtype: str | None = None,
  settings: Mapping[str, Any] | None = None,
) -> tuple[Any, Any, dict[str, Any]]:
  """(network, parameters, manifest) of the weights called `name`; arguments and errors of `load`.

  The manifest has the arguments as they were set.
  """
  path, settings = find(name), dict(settings or {})
  params, manifest = weights.read(path)
  try:
    called, arguments = manifest['network'], {**manifest['arguments'], **settings}
  except KeyError as error:
    raise weights.WeightsError(f'{path}: the manifest has no {error} entry') from None
  if dtype:
    arguments['dtype'] = dtype
  if settings:
    model, params = _set(called, arguments, settings, params, path)
  else:
    model = _model(called, arguments)
    if path not in shipped().values():  # Those fit, as a test holds, and tracing takes a second.
      weights.check_fit(params, models.shapes(model), what=f'{path} ({called})')
  return model, params, {**manifest, 'arguments': arguments}


def reads_words(name: str | os.PathLike[str]) -> bool:
  """Whether the weights called `name` are of a network whose setting `prompt` says what to do."""
  return _is(name, 'reads_words')


def samples(name: str | os.PathLike[str]) -> bool:
  """Whether the weights called `name` are of a network that draws samples."""
  return _is(name, 'samples')


def _is(name: str | os.PathLike[str], what: str) -> bool:
  path = find(name)
  if path.suffix in methods.EXPORTED:
    return False
  _, manifest = weights.read(path)
  if not {'network', 'arguments'} <= manifest.keys():
    return False  # `load` says what is missing
  return bool(getattr(_model(manifest['network'], manifest['arguments']), what, False))


def _model(network: str, arguments: Mapping[str, Any]) -> Any:
  """The network with the arguments of a manifest."""
  dtype = arguments.get('dtype')
  return models.make(network, **{**arguments, **({'dtype': jnp.dtype(dtype)} if dtype else {})})


def _compiler_options() -> dict[str, str]:
  """XLA's, for less memory at the same speed: MAXIM's three stages take 2.0 GB instead of 4.4."""
  if jax.default_backend() != 'cpu':
    return {}
  return {'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED'}


def _set(network: str, arguments: Mapping, settings: Mapping, params: Any, path: Any) -> tuple:
  """(network, parameters) with `settings` among the arguments; raises a one-line ValueError."""
  text = ', '.join(f'{name}={value}' for name, value in settings.items())
  try:
    model = _model(network, arguments)
    expected = models.shapes(model)
    if 'stages' in settings:
      params = weights.shared(params, expected)
    weights.check_fit(params, expected, what=f'{path} ({network})')
  except weights.DoesNotFit as error:
    counts = str(error).partition('\n')[0].partition(';')[0]
    raise ValueError(f'the weights do not fit {network} with {text}: {counts}') from None
  except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
    # Networks do not check their arguments: invalid ones fail wherever they are used.
    reason = next(iter(str(error).splitlines()), '')
    raise ValueError(f'{network} cannot be built with {text}: {reason}') from None
  return model, params


def _solver(name: str, psf: Any) -> Method:
  """A classical method; it works in linear light, where blur is linear.

  `transfer` converts the pictures' code values to linear light, sRGB by default.
  """

  def restore(blurred, *, psf=psf, transfer=color.SRGB, **known):
    del known  # The noise level is estimated.
    if psf is None and name not in WITHOUT_PSF:
      raise ValueError(f'{name} requires the PSF of the blur')
    checks.batch(blurred)
    checks.images(blurred)
    psf = None if psf is None else jnp.asarray(psf, jnp.float32)
    # Not jitted as a whole: solvers jit themselves, and run channels in parallel on a CPU.
    light = _to_linear(blurred, transfer)
    return _from_linear(SOLVERS[name](light, psf), transfer)

  reach = LARGEST_PSF if psf is None else max(psf.shape)
  return Method(name, restore, Needs(tiling='approximate', halo=2 * reach, borders=True))


@functools.partial(jax.jit, static_argnames='transfer')
def _to_linear(image: jax.Array, transfer: color.Transfer) -> jax.Array:
  return transfer.to_linear(image)


@functools.partial(jax.jit, static_argnames='transfer')
def _from_linear(light: jax.Array, transfer: color.Transfer) -> jax.Array:
  return transfer.from_linear(light)
