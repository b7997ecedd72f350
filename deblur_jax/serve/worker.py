"""The threads that compute, one for each device, and the bounded queue in front of them."""

import collections
from collections.abc import Callable
import concurrent.futures
import threading
import time
from typing import Any

from deblur_jax.serve.settings import RefusedError, Settings, Upload


class CancelledError(Exception):
  """Nobody waits for the result any more."""


class Task:
  """A picture to restore, for one or more requests that are equal."""

  def __init__(self, key: str, upload: Upload, settings: Settings, *, is_job: bool):
    self.key, self.upload, self.settings = key, upload, settings
    self.is_job = is_job
    self.done: concurrent.futures.Future[Any] = concurrent.futures.Future()
    """The `store.Result`, or the error."""
    self.done.set_running_or_notify_cancel()  # so that no single waiter can cancel it for all
    self.begun = 0.0
    """When it began, by `time.monotonic`; 0 while it waits."""
    self.ticks, self.tiles = 0, 0
    """How many tiles are done, and how many there are."""
    self.waiting = 1
    """How many requests wait for it; nobody if 0, and then it is cancelled."""
    self.ends: float | None = None
    """When it must end, by `time.monotonic`."""

  def tick(self) -> None:
    """Counts a tile; raises CancelledError or RefusedError if the rest need not be restored."""
    self.ticks += 1
    self.check()

  def check(self) -> None:
    """Raises CancelledError if nobody waits, RefusedError if it takes too long."""
    if not self.waiting:
      raise CancelledError
    if self.ends and time.monotonic() > self.ends:
      raise RefusedError(504, 'the picture takes too long to restore')


class Worker:
  """Runs tasks one after the other, in threads of its own.

  Requests and jobs wait in two queues, which take turns, so neither keeps the other from running.
  Equal tasks that wait or run at the same time are one.
  """

  def __init__(self, run: Callable[[Task], Any], *, queue: int, threads: int = 1):
    """`run` returns the result of a task; `threads` run at once, and `queue` requests may wait."""
    self._run, self._most = run, queue
    self._queues = (collections.deque[Task](), collections.deque[Task]())  # requests, jobs
    self._tasks: dict[str, Task] = {}  # those that wait or run
    self._turn = 0
    self._changed = threading.Condition()
    self.closed = False
    self._threads = [threading.Thread(target=self._begin, name='device 0', daemon=True)]
    for i in range(1, threads):
      self._threads.append(threading.Thread(target=self._loop, name=f'device {i}', daemon=True))

  def start(self, first: Callable[[], None]) -> None:
    """Starts the threads; one of them calls `first` before any task."""
    self._first = first
    self._threads[0].start()

  def submit(self, task: Task) -> Task:
    """Adds `task`, or joins an equal one; returns the one that will run.

    Raises RefusedError if the queue is full; jobs are bounded elsewhere.
    """
    with self._changed:
      equal = self._tasks.get(task.key)
      if equal and equal.waiting:
        equal.waiting += 1
        return equal
      queue = self._queues[task.is_job]
      if not task.is_job and len(queue) >= self._most:
        raise RefusedError(503, 'the server is busy; try again later', retry_after=5)
      queue.append(task)
      self._tasks[task.key] = task
      self._changed.notify()
      return task

  def leave(self, task: Task) -> None:
    """Says that one request no longer waits for `task`; without any, it is cancelled."""
    with self._changed:
      task.waiting -= 1
      queue = self._queues[task.is_job]
      if not task.waiting and task in queue:
        queue.remove(task)
        self._forget(task)
        task.done.set_exception(CancelledError())

  def waiting(self) -> tuple[int, int]:
    """How many requests and jobs wait."""
    with self._changed:
      return len(self._queues[0]), len(self._queues[1])

  def close(self) -> None:
    """Cancels all tasks, stops the threads, and waits for them."""
    with self._changed:
      self.closed = True
      for task in self._tasks.values():
        task.waiting = 0
      self._changed.notify_all()
    for thread in self._threads:  # the first has started the others once it has ended
      if thread.ident:
        thread.join()

  def _begin(self) -> None:
    self._first()
    for thread in self._threads[1:]:
      thread.start()
    self._loop()

  def _loop(self) -> None:
    while task := self._next():
      result = problem = None
      try:
        task.check()
        task.begun = time.monotonic()
        result = self._run(task)
      except BaseException as error:  # passed on to the requests that wait for it
        problem = error
      with self._changed:  # first, so that an equal request that comes now looks in the cache
        self._forget(task)
      if problem:
        task.done.set_exception(problem)
      else:
        task.done.set_result(result)

  def _forget(self, task: Task) -> None:
    if self._tasks.get(task.key) is task:
      del self._tasks[task.key]

  def _next(self) -> Task | None:
    with self._changed:
      while not self.closed:
        for _ in range(2):
          self._turn = 1 - self._turn
          if self._queues[self._turn]:
            return self._queues[self._turn].popleft()
        self._changed.wait()
      return None
