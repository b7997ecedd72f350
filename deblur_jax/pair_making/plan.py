"""Which pairs to make from files and folders, their names, and whether they train or test."""

from collections.abc import Callable, Iterable
import hashlib
import os
import pathlib
import re
from typing import NamedTuple

from deblur_jax.datasets import files

Path = str | os.PathLike[str]
SPLITS = ('train', 'test')


class Job(NamedTuple):
  """A pair to make."""

  name: str
  """sequence/name"""
  sources: tuple[pathlib.Path, ...]
  """The sharp picture, or the frames of a film."""
  split: str = ''
  """'' until it is assigned."""
  problem: str = ''
  """Why it cannot be made, in one line."""


def pictures(
  inputs: Iterable[Path], output: Path, *, test: float = 0.1, copies: int = 1
) -> list[Job]:
  """A job for each copy of each picture in `inputs` (files, and folders with everything in them).

  Its sequence is the folder that it is in. What is in train/ and test/ stays there; of the rest,
  the share `test` is held out, by a hash of the names.
  """
  jobs = _split(_find(inputs, output), test, lambda job: job.name)
  names = [[job.name, *(f'{job.name}-{copy}' for copy in range(1, copies))] for job in jobs]
  return _unique(
    job._replace(name=name) for job, own in zip(jobs, names, strict=True) for name in own
  )


def films(
  inputs: Iterable[Path], output: Path, *, frames: int, step: int, test: float = 0.1
) -> list[Job]:
  """A job for every `frames` consecutive pictures of a folder, `step` pictures apart.

  Frames are sorted by name, numbers by their value; a pair is named after its middle frame. Splits
  are assigned as in `pictures`, but by sequence: neighboring frames are too similar.
  """
  found: dict[str, list[Job]] = {}
  windows = []
  for job in _split(_find(inputs, output), test, _sequence):
    if job.problem:
      windows.append(job)
    else:
      found.setdefault(_sequence(job), []).append(job)
  for film in found.values():
    film.sort(key=lambda job: [int(t) if t.isdigit() else t for t in re.split(r'(\d+)', job.name)])
    if len(film) < frames:
      folder = film[0].sources[0].parent
      windows.append(film[0]._replace(problem=f'{folder}: only {len(film)} frames, not {frames}'))
    for start in range(0, len(film) - frames + 1, step):
      window = film[start : start + frames]
      sources = tuple(job.sources[0] for job in window)
      windows.append(window[frames // 2]._replace(sources=sources))
  return _unique(windows)


def _find(inputs: Iterable[Path], output: Path) -> list[Job]:
  """The pictures in files and folders, each once, sorted by name."""
  jobs = {}
  for given in map(pathlib.Path, inputs):
    found = {given.stem: given}
    if given.is_dir():
      found = files.find(given)
    folder = given.resolve() if given.is_dir() else given.resolve().parent
    for name, file in found.items():
      *parts, name = name.split('/')
      split = parts.pop(0) if parts and parts[0] in SPLITS else ''
      place = file.resolve()
      if pathlib.Path(output).resolve() not in place.parents:
        problem = '' if file.exists() else f'{file}: no such file or folder'
        sequence = '-'.join(parts) or folder.name or 'pictures'
        jobs.setdefault(place, Job(f'{sequence}/{name}', (file,), split, problem))
  return sorted(jobs.values())


def _split(jobs: list[Job], test: float, unit: Callable[[Job], str]) -> list[Job]:
  """The jobs, each with its split; those with the same `unit` stay together."""
  units = sorted({unit(job) for job in jobs if not job.split and not job.problem}, key=digest)
  held_out = sum(digest(one) < test * 2**32 for one in units)
  if len(units) > 1 and 0 < test < 1:
    held_out = min(max(held_out, 1), len(units) - 1)  # neither side is empty
  tested = set(units[:held_out])
  return [
    job._replace(split=job.split or ('test' if unit(job) in tested else 'train')) for job in jobs
  ]


def _unique(jobs: Iterable[Job]) -> list[Job]:
  """The jobs; of those with the same name, all but the first have a problem."""
  first: dict[str, Job] = {}
  result = []
  for job in jobs:
    other = first.setdefault(job.name, job)
    if other is not job and not job.problem:
      clash = f'{job.sources[0]}: would be {job.name}, like {other.sources[0]}; rename it'
      job = job._replace(problem=clash)
    result.append(job)
  return result


def _sequence(job: Job) -> str:
  return job.name.rpartition('/')[0]


def digest(name: str) -> int:
  """A number from 0 to 2**32 - 1 that depends only on the name."""
  return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
