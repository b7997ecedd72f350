"""How far a long solve is, told while it runs."""

from collections.abc import Callable, Iterator
import contextlib

import jax

_TIMES = 500
"""How often a solve tells."""

_listeners: list[Callable[[float], None]] = []


@contextlib.contextmanager
def listening(listener: Callable[[float], None]) -> Iterator[None]:
  """Calls `listener` with the part that is done, above 0 and up to 1, of every long solve within.

  Of several images or threads, all tell. Only solvers that take minutes do: `deep_image_prior` and
  `self_deblur`.
  """
  _listeners.append(listener)
  try:
    yield
    jax.effects_barrier()
  finally:
    _listeners.remove(listener)


def tell(step: jax.Array, steps: int) -> None:
  """In a compiled loop: step `step`, from 0, of `steps` is done."""
  done = step + 1
  due = (done % max(1, steps // _TIMES) == 0) | (done == steps)
  jax.lax.cond(due, lambda: jax.debug.callback(_call, done / steps), lambda: None)


def _call(part: jax.Array) -> None:
  for listener in tuple(_listeners):
    listener(float(part))
