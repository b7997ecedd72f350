"""How well a method restores a set of pictures: scores per picture, means, files.

Pictures are restored whole, padded to one of at most three shapes, and scored as the 8-bit files
that they would be saved as; doing nothing, "blurred", is scored beside every method.
"""

from collections.abc import Callable, Iterator, Mapping
import csv
import io
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from deblur_jax import atomic, tiling, writers
from deblur_jax.blur import synthesis
from deblur_jax.data import sources
from deblur_jax.metrics import METRICS
from deblur_jax.types import Needs, Restore, as_float

Scores = dict[str, float]


class Picture(NamedTuple):
  """One picture of a set, uint8 `[h w 3]` each, with the scores of every method."""

  name: str
  blurred: np.ndarray
  restored: np.ndarray
  sharp: np.ndarray
  scores: dict[str, Scores]


class Report(NamedTuple):
  """Scores of every picture of a set (picture -> method -> metric), and a few pictures to show."""

  scores: dict[str, dict[str, Scores]]
  shown: list[Picture]

  def mean(self) -> dict[str, Scores]:
    """Method -> metric -> mean over the pictures."""
    first = next(iter(self.scores.values()))
    return {
      method: {
        metric: float(np.mean([picture[method][metric] for picture in self.scores.values()]))
        for metric in metrics
      }
      for method, metrics in first.items()
    }


class Blurred:
  """A source of sharp pictures with the blurred half made for each, the same in every run.

  Args:
    source: pictures; those that come in pairs stay as they are.
    blur: the mix, see `blur.synthesis`.
    limit: only this many pictures, spread over the set; 0 for all.
    draws: how often each sharp picture comes, every time blurred otherwise.
  """

  def __init__(self, source: Any, blur: str, *, limit: int = 0, draws: int = 1):
    self._source = source
    count = min(limit or len(source), len(source))
    draws = 1 if source.paired else draws
    self._indices = [i * len(source) // count for i in range(count) for _ in range(draws)]
    self._draws = draws
    self._degrade = None if source.paired else jax.jit(synthesis.parse(blur))

  def __len__(self) -> int:
    return len(self._indices)

  def size(self, index: int) -> tuple[int, int]:
    """Height and width."""
    return self._source.size(self._indices[index])

  def __getitem__(self, index: int) -> dict[str, Any]:
    if self._degrade is None:
      return self._source[self._indices[index]]
    example = self._source[self._indices[index]]
    key = jax.random.fold_in(jax.random.key(0), index)
    blurred = self._degrade(key, as_float(example['sharp'][None]))[0]
    name = example['name'] + (f' {index % self._draws + 1}' if self._draws > 1 else '')
    return {**example, 'name': name, 'blurred': as_uint8(blurred)}


def open_sets(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Blurred]:
  """The sets of `config.evaluate`: name -> {source, split, directory, blur, limit, draws}."""
  return {
    name: Blurred(
      sources.open(one['source'], one['split'], directory=one['directory'] or None),
      one['blur'],
      limit=one['limit'],
      draws=one['draws'],
    )
    for name, one in settings.items()
  }


def evaluate(
  restore: Restore, sets: Mapping[str, Blurred], method: str, needs: Needs, *, show: int = 4
) -> dict[str, Report]:
  """Every set's report on `restore`, known as `method`; `show` pictures of each keep their pixels.

  Pictures pass one by one, so that a set of any size fits in memory.
  """
  reports = {}
  for name, pictures in sets.items():
    kept = {i * len(pictures) // show for i in range(show)}
    report = Report({}, [])
    restored = restore_set(restore, pictures, method, needs)
    for index, picture in enumerate(writers.track(restored, name, total=len(pictures))):
      report.scores[picture.name] = picture.scores
      if index in kept:
        report.shown.append(picture)
    reports[name] = report
  return reports


def restore_set(
  restore: Restore, pictures: Blurred, method: str, needs: Needs
) -> Iterator[Picture]:
  """Every picture of a set, restored and scored."""
  sizes = [pictures.size(index) for index in range(len(pictures))]
  shapes = tiling.buckets(sizes, needs.multiple)
  for index, (height, width) in enumerate(sizes):
    example = pictures[index]
    padded = tiling.pad(example['blurred'][None], *shapes[height, width])
    restored = as_uint8(np.asarray(restore(as_float(padded)))[0, :height, :width])
    scores = {
      'blurred': score(example['blurred'], example['sharp']),
      method: score(restored, example['sharp']),
    }
    yield Picture(example['name'], example['blurred'], restored, example['sharp'], scores)


def score(restored: np.ndarray, sharp: np.ndarray) -> Scores:
  """Every metric for one picture, uint8 `[h w 3]`."""
  pair = as_float(restored[None]), as_float(sharp[None])
  return {name: float(metric(*pair)[0]) for name, metric in METRICS.items()}


def write(workdir: pathlib.Path, reports: Mapping[str, Report]) -> None:
  """Adds to results.json (means) and writes results.csv (a line per picture and method)."""
  path = workdir / 'results.json'
  known = json.loads(path.read_text()) if path.exists() else {}
  for name, report in reports.items():
    known.setdefault(name, {}).update(report.mean())
  atomic.write_text(path, json.dumps(known, indent=2) + '\n')
  lines = io.StringIO()
  table = csv.writer(lines)
  table.writerow(['set', 'picture', 'method', *METRICS])
  for name, report in reports.items():
    for picture, methods in report.scores.items():
      for method, scores in methods.items():
        table.writerow([name, picture, method, *(f'{value:.4f}' for value in scores.values())])
  atomic.write_text(workdir / 'results.csv', lines.getvalue())


def show(say: Callable[[Any], None], workdir: pathlib.Path, *, title: str = '') -> None:
  """Prints the tables of results.json: method, metrics, gain over doing nothing."""
  for name, methods in json.loads((workdir / 'results.json').read_text()).items():
    rows = [
      [
        method,
        *(f'{value:.4g}' for value in scores.values()),
        f'{scores["psnr"] - methods["blurred"]["psnr"]:+.2f} dB',
      ]
      for method, scores in methods.items()
    ]
    say(writers.table(f'{name}{title}', ['method', *METRICS, 'gain'], rows))


def as_uint8(image: jax.Array) -> np.ndarray:
  """The 8-bit picture that `image` is saved as: clipped and rounded."""
  return np.round(np.clip(np.asarray(image), 0, 1) * 255).astype(np.uint8)
