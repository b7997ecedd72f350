"""API keys, stored as hashes, and the quotas of their owners.

The file is TOML, with a table for each owner, whose name is never sent to anyone:

    [alice]
    sha256 = '...'                # of the key
    requests_per_hour = 600       # optional
    megapixels_per_hour = 2000    # optional

It is read again when it changes. What is left of a quota belongs to the name of its owner, and
survives a new key, another quota and a restart. A key is 256 random bits, so its plain SHA-256
cannot be reversed.
"""

import hashlib
import logging
import math
import os
import pathlib
import secrets
import threading
import time
import tomllib

from deblur_jax.serve.settings import RefusedError
from deblur_jax.serve.store import Database

log = logging.getLogger('deblur_jax.serve')

QUOTAS = ('requests_per_hour', 'megapixels_per_hour')


def new_key(owner: str) -> tuple[str, str]:
  """(a new random key, the lines for the file of keys)."""
  key = secrets.token_urlsafe(32)
  digest = hashlib.sha256(key.encode()).hexdigest()
  return key, f"[{owner}]\nsha256 = '{digest}'\n"


class Quota:
  """An amount per hour that refills steadily and can be used up at once."""

  def __init__(self, per_hour: float):
    self._per_second, self._most = per_hour / 3600, per_hour
    self._left, self._at = per_hour, time.time()
    self._lock = threading.Lock()

  def use(self, amount: float, what: str) -> None:
    """Uses `amount`; raises RefusedError if it is not left."""
    with self._lock:
      self._refill(time.time())
      if amount > self._most:
        raise RefusedError(429, f'more than the quota of {self._most:g} {what} per hour')
      if amount > self._left:
        wait = math.ceil((amount - self._left) / self._per_second)
        text = f'the quota of {self._most:g} {what} per hour is used up; try again in {wait} s'
        raise RefusedError(429, text, retry_after=wait)
      self._left -= amount

  @property
  def state(self) -> tuple[float, float]:
    """(what was left, when, in seconds since 1970)."""
    with self._lock:
      return self._left, self._at

  @state.setter
  def state(self, state: tuple[float, float]) -> None:
    with self._lock:
      self._left, self._at = state
      self._refill(time.time())

  def _refill(self, now: float) -> None:
    refilled = max(0, now - self._at) * self._per_second  # the clock may have been set back
    self._left, self._at = min(self._most, self._left + refilled), now


class Owner:
  """Who a key belongs to; results and jobs are apart for each."""

  def __init__(self, name: str, **quotas: float):
    self.name = name
    self.quotas = {what: Quota(per_hour) for what, per_hour in quotas.items()}
    """By the names in `QUOTAS`."""

  def use(self, what: str, amount: float) -> None:
    """Uses an amount of a quota, if there is one: 'requests' or 'megapixels'."""
    quota = self.quotas.get(f'{what}_per_hour')
    if quota:
      quota.use(amount, what)


class Keys:
  """The owners of the keys in a file; without a file everyone is the same owner."""

  def __init__(self, path: pathlib.Path | None):
    """Raises OSError or ValueError if the file cannot be read."""
    self._path, self._changed = path, 0.0
    self._owners: dict[str, tuple[dict, Owner]] = {}
    self._everyone = Owner('')
    self._database: Database | None = None
    self._saved: dict[tuple[str, str], tuple[float, float]] = {}
    if path:
      self._read(path)

  def keep(self, database: Database) -> None:
    """Goes on with the quotas that are left in a database, where `save` saves them."""
    self._database = database
    for row in database.run('SELECT * FROM quotas'):
      self._saved[row['owner'], row['what']] = row['available'], row['at']
    self._restore(self._owners)

  def save(self) -> None:
    """Saves what is left of the quotas, if `keep` was called."""
    for _, owner in self._owners.values():
      for what, quota in owner.quotas.items():
        state = quota.state
        if self._database and self._saved.get((owner.name, what)) != state:
          row = owner.name, what, *state
          self._database.run('INSERT OR REPLACE INTO quotas VALUES (?, ?, ?, ?)', *row)
        self._saved[owner.name, what] = state

  def _restore(self, owners: dict[str, tuple[dict, Owner]]) -> None:
    for _, owner in owners.values():
      for what, quota in owner.quotas.items():
        if saved := self._saved.get((owner.name, what)):
          quota.state = saved

  @property
  def required(self) -> bool:
    """Whether requests need a key."""
    return self._path is not None

  def owner(self, authorization: str) -> Owner:
    """The owner of the key in the header `Authorization: Bearer KEY`; raises RefusedError."""
    if self._path is None:
      return self._everyone
    try:
      if os.stat(self._path).st_mtime_ns != self._changed:
        self._read(self._path)
    except (OSError, ValueError) as error:
      log.error('the file of keys cannot be read, so the old keys stay valid (%s)', error)
    scheme, _, key = authorization.partition(' ')
    if not key or scheme.lower() != 'bearer':
      raise RefusedError(401, 'this server requires a key: Authorization: Bearer KEY')
    found = self._owners.get(hashlib.sha256(key.strip().encode()).hexdigest())
    if not found:
      raise RefusedError(401, 'this key is not valid')
    return found[1]

  def _read(self, path: pathlib.Path) -> None:
    changed = os.stat(path).st_mtime_ns
    try:
      entries = tomllib.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
      raise ValueError(f'{path}: not a valid TOML file ({error})') from None
    self.save()
    owners = {}
    for name, entry in entries.items():
      digest = entry.get('sha256') if isinstance(entry, dict) else None
      if not isinstance(digest, str) or len(digest) != 64:
        raise ValueError(f'{path}: [{name}] needs sha256, the SHA-256 of a key')
      quotas = {what: value for what, value in entry.items() if what != 'sha256'}
      for what, value in quotas.items():
        if what not in QUOTAS or not isinstance(value, int | float) or value <= 0:
          raise ValueError(f'{path}: [{name}] {what}: expected {" or ".join(QUOTAS)}, above 0')
      before = self._owners.get(digest.lower())
      same = before is not None and before[0] == quotas and before[1].name == name
      owners[digest.lower()] = before if same else (quotas, Owner(name, **quotas))
    self._restore(owners)
    self._owners, self._changed = owners, changed
