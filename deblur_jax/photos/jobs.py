"""Which files to restore, where the results go, and the outcome of each.

Imports nothing heavy, so that a run with nothing to do ends at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import glob
import os
import pathlib
import tempfile
from typing import Any, NamedTuple, Protocol

from deblur_jax.formats import kinds
from deblur_jax.photos import history

Path = str | os.PathLike[str]


class Job(NamedTuple):
  """A file to restore, and where the result goes."""

  source: pathlib.Path
  target: pathlib.Path
  problem: str = ''
  """Why it cannot be restored, in one line."""


class Outcome(NamedTuple):
  """The outcome of one file."""

  source: pathlib.Path
  target: pathlib.Path
  status: str
  """'restored', 'skipped', 'failed', or 'planned' in a dry run."""
  message: str = ''
  """Why it failed or was skipped, in one line."""
  seconds: float = 0.0
  size: tuple[int, int] | None = None
  """(height, width)"""
  tiles: int = 0
  """How many tiles it is cut into; 1 if it is restored whole."""
  notes: tuple[str, ...] = ()
  """What did not go as planned, and anything unusual about the result, a sentence each."""
  diagnosis: Any = None
  """`diagnosis.Diagnosis` of a restored picture."""
  psf: Any = None
  """`solvers.estimate_psf.Estimate` of the blur, if the PSF was not given."""
  reliability: float | None = None
  """The probability that the result is better than the input, if it was calibrated for."""

  def plain(self) -> dict[str, Any]:
    """All that is known, as JSON values: the entry of the file in a report."""
    height, width = self.size or (None, None)
    entry: dict[str, Any] = {
      'source': str(self.source),
      'target': str(self.target),
      'status': self.status,
    }
    entry |= {'message': self.message} if self.message else {}
    entry |= {'height': height, 'width': width, 'tiles': self.tiles} if self.size else {}
    if self.status == 'restored':
      entry |= {'seconds': round(self.seconds, 3), 'notes': self.notes}
    if self.diagnosis:
      entry['diagnosis'] = self.diagnosis.plain()
    if self.psf:
      entry['psf_confidence'] = round(self.psf.confidence, 3)
    if self.reliability is not None:
      entry |= {'reliability': round(self.reliability, 3)}
    return entry


@dataclasses.dataclass(frozen=True)
class Report:
  """The outcomes of all files, in order."""

  outcomes: tuple[Outcome, ...]

  def count(self, status: str) -> int:
    """How many files have this `status`."""
    return sum(outcome.status == status for outcome in self.outcomes)

  @property
  def restored(self) -> int:
    return self.count('restored')

  @property
  def skipped(self) -> int:
    return self.count('skipped')

  @property
  def failed(self) -> int:
    return self.count('failed')


class Watch(Protocol):
  """Receives the progress of a run."""

  def start(self, pixels: int) -> None:
    """Called once, with the number of pixels to restore."""

  def advance(self, pixels: int) -> None:
    """Called when this many more pixels are restored, or have failed."""

  def finish(self, outcome: Outcome) -> None:
    """Called after each file."""


def plan(
  inputs: Iterable[Path],
  output: Path,
  *,
  recursive: bool = False,
  rename: Callable[[pathlib.Path], pathlib.Path] = lambda path: path,
) -> list[Job]:
  """A job for each file that `inputs` (files, folders, patterns) name, without duplicates.

  Results go into the folder `output`, under the names that `rename` makes from the names of the
  inputs. If `output` has the suffix of a picture and is not a folder, a single result goes into
  that file. Subfolders are skipped unless `recursive`, which mirrors the tree; links to folders are
  followed. A job that would overwrite an input or the result of another job has a `problem`.
  `output` is not searched for inputs, neither by patterns nor if it is among several inputs:
  otherwise running the same command with `*` again would restore its own results.
  """
  output = pathlib.Path(output)
  pairs: dict[pathlib.Path, tuple[pathlib.Path, pathlib.Path]] = {}
  for given, source in _sources(inputs, output, recursive):
    if source.suffix.lower() in kinds.SUFFIXES | kinds.READ_ONLY or source == given:
      relative = source.relative_to(given) if source != given else pathlib.Path(given.name)
      target = output / rename(kinds.result_name(relative))
      pairs.setdefault(source.resolve(), (source, target))
  if names_a_file(output) and len(pairs) == 1:
    ((place, (source, _)),) = pairs.items()
    pairs = {place: (source, output)}
  jobs, taken = [], {}
  for source, target in pairs.values():
    place = target.resolve()
    problem = ''
    if not source.exists():
      problem = 'no such file or folder'
    elif place in pairs:
      problem = f'would overwrite the input {pairs[place][0]}: use another output folder'
    elif place in taken:
      problem = f'would overwrite the result of {taken[place]}: use another output folder'
    taken.setdefault(place, source)
    jobs.append(Job(source, target, problem))
  return jobs


def left_out(
  inputs: Iterable[Path], output: Path, *, recursive: bool = False, **_: Any
) -> list[str]:
  """Names of the pictures in unsupported formats, which `plan` skips."""
  found = _sources(inputs, pathlib.Path(output), recursive)
  return [
    source.name
    for given, source in found
    if source != given and source.suffix.lower() in kinds.UNSUPPORTED
  ]


def names_a_file(output: Path) -> bool:
  """Whether `output` names a picture and not a folder."""
  path = pathlib.Path(output)
  return path.suffix.lower() in kinds.SUFFIXES and not path.is_dir()


def shard(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
  """Part `index` (from 1) of `count` nearly equal, disjoint parts."""
  return list(jobs[index - 1 :: count])


def select(
  todo: Iterable[Job], options: Mapping[str, Any] | None, *, overwrite: bool = False
) -> tuple[dict[Job, str], list[tuple[Job, Outcome]]]:
  """The jobs left to do, each with a note ('' for most), and the outcomes of all other jobs.

  `options` are what results depend on (see `history`); None skips every existing result. A result
  made with other options, or from an input of another size, is made again, unless it was edited
  since.
  """
  made, pending, finished = history.History(), {}, []
  writable: dict[pathlib.Path, str] = {}
  for job in todo:
    status, message = 'failed', job.problem
    if not job.problem:
      status, message = _status(job, made, options, overwrite)
    if status == 'pending':
      folder = job.target.parent
      if folder not in writable:
        writable[folder] = unwritable(folder)
      status, message = ('failed', writable[folder]) if writable[folder] else (status, message)
    if status == 'pending':
      pending[job] = message
    else:
      finished.append((job, Outcome(job.source, job.target, status, message)))
  return pending, finished


def unwritable(folder: Path) -> str:
  """Why no file can be written to a folder, which need not exist yet; '' if one can."""
  place = pathlib.Path(folder).absolute()
  while not os.path.lexists(place):
    place = place.parent
  try:
    with tempfile.TemporaryFile(dir=place):
      return ''
  except OSError as error:
    return f'{folder}: cannot write here ({error.strerror or error})'


def _status(
  job: Job, made: history.History, options: Mapping[str, Any] | None, overwrite: bool
) -> tuple[str, str]:
  """('pending', note), ('skipped', why) or ('failed', why)."""
  if job.target.is_dir():
    return 'failed', f'cannot write the result: {job.target} is a folder'
  if overwrite or not job.target.exists():
    return 'pending', ''
  if options is None:
    return 'skipped', 'already exists'
  before = made.find(job.target)
  if before is None:
    return 'skipped', 'already exists, with unknown options; --overwrite replaces it'
  if not before.is_unchanged:
    return 'skipped', 'already exists and was edited since; --overwrite replaces it'
  if before.options != options:
    old, new = history.describe(before.options), history.describe(options)
    other = 'another file of the same name' if old == new else old
    return 'pending', f'restored again: the old one was made with {other}'
  if before.source_bytes != job.source.stat().st_size:
    return 'pending', 'restored again: the input has changed'
  described = history.describe(options)
  return 'skipped', f'already restored with {described}' if described else 'already restored'


def _sources(
  inputs: Iterable[Path], output: pathlib.Path, recursive: bool
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
  """Yields (input, file): a file paired with itself, a folder with every file inside it."""
  place = output.resolve()
  expanded = _expanded(inputs, output)
  others = [given for given in expanded if given.resolve() != place]
  for given in others if output.is_dir() and others else expanded:
    if not given.is_dir():
      yield given, given
      continue
    for source in _files_in(given, recursive):
      if place == given.resolve() or place not in source.resolve().parents:
        yield given, source


def _expanded(inputs: Iterable[Path], output: pathlib.Path) -> list[pathlib.Path]:
  """The inputs; patterns that the shell did not expand become their matches outside `output`."""
  expanded = []
  for given in inputs:
    found = [] if os.path.lexists(given) else sorted(glob.glob(os.fspath(given), recursive=True))
    paths = [
      path for path in map(pathlib.Path, found) if output.resolve() not in path.resolve().parents
    ]
    expanded += paths or map(pathlib.Path, found or [given])
  return expanded


def _files_in(folder: pathlib.Path, recursive: bool) -> list[pathlib.Path]:
  """The files in a folder, sorted, without hidden ones; enters each folder once despite links."""
  found, entered = [], set()
  for place, folders, files in os.walk(folder, followlinks=True):
    found += [pathlib.Path(place, name) for name in files if name[0] != '.']
    entered.add(os.path.realpath(place))
    inside = [name for name in sorted(folders) if recursive]
    folders[:] = []
    for name in inside:
      real = os.path.realpath(os.path.join(place, name))
      if real not in entered:
        entered.add(real)
        folders.append(name)
  return sorted(path for path in found if path.is_file())
