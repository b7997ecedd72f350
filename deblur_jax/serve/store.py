"""Results, jobs and quotas on disk, to survive a restart: files, and a SQLite database."""

from collections.abc import Iterator
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import sqlite3
import threading
import time
from typing import Any

TABLES = """
CREATE TABLE IF NOT EXISTS results (
  key TEXT PRIMARY KEY, kind TEXT, bytes INTEGER, report TEXT, made REAL, used REAL);
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY, tenant TEXT, state TEXT, key TEXT, settings TEXT, files TEXT,
  status INTEGER, error TEXT, made REAL, ended REAL);
CREATE TABLE IF NOT EXISTS quotas (
  owner TEXT, what TEXT, available REAL, at REAL, PRIMARY KEY (owner, what));
"""


class Opened:
  """A file that is closed once nobody reads it; several threads can read it at once."""

  def __init__(self, path: pathlib.Path):
    self._descriptor = os.open(path, os.O_RDONLY)

  def __del__(self):
    if hasattr(self, '_descriptor'):
      os.close(self._descriptor)

  def read(self, length: int, start: int) -> bytes:
    """`length` bytes from `start` on, or fewer at the end."""
    return os.pread(self._descriptor, length, start)


@dataclasses.dataclass(frozen=True)
class Result:
  """A restored picture, readable even after its file was deleted."""

  key: str
  kind: str
  """A format: 'jpeg', 'png', 'webp', 'tiff' or 'heif'."""
  size: int
  """In bytes."""
  report: dict[str, Any]
  file: Opened

  def chunks(self, length: int = 1 << 20) -> Iterator[bytes]:
    """Yields the contents; several readers can do so at once."""
    for start in range(0, self.size, length):
      yield self.file.read(length, start)


class Database:
  """A SQLite database in a folder that only one process may use at a time."""

  def __init__(self, folder: pathlib.Path):
    """Raises ValueError if another process uses the folder, OSError if it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    self.folder = folder
    self._owner = open(folder / 'lock', 'w')  # noqa: SIM115, held until the process ends
    try:
      fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      self._owner.close()
      raise ValueError(f'{folder} is used by another server: name another with --data') from None
    self._lock = threading.Lock()
    self._connection = sqlite3.connect(folder / 'state.sqlite', check_same_thread=False)
    self._connection.row_factory = sqlite3.Row
    self._connection.execute('PRAGMA journal_mode=WAL')
    self._connection.executescript(TABLES)

  def run(self, text: str, *values: Any) -> list[sqlite3.Row]:
    """The rows of one statement, which is committed before this returns."""
    with self._lock, self._connection:
      return self._connection.execute(text, values).fetchall()

  def close(self) -> None:
    """Closes the database and releases the folder."""
    with self._lock:
      self._connection.close()
      self._owner.close()


class Results:
  """Results by key; the least recently used are deleted once they take more than `most` bytes."""

  def __init__(self, database: Database, *, most: int, keep_seconds: float):
    self._database, self._most, self._keep = database, most, keep_seconds
    self._folder = database.folder / 'results'
    self._folder.mkdir(exist_ok=True)
    known = {row['key'] for row in database.run('SELECT key FROM results')}
    for path in self._folder.iterdir():  # written just before the process was killed
      if path.name not in known:
        path.unlink()

  def get(self, key: str) -> Result | None:
    """The result of this key, or None."""
    rows = self._database.run('SELECT * FROM results WHERE key = ?', key)
    if not rows or rows[0]['made'] < time.time() - self._keep:
      return None
    row = rows[0]
    try:
      file = Opened(self._folder / key)
    except FileNotFoundError:
      return None
    self._database.run('UPDATE results SET used = ? WHERE key = ?', time.time(), key)
    return Result(key, row['kind'], row['bytes'], json.loads(row['report']), file)

  def put(self, key: str, kind: str, path: pathlib.Path, report: dict[str, Any]) -> Result:
    """Moves the file at `path` here; returns it as a result."""
    target, now = self._folder / key, time.time()
    size = path.stat().st_size
    os.replace(path, target)
    result = Result(key, kind, size, report, Opened(target))
    row = (key, kind, size, json.dumps(report), now, now)
    self._database.run('INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)', *row)
    self.shrink(keep=key)
    return result

  def shrink(self, keep: str = '') -> None:
    """Deletes what is too old, or too much; never `keep`."""
    rows = self._database.run('SELECT key, bytes, made FROM results ORDER BY used')
    total = sum(row['bytes'] for row in rows)
    for row in rows:
      old = row['made'] < time.time() - self._keep
      if row['key'] != keep and (old or total > self._most):
        self._delete(row['key'])
        total -= row['bytes']

  def bytes(self) -> int:
    """The size of all results."""
    return self._database.run('SELECT COALESCE(SUM(bytes), 0) AS total FROM results')[0]['total']

  def _delete(self, key: str) -> None:
    self._database.run('DELETE FROM results WHERE key = ?', key)
    (self._folder / key).unlink(missing_ok=True)


class Uploads:
  """A folder for the files of each request and job, deleted when it is done."""

  def __init__(self, database: Database):
    """Deletes the folders of earlier requests, but not those of unfinished jobs."""
    self._folder = database.folder / 'uploads'
    self._folder.mkdir(exist_ok=True)
    rows = database.run("SELECT id FROM jobs WHERE state = 'queued'")
    known = {row['id'] for row in rows}
    for path in self._folder.iterdir():
      if path.name not in known:
        shutil.rmtree(path)

  def folder(self, name: str) -> pathlib.Path:
    """A new folder."""
    path = self._folder / name
    path.mkdir()
    return path

  @staticmethod
  def delete(folder: pathlib.Path) -> None:
    """Deletes a folder and the files in it, if it exists."""
    with contextlib.suppress(FileNotFoundError):
      shutil.rmtree(folder)
