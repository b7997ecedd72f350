"""A layer's parameters, without the time that Flax takes to look at each."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import contextvars

from flax import errors
import flax.linen as nn
import jax
import jax.numpy as jnp

_values_asked = contextvars.ContextVar('values_asked', default=True)


@contextlib.contextmanager
def only_shapes() -> Iterator[None]:
  """New parameters are zeros inside the block; drawing them takes as long to trace as the rest."""
  token = _values_asked.set(False)
  try:
    yield
  finally:
    _values_asked.reset(token)


def parameter(
  module: nn.Module, name: str, init: Callable[..., jax.Array], shape: Sequence[int]
) -> jax.Array:
  """The parameter called `name` of a layer, an array of this shape; made by `init` the first time.

  The same as Flax's `module.param`, which traces the initializer again at every call to learn the
  shape that it would make. That was 40 % of the time it takes to trace MAXIM, which has a thousand
  parameters in each stage. Raises ScopeParamShapeError if the parameter has another shape.
  """
  known = module.has_variable('params', name)
  if not known and not _values_asked.get():
    module.put_variable('params', name, jnp.zeros(shape))
  elif not known or module.is_initializing():
    return module.param(name, init, tuple(shape))
  value = module.get_variable('params', name)
  if value.shape != tuple(shape):
    path = '/' + '/'.join(module.path)
    raise errors.ScopeParamShapeError(name, path, value.shape, tuple(shape))
  return value
