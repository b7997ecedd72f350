"""Progress reports of solvers that take minutes."""

from collections.abc import Callable, Iterator
import contextlib

import jax

_TIMES = 500
"""How many times a solve reports."""

_listeners: list[Callable[[float], None]] = []


@contextlib.contextmanager
def listening(listener: Callable[[float], None]) -> Iterator[None]:
  """Calls `listener` with the fraction done, above 0 and up to 1, of solves inside the block.

  Every image and thread reports. Only solvers that take minutes do: `deep_image_prior` and
  `self_deblur`. A function that `jax.jit` has traced outside the block does not.
  """
  _listeners.append(listener)
  try:
    yield
    jax.effects_barrier()
  finally:
    _listeners.remove(listener)


def heard() -> bool:
  """Whether anybody listens. If not, better compile without reports, which no cache can keep."""
  return bool(_listeners)


def report(step: jax.Array, steps: int) -> None:
  """Reports from inside a compiled loop that step `step`, from 0, of `steps` is done."""
  done = step + 1
  due = (done % max(1, steps // _TIMES) == 0) | (done == steps)
  jax.lax.cond(due, lambda: jax.debug.callback(_call, done / steps), lambda: None)


def _call(part: jax.Array) -> None:
  for listener in tuple(_listeners):
    listener(float(part))
