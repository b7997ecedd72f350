"""Restores files on a Ray cluster, with a worker process for each device.

All machines must see the files under the same paths, as with a network file system: only paths and
outcomes are sent. Ray's actors are used directly: with `map_batches` of Ray Data, a picture that
kills its worker, because it needs more memory than there is, would be tried forever, or end the run
if there is a limit. Here it fails, and the rest are restored.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import functools
import importlib.util
import os
import sys
from typing import Any

from deblur_jax.photos import interrupt, jobs, restore
from deblur_jax.photos.restorer import Restorer

TRIES = 2
"""How often a file is begun before it fails because its worker died each time."""

Prepare = Callable[[], tuple[Restorer, restore.Options]]


class _Worker:
  """Restores files, one at a time, in a process of its own on any machine."""

  def __init__(self, folder: str, prepare: Prepare):
    self._folder, self._prepare = folder, prepare

  @functools.cached_property
  def _prepared(self) -> tuple[Restorer, restore.Options]:
    os.chdir(self._folder)  # so that relative paths mean the same as where the run was started
    if '' not in sys.path:
      sys.path.append('')
    return self._prepare()

  def device(self) -> str:
    """The kind of the device, once everything is loaded."""
    import jax

    _ = self._prepared
    return jax.devices()[0].device_kind

  def restore(self, step: restore.Step) -> jobs.Outcome:
    return restore.restore_step(step, *self._prepared)


class Cluster:
  """A connection to a Ray cluster; `connect` makes it."""

  def __init__(self, ray: Any, workers: Sequence[Any]):
    self._ray, self._workers = ray, workers
    self.device = ''
    """The kind of device that restores, once a worker has started."""

  def run(
    self, steps: Sequence[restore.Step], watch: jobs.Watch | None = None
  ) -> Iterator[tuple[jobs.Job, jobs.Outcome]]:
    """Yields the outcomes of steps as they end, for `restore.restore_by`.

    If a worker dies, its file is begun again, at most `TRIES` times in all. Raises what loading
    the method raises.
    """
    waiting, busy = collections.deque(steps), {}
    # A file is assigned only to a worker that has started: others may have to wait for a machine.
    starting = {worker.device.remote(): worker for worker in self._workers}
    while waiting or busy:
      done, _ = self._ray.wait([*starting, *busy], timeout=0.5)  # so that Ctrl-C is seen
      interrupt.check()
      for reference in done:
        if reference in starting:
          worker = starting.pop(reference)
          self.device = self._get(reference)
        else:
          step, worker = busy.pop(reference)
          if watch:
            watch.advance(step.size[0] * step.size[1])
          yield step.job, self._outcome(reference, step)
        if waiting:
          step = waiting.popleft()
          busy[worker.restore.remote(step)] = step, worker

  def _outcome(self, reference: Any, step: restore.Step) -> jobs.Outcome:
    try:
      return self._get(reference)
    except self._ray.exceptions.RayError:
      message = f'the worker died {TRIES} times; the picture may need more memory than there is'
      return jobs.Outcome(step.job.source, step.job.target, 'failed', message, size=step.size)

  def _get(self, reference: Any) -> Any:
    """The result of a call; raises what the worker raised."""
    try:
      return self._ray.get(reference)
    except self._ray.exceptions.RayTaskError as error:
      raise error.cause from None


@contextlib.contextmanager
def connect(
  address: str, prepare: Prepare, *, workers: int | None = None, use_gpus: bool = True
) -> Iterator[Cluster]:
  """A Ray cluster with workers that `prepare` themselves, until the context ends.

  There is a worker for each GPU, or for each machine if there are none, or as many as `workers`.
  Raises as `start`, and ValueError if there are too few GPUs.
  """
  ray = start(address, workers or 1)
  try:
    count, needs = _shares(ray, workers, use_gpus)
    kind = ray.remote(max_restarts=-1, max_task_retries=TRIES - 1, **needs)(_Worker)
    yield Cluster(ray, [kind.remote(os.getcwd(), prepare) for _ in range(count)])
  finally:
    ray.shutdown()


def start(address: str, processes: int) -> Any:
  """The module `ray`, connected to a cluster.

  `address` is 'local' (a cluster of its own on this machine, for at least this many processes),
  'auto' (the cluster that this machine belongs to) or what `ray.init` accepts. Raises ValueError if
  Ray is not installed, ConnectionError if there is no cluster.
  """
  if importlib.util.find_spec('ray') is None:
    raise ValueError("no ray: --ray requires pip install 'deblur-jax[ray]'")
  os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')  # it would report the run to others
  import ray  # pyright: ignore[reportMissingImports]  # an extra

  # Ray would set one thread; sums of numpy may depend on how many there are.
  same = {'env_vars': {'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', '')}}
  own = {'num_cpus': max(processes, os.cpu_count() or 1), 'include_dashboard': False}
  more = own if address == 'local' else {}
  ray.init(address, log_to_driver=False, logging_level='error', runtime_env=same, **more)
  return ray


def _shares(ray: Any, workers: int | None, use_gpus: bool) -> tuple[int, dict[str, Any]]:
  """(number of workers, what each reserves)."""
  gpus = int(ray.cluster_resources().get('GPU', 0)) if use_gpus else 0
  if gpus and (workers or 0) > gpus:
    raise ValueError(f'--workers {workers}: the cluster has {gpus} GPUs')
  if gpus:
    return workers or gpus, {'num_gpus': 1}
  machines = [node for node in ray.nodes() if node['Alive'] and node['Resources'].get('CPU')]
  return workers or len(machines), {'num_cpus': 1, 'scheduling_strategy': 'SPREAD'}
