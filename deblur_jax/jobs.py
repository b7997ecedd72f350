"""Which files are to be restored, where the results go, and what became of them."""

from collections.abc import Iterable, Sequence
import dataclasses
import glob
import os
import pathlib
from typing import Any, NamedTuple, Protocol

from deblur_jax import kinds

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
  """'restored', 'skipped' (the target was there), 'failed', or 'planned' where nothing was done."""
  message: str = ''
  """Why it failed, in one line."""
  seconds: float = 0.0
  size: tuple[int, int] | None = None
  """(height, width)"""
  tiles: int = 0
  """How many pieces it was or would be cut into; 1 where it goes through whole."""
  notes: tuple[str, ...] = ()
  """What went otherwise than planned, and what is odd about the result, in plain sentences."""
  diagnosis: Any = None
  """`diagnosis.Diagnosis` of a restored picture."""
  psf: Any = None
  """`solvers.blind.Estimate` of what blurred it, where that was not given."""


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


def plan(inputs: Iterable[Path], output: Path, *, recursive: bool = False) -> list[Job]:
  """The files that `inputs` (files, folders, patterns) stand for, each once, and their results.

  Results go into the folder `output` under the same names, or, where `output` ends like a picture,
  is no folder and there is but one job, into that file. Folders inside folders are left out unless
  `recursive`, which mirrors the tree. A job that would overwrite an input or another's result
  bears the problem. Where there are other inputs, the folder `output` itself is none, and patterns
  do not look into it: a second `*` finds the results of the first.
  """
  output = pathlib.Path(output)
  pairs: dict[pathlib.Path, tuple[pathlib.Path, pathlib.Path]] = {}
  expanded = _expanded(inputs, output)
  others = [given for given in expanded if given.resolve() != output.resolve()]
  for given in others if output.is_dir() and others else expanded:
    if given.is_dir():
      for source in _pictures_in(given, recursive):
        if output.resolve() == given.resolve() or output.resolve() not in source.resolve().parents:
          pairs.setdefault(
            source.resolve(), (source, output / kinds.result_name(source.relative_to(given)))
          )
    else:
      pairs.setdefault(
        given.resolve(), (given, output / kinds.result_name(pathlib.Path(given.name)))
      )
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
      problem = f'would overwrite the input {pairs[place][0]}: give another output folder'
    elif place in taken:
      problem = f'would overwrite the result of {taken[place]}: give another output folder'
    taken.setdefault(place, source)
    jobs.append(Job(source, target, problem))
  return jobs


def names_a_file(output: Path) -> bool:
  """Whether `output` is meant as a picture and not as a folder."""
  path = pathlib.Path(output)
  return path.suffix.lower() in kinds.SUFFIXES and not path.is_dir()


def shard(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
  """Part `index` (from 1) of `count` nearly equal parts; the parts of one plan are disjoint."""
  return list(jobs[index - 1 :: count])


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


def _pictures_in(folder: pathlib.Path, recursive: bool) -> list[pathlib.Path]:
  """The pictures in a folder, by name; hidden files are left out."""
  found = folder.rglob('*') if recursive else folder.iterdir()
  return sorted(
    path
    for path in found
    if path.suffix.lower() in kinds.SUFFIXES | kinds.READ_ONLY
    and path.name[0] != '.'
    and path.is_file()
  )
