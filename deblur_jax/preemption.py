"""Graceful stop: SIGTERM or Ctrl-C in one process makes all processes save and stop."""

import signal
from typing import Any

import jax

from deblur_jax import sharding


class Preemption:
  """Catches SIGTERM and Ctrl-C within its `with` block; a second signal is not caught.

  `mesh` covers the devices of all processes.
  """

  def __init__(self, mesh: Any):
    self._mesh, self._signaled, self._pending = mesh, False, None

  def agreed(self) -> bool:
    """Whether to stop after this step; the same answer in every process."""
    if jax.process_count() == 1:
      return self._signaled
    # Uses the answer requested in the previous step, which is ready by now, so nothing waits.
    before, self._pending = self._pending, sharding.any_process(self._signaled, self._mesh)
    return before is not None and bool(before)

  def __enter__(self) -> 'Preemption':
    self._before = {one: signal.signal(one, self._note) for one in (signal.SIGTERM, signal.SIGINT)}
    return self

  def __exit__(self, *error: object) -> None:
    for one, handler in self._before.items():
      signal.signal(one, handler)

  def _note(self, number: int, frame: object) -> None:
    self._signaled = True
    signal.signal(number, self._before[number])
