"""What the routes call: restores uploads once per distinct request, and remembers the results."""

import asyncio
from collections.abc import Awaitable, Callable
import concurrent.futures
import hashlib
import json
import logging
import pathlib
import secrets
import time
from typing import Any

import deblur_jax
from deblur_jax.formats import kinds
from deblur_jax.photos import pictures
from deblur_jax.serve.device import Device, result_name
from deblur_jax.serve.measures import Measures
from deblur_jax.serve.restorers import Restorers
from deblur_jax.serve.settings import Limits, RefusedError, Settings, Upload
from deblur_jax.serve.store import Database, Result, Results, Uploads
from deblur_jax.serve.worker import CancelledError, Task, Worker

log = logging.getLogger('deblur_jax.serve')

CLOSED = 499
"""Status, in logs only, of a request whose client has gone (as in nginx)."""

READERS = 2
"""How many uploads are saved and checked at once, beside the thread that computes."""


class Service:
  """A server without its routes."""

  def __init__(
    self, restorers: Restorers, folder: pathlib.Path, limits: Limits, device: Device | None = None
  ):
    """`folder` holds results and jobs; `device` restores, by default in this process."""
    self.restorers, self.limits = restorers, limits
    self.device = device or Device(restorers)
    self.database = Database(folder)
    self.results = Results(
      self.database,
      most=int(limits.cache_megabytes * 1e6),
      keep_seconds=3600 * limits.keep_hours,
    )
    self.uploads = Uploads(self.database)
    self.worker = Worker(self._restore, queue=limits.queue, threads=self.device.threads)
    self.readers = concurrent.futures.ThreadPoolExecutor(READERS, 'reader')
    self.measures = Measures(self)
    self.ready = self.draining = False
    self.problem = ''
    """Why the warm-up failed."""
    self._device_kind = ''

  def start(self) -> None:
    """Starts the thread that computes, with the warm-up."""
    self.worker.start(self._warm_up)

  def close(self) -> None:
    """Ends the computation at the next tile; jobs stay for the next start."""
    self.worker.close()
    self.readers.shutdown()
    self.database.close()

  def new_upload(self) -> pathlib.Path:
    """A folder for the files of one request."""
    return self.uploads.folder(secrets.token_urlsafe(16))

  def key(self, tenant: str, upload: Upload, settings: Settings) -> str:
    """Identifies a result: the files, the method, the settings, and whose it is."""
    parts = {
      'version': deblur_jax.__version__,
      'device': self._device_kind,
      'tenant': tenant,
      'files': upload.digest,
      'method': self.restorers.digest(settings.weights),
      'settings': settings.plain(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

  def submit(self, key: str, upload: Upload, settings: Settings, *, is_job: bool = False) -> Task:
    """The task that will restore; raises RefusedError if the queue is full.

    The files of the upload belong to the task, unless it joins an equal one.
    """
    task = Task(key, upload, settings, is_job=is_job)
    running = self.worker.submit(task)
    if running is task and not is_job:
      task.done.add_done_callback(lambda _: self.uploads.delete(upload.folder))
    elif not is_job:
      self.uploads.delete(upload.folder)
    self.measures.joined(running is not task)
    return running

  async def result(self, task: Task, gone: Callable[[], Awaitable[None]]) -> Result:
    """The result of `task`; `gone` returns when the client has disconnected.

    Raises RefusedError with the status for the client.
    """
    waiting = asyncio.ensure_future(asyncio.wrap_future(task.done))
    leaving = asyncio.ensure_future(gone())
    try:
      await asyncio.wait(
        {waiting, leaving}, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED
      )
      if waiting.done():
        return waiting.result()
      if leaving.done():
        raise RefusedError(CLOSED, 'the client has disconnected')
      raise RefusedError(504, f'not restored within {self.limits.seconds:g} s')
    except Exception as error:
      raise as_refusal(error) from error
    finally:
      leaving.cancel()
      waiting.cancel()
      self.worker.leave(task)

  def _restore(self, task: Task) -> Result:
    """Restores and stores the picture of a task; runs in a thread that computes."""
    if found := self.results.get(task.key):  # an equal task has just ended
      return found
    upload, settings = task.upload, task.settings
    if task.is_job:
      task.ends = time.monotonic() + self.limits.job_seconds
    target = upload.folder / result_name(upload, settings)
    with self.measures.computing(settings.weights, upload.size):
      report = self.device.restore(upload, settings, target, task)
    kind = kinds.SUFFIXES[pictures.suffix(target)]
    return self.results.put(task.key, kind, target, report)

  def _warm_up(self) -> None:
    try:
      folder = self.new_upload()
      self._device_kind = self.device.warm_up(folder)
      self.uploads.delete(folder)
      self.ready = True
    except Exception as error:  # reported by /healthz, so that the server is started again
      self.problem = next(iter(str(error).splitlines()), '') or type(error).__name__
      log.exception('the warm-up failed')


def as_refusal(error: BaseException) -> RefusedError:
  """The status and the sentence for an error of a task."""
  text = next(iter(str(error).splitlines()), '') or type(error).__name__
  if isinstance(error, RefusedError):
    return error
  if isinstance(error, CancelledError):
    return RefusedError(503, 'the server is stopping; try again later', retry_after=10)
  if isinstance(error, pictures.UnsupportedError):
    return RefusedError(415, text)
  if isinstance(error, ValueError):
    return RefusedError(422, text)
  if isinstance(error, MemoryError):
    return RefusedError(507, 'the picture needs more memory than the server has')
  log.error('a task failed', exc_info=error)
  return RefusedError(500, 'internal error; the log of the server has the details')


def report_of(result: Result) -> dict[str, Any]:
  """The report of a result, for a client."""
  return {**result.report, 'format': result.kind, 'bytes': result.size}
