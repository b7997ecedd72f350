"""What a benchmark measures: methods and sets, from the texts of the command line."""

from collections.abc import Iterable, Sequence
import dataclasses
import os
import pathlib
from typing import Any

from deblur_jax import methods
from deblur_jax.blur.synthesis import MIXED
from deblur_jax.evaluation import protocols
from deblur_jax.evaluation.restoration import BLURRED

Path = str | os.PathLike[str]

BUILTIN_DRAWS = 4
"""How many times each of the few built-in pictures occurs, as in the configs."""


@dataclasses.dataclass(frozen=True)
class Plan:
  """What to measure, and where to save it."""

  output: pathlib.Path
  methods: dict[str, str]
  """Name in the table -> argument of `zoo.load`."""
  sets: dict[str, dict[str, Any]]
  """Name in the table -> the arguments of `blurred_set.open_set`."""


def plan(methods: Sequence[str], sets: Iterable[str], output: Path, **settings: str) -> Plan:
  """The plan for methods and sets given on the command line.

  Args:
    methods: run folders, weights files or solvers, which get the PSF from sets that know it.
    sets: `SOURCE` or `SOURCE:DIRECTORY`, optionally with `@PROTOCOL`.
    output: the folder for the results.
    **settings: `blur`, `lpips` and `dists` of `blurred_set.open_set`, for all sets.

  Raises ValueError if two methods or two sets have the same name, or a protocol is unknown.
  """
  return Plan(
    pathlib.Path(output),
    _by_name([(_method_name(method), method) for method in methods], 'methods'),
    _by_name([_set(text, settings) for text in sets], 'sets'),
  )


def _by_name(named: Iterable[tuple[str, Any]], what: str) -> dict[str, Any]:
  result: dict[str, Any] = {}
  for name, one in named:
    if name in result or (what == 'methods' and name == BLURRED):
      raise ValueError(f'two {what} have the name {name!r}: rename a folder or a file')
    result[name] = one
  return result


def _method_name(method: str) -> str:
  path = pathlib.Path(method).resolve()
  if path.name == methods.RUN_WEIGHTS:
    path = path.parent
  return path.name.removesuffix('.safetensors')


def _set(text: str, settings: dict[str, str]) -> tuple[str, dict[str, Any]]:
  """(name in the table, arguments of `blurred_set.open_set`) of `SOURCE:DIRECTORY@PROTOCOL`."""
  place, at, protocol = text.rpartition('@')
  if not at:
    place, protocol = text, ''
  source, _, directory = place.partition(':')
  if protocol:
    protocols.find(protocol)
  # Folders have their own names; prepared data sets have that of their source.
  path = pathlib.Path(directory).resolve()
  name = path.name if source in ('pairs', 'sharp') and directory else source
  draws = BUILTIN_DRAWS if source == 'builtin' else 1
  return name, {
    'source': source,
    'directory': str(path) if directory else '',
    'draws': draws,
    'protocol': protocol,
    'blur': MIXED,
    **settings,
  }
