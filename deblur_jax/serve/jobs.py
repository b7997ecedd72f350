"""Jobs: requests that are stored first and restored later, also after the process was killed."""

import json
import logging
import pathlib
import time
from typing import Any

from deblur_jax.serve import uploads
from deblur_jax.serve.service import Service, as_refusal, report_of
from deblur_jax.serve.settings import RefusedError, Settings, Upload
from deblur_jax.serve.store import Result, Uploads
from deblur_jax.serve.worker import CancelledError, Task

log = logging.getLogger('deblur_jax.serve')

UNFINISHED = "state = 'queued'"
"""Whether it also runs is known only to the process that runs it."""


class Jobs:
  """The jobs of a service, in its database.

  The files of a job are on disk, and its row in the database, before its identifier is answered. A
  job ends once its result is stored, so a job that was interrupted before is restored again, and
  one that was interrupted after is not.
  """

  def __init__(self, service: Service):
    self._service, self._database = service, service.database
    self._tasks: dict[str, Task] = {}

  def resume(self) -> None:
    """Submits the jobs that an earlier process did not finish, in their order."""
    for row in self._database.run(f'SELECT * FROM jobs WHERE {UNFINISHED} ORDER BY made'):
      settings = Settings.of(json.loads(row['settings']))
      folder = self._service.database.folder / 'uploads' / row['id']
      names = json.loads(row['files'])
      source, mask = (folder / name if name else None for name in names)
      try:
        assert source is not None
        self._service.restorers.check(settings)
        self._submit(row['id'], row['key'], uploads.opened(source, mask, settings), settings)
      except (RefusedError, OSError, ValueError) as error:
        log.error('a job cannot be resumed: %s', error)
        self._end(row['id'], 'failed', 422, 'the job could not be resumed after a restart')

  def add(self, tenant: str, key: str, upload: Upload, settings: Settings) -> str:
    """Stores a job and submits it; returns its identifier. Raises RefusedError if too many wait."""
    counted = self._database.run(f'SELECT COUNT(*) AS jobs FROM jobs WHERE {UNFINISHED}')
    if counted[0]['jobs'] >= self._service.limits.jobs:
      raise RefusedError(503, 'too many jobs wait; try again later', retry_after=30)
    identifier = upload.folder.name
    names = [upload.source.name, upload.mask.name if upload.mask else None]
    row = (identifier, tenant, 'queued', key, json.dumps(settings.plain()), json.dumps(names))
    self._database.run(
      'INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, ?, NULL)', *row, time.time()
    )
    self._submit(identifier, key, upload, settings)
    return identifier

  def view(self, identifier: str, tenant: str) -> dict[str, Any]:
    """The state of a job, for its owner; raises RefusedError if there is no such job."""
    row = self._row(identifier, tenant)
    state: dict[str, Any] = {'id': identifier, 'state': row['state'], 'progress': 0.0}
    task = self._tasks.get(identifier)
    if row['state'] == 'queued' and task:
      state['state'] = 'running' if task.begun else 'queued'
      state['progress'] = round(min(task.ticks / max(task.tiles, 1), 1), 3)
      state |= {'tiles': task.tiles, 'tiles_done': min(task.ticks, task.tiles)}
    if row['state'] == 'failed':
      state |= {'error': row['error'], 'status': row['status']}
    if row['state'] == 'done':
      state['progress'] = 1.0
      result = self._service.results.get(row['key'])
      state |= {'report': report_of(result)} if result else {'expired': True}
    return state

  def result(self, identifier: str, tenant: str) -> Result:
    """The result of a job; raises RefusedError if there is none."""
    row = self._row(identifier, tenant)
    if row['state'] == 'failed':
      raise RefusedError(row['status'], row['error'])
    if row['state'] != 'done':
      raise RefusedError(409, 'the job is not done yet')
    result = self._service.results.get(row['key'])
    if result is None:
      raise RefusedError(410, 'the result has expired')
    return result

  def delete(self, identifier: str, tenant: str) -> None:
    """Cancels a job, or forgets one that has ended; raises RefusedError if there is no such job."""
    self._row(identifier, tenant)
    self._database.run('DELETE FROM jobs WHERE id = ?', identifier)
    task = self._tasks.pop(identifier, None)
    if task:
      self._service.worker.leave(task)

  def expire(self) -> None:
    """Forgets jobs that ended long ago."""
    before = time.time() - 3600 * self._service.limits.keep_hours
    self._database.run('DELETE FROM jobs WHERE ended < ?', before)

  def _submit(self, identifier: str, key: str, upload: Upload, settings: Settings) -> None:
    task = self._service.submit(key, upload, settings, is_job=True)
    self._tasks[identifier] = task
    task.done.add_done_callback(lambda _: self._done(identifier, task, upload.folder))

  def _done(self, identifier: str, task: Task, folder: pathlib.Path) -> None:
    """Records the end of a task, in whatever thread ended it."""
    error = task.done.exception()
    self._tasks.pop(identifier, None)
    if isinstance(error, CancelledError) and self._service.worker.closed:
      return  # the next process restores it
    if error is None:
      self._end(identifier, 'done')
    elif not isinstance(error, CancelledError):
      refusal = as_refusal(error)
      self._end(identifier, 'failed', refusal.status, refusal.text)
    Uploads.delete(folder)

  def _end(
    self, identifier: str, state: str, status: int | None = None, error: str | None = None
  ) -> None:
    self._database.run(
      'UPDATE jobs SET state = ?, status = ?, error = ?, ended = ? WHERE id = ?',
      *(state, status, error, time.time(), identifier),
    )

  def _row(self, identifier: str, tenant: str) -> Any:
    rows = self._database.run('SELECT * FROM jobs WHERE id = ? AND tenant = ?', identifier, tenant)
    if not rows:
      raise RefusedError(404, 'no such job')
    return rows[0]
