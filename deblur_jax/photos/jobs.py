"""Which files are to be restored, where the results go, and what became of them.

Imports nothing heavy, so that a run that has nothing to do ends at once.
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
  """Why it cannot be, in one line."""


class Outcome(NamedTuple):
  """What became of one file."""

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
  """How many tiles it was or would be cut into; 1 if it goes through whole."""
  notes: tuple[str, ...] = ()
  """What did not go as planned, and what is odd about the result, in plain sentences."""
  diagnosis: Any = None
  """`diagnosis.Diagnosis` of a restored picture."""
  psf: Any = None
  """`solvers.estimate_psf.Estimate` of what blurred it, where that was not given."""


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of all files, in order."""

  outcomes: tuple[Outcome, ...]

  def count(self, status: str) -> int:
    """How many files ended as `status`."""
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
  """Is told how the work goes."""

  def start(self, pixels: int) -> None:
    """There are so many pixels to restore in all."""

  def advance(self, pixels: int) -> None:
    """So many more are done, or will not be."""

  def finish(self, outcome: Outcome) -> None:
    """A file is done with."""


def plan(
  inputs: Iterable[Path],
  output: Path,
  *,
  recursive: bool = False,
  rename: Callable[[pathlib.Path], pathlib.Path] = lambda path: path,
) -> list[Job]:
  """The files that `inputs` (files, folders, patterns) stand for, each once, and their results.

  Results go into the folder `output` under the names that `rename` makes of the inputs', or, if
  `output` has the suffix of a picture, is no folder and there is one job, into that file. Folders
  inside folders are left out unless `recursive`, which mirrors the tree; links to folders are
  followed. A job that would overwrite an input or another's result has a `problem`. If there are
  other inputs, the folder `output` itself is none, and patterns do not match inside it: a second
  `*` finds the results of the first.
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
  """Names of the files that `plan` finds and leaves out: pictures of unsupported formats."""
  found = _sources(inputs, pathlib.Path(output), recursive)
  return [
    source.name
    for given, source in found
    if source != given and source.suffix.lower() in kinds.UNSUPPORTED
  ]


def names_a_file(output: Path) -> bool:
  """Whether `output` is meant as a picture and not as a folder."""
  path = pathlib.Path(output)
  return path.suffix.lower() in kinds.SUFFIXES and not path.is_dir()


def shard(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
  """Part `index` (from 1) of `count` nearly equal parts; the parts of one plan are disjoint."""
  return list(jobs[index - 1 :: count])


def settle(
  todo: Iterable[Job], options: Mapping[str, Any] | None, *, overwrite: bool = False
) -> tuple[dict[Job, str], list[tuple[Job, Outcome]]]:
  """The jobs that are to be done, with a note each ('' for most), and the outcomes of the others.

  `options` say how results are made now (see `history`); None skips every result that is there. A
  result that was made otherwise, or of an input of another size, is made again, unless it was
  changed since.
  """
  made, left, settled = history.History(), {}, []
  writable: dict[pathlib.Path, str] = {}
  for job in todo:
    status, message = 'failed', job.problem
    if not job.problem:
      status, message = _standing(job, made, options, overwrite)
    if status == 'left':
      folder = job.target.parent
      if folder not in writable:
        writable[folder] = unwritable(folder)
      status, message = ('failed', writable[folder]) if writable[folder] else (status, message)
    if status == 'left':
      left[job] = message
    else:
      settled.append((job, Outcome(job.source, job.target, status, message)))
  return left, settled


def unwritable(folder: Path) -> str:
  """Why files cannot be written to a folder, which need not exist yet; '' if they can."""
  place = pathlib.Path(folder).absolute()
  while not os.path.lexists(place):
    place = place.parent
  try:
    with tempfile.TemporaryFile(dir=place):
      return ''
  except OSError as error:
    return f'{folder}: cannot write here ({error.strerror or error})'


def _standing(
  job: Job, made: history.History, options: Mapping[str, Any] | None, overwrite: bool
) -> tuple[str, str]:
  """('left', note), ('skipped', why) or ('failed', why)."""
  if job.target.is_dir():
    return 'failed', f'{job.target} is a folder: there is no place for the result'
  if overwrite or not job.target.exists():
    return 'left', ''
  if options is None:
    return 'skipped', 'already there'
  before = made.find(job.target)
  if before is None:
    return 'skipped', 'already there, how it was made is not known; --overwrite replaces it'
  if not before.is_unchanged:
    return 'skipped', 'already there and edited since; --overwrite replaces it'
  if before.options != options:
    old, new = history.describe(before.options), history.describe(options)
    other = 'another file of that name' if old == new else old
    return 'left', f'restored again: was made with {other}'
  if before.source_bytes != job.source.stat().st_size:
    return 'left', 'restored again: the input has changed'
  described = history.describe(options)
  return 'skipped', f'already restored with {described}' if described else 'already restored'


def _sources(
  inputs: Iterable[Path], output: pathlib.Path, recursive: bool
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
  """(input, file): an input that is no folder with itself, a folder with every file inside."""
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
  """The inputs; patterns that no shell has expanded stand for what lies outside of `output`."""
  expanded = []
  for given in inputs:
    found = [] if os.path.lexists(given) else sorted(glob.glob(os.fspath(given), recursive=True))
    paths = [
      path for path in map(pathlib.Path, found) if output.resolve() not in path.resolve().parents
    ]
    expanded += paths or map(pathlib.Path, found or [given])
  return expanded


def _files_in(folder: pathlib.Path, recursive: bool) -> list[pathlib.Path]:
  """The files in a folder, by name, but hidden ones. A folder is entered once, links or not."""
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
