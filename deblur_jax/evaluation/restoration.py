"""Scores of a method on sets of pictures: per picture, means, files.

Pictures are restored whole, padded only to the method's own multiple (or in tiles if it takes only
one size), and scored by the set's protocol (`evaluation.protocols`); the blurred input, "blurred",
is scored along with every method. A picture's scores never depend on the other pictures of its set.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import csv
import io
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from deblur_jax import atomic, sharding, tiling, writers
from deblur_jax.evaluation import protocols
from deblur_jax.evaluation.blurred_set import Blurred, Example
from deblur_jax.evaluation.protocols import Scores, as_uint8
from deblur_jax.types import Needs, Restore, as_float

BLURRED = 'blurred'
"""The name of the blurred input among the methods."""


class Picture(NamedTuple):
  """One picture of a set, uint8 `[h w 3]` each, with the scores of every method."""

  name: str
  blurred: np.ndarray
  restored: np.ndarray
  sharp: np.ndarray | None
  """None if there is no aligned sharp picture."""
  scores: dict[str, Scores]


class Report(NamedTuple):
  """Scores of every picture of a set (picture -> method -> metric), and a few pictures to show."""

  scores: dict[str, dict[str, Scores]]
  shown: list[Picture]
  protocol: str = 'plain'

  def mean(self) -> dict[str, Scores]:
    """Method -> metric -> mean over the pictures, see `means`."""
    return means(self.scores.values())

  @property
  def exact(self) -> int:
    """The number of pictures with an infinite score, the PSNR of equal pictures."""
    return sum(not _is_finite(scores) for scores in self.scores.values())


def evaluate(
  restore: Restore,
  sets: Mapping[str, Blurred],
  method: str,
  needs: Needs,
  *,
  show: int = 4,
  together: int = 1,
) -> dict[str, Report]:
  """A report on `restore`, called `method`, for every set; each keeps `show` pictures to display.

  Pictures are restored in batches of `together`, so that a set of any size fits in memory. They are
  divided among the processes of a run: all must call this, all get every score, and the first gets
  the pictures to show. Raises ValueError for a method called 'blurred', which is the input's name.
  """
  if method == BLURRED:
    raise ValueError(f'a method cannot be called {method!r}: rename its folder or file')
  reports = {}
  first, count = jax.process_index() == 0, jax.process_count()
  for name, pictures in sets.items():
    kept = {i * len(pictures) // show for i in range(show)}
    mine = set(range(jax.process_index(), len(pictures), count)) | (kept if first else set())
    done = _scored(restore, pictures, method, needs, sorted(mine), together)
    scores, shown = {}, {}
    for index, picture in writers.track(done, name, total=len(mine)):
      scores[index] = picture.name, picture.scores
      if index in kept:
        shown[index] = picture
    everyone = dict(pair for part in sharding.gather(list(scores.items())) for pair in part)
    reports[name] = Report(
      dict(everyone[index] for index in sorted(everyone)),
      [shown[index] for index in sorted(shown)],
      pictures.protocol,
    )
  return reports


def restore_set(
  restore: Restore,
  pictures: Blurred,
  needs: Needs,
  *,
  indices: Iterable[int] | None = None,
  together: int = 1,
) -> Iterator[tuple[int, Example, np.ndarray]]:
  """Yields (index, example, restored picture, float32 `[h w 3]`) of a set, or of its `indices`.

  Pictures are grouped by size, so that each size is compiled once. They are not padded to a common
  shape, because padding affects whole-image statistics, and near the border the result of any
  network. `restore` always gets `together` pictures, the last one repeated if there are fewer; if
  `together` is 1, it also gets the PSF if a single one made the blur.
  """
  groups: dict[tuple[int, int], list[int]] = {}
  for index in range(len(pictures)) if indices is None else indices:
    groups.setdefault(pictures.size(index), []).append(index)

  def on_pixels(images: np.ndarray, **known: Any) -> jax.Array:
    count = len(images)
    filled = images[np.minimum(np.arange(together), count - 1)]
    return restore(as_float(filled), **known)[:count]

  for (height, width), members in groups.items():
    shape = [tiling.round_up(side, needs.multiple) for side in (height, width)]
    for start in range(0, len(members), together):
      chosen = members[start : start + together]
      examples = [pictures[index] for index in chosen]
      images = np.stack([tiling.pad(one['blurred'], *shape) for one in examples])
      if needs.side:
        restored = tiling.tiled(on_pixels, images, needs)
      else:
        known = {'psf': examples[0]['psf']} if together == 1 and 'psf' in examples[0] else {}
        restored = np.asarray(on_pixels(images, **known))
      for index, example, picture in zip(chosen, examples, restored, strict=True):
        yield index, example, picture[:height, :width]


def _scored(restore, pictures, method, needs, indices, together) -> Iterator[tuple[int, Picture]]:
  reference = protocols.find(pictures.protocol).reference
  done = restore_set(restore, pictures, needs, indices=indices, together=together)
  for index, example, restored in done:
    scores = {
      BLURRED: pictures.score(example['blurred'], example),
      method: pictures.score(restored, example),
    }
    sharp = example['sharp'] if reference else None
    yield index, Picture(example['name'], example['blurred'], as_uint8(restored), sharp, scores)


def means(pictures: Iterable[Mapping[str, Scores]]) -> dict[str, Scores]:
  """Method -> metric -> mean, from the scores of each picture by each method.

  A picture with an infinite score, the PSNR of equal pictures, is excluded from the mean of that
  metric for every method, so that all means are over the same pictures; a metric without any
  pictures left is omitted.
  """
  pictures = list(pictures)
  found: dict[str, Scores] = {method: {} for method in pictures[0]}
  for metric in next(iter(pictures[0].values())):
    values = {method: [scores[method][metric] for scores in pictures] for method in found}
    finite = np.isfinite(list(values.values())).all(axis=0)  # [pictures]
    if finite.any():
      for method, one in values.items():
        found[method][metric] = float(np.mean(np.asarray(one)[finite]))
  return found


def _is_finite(scores: Mapping[str, Scores]) -> bool:
  return bool(np.isfinite([value for one in scores.values() for value in one.values()]).all())


def write(folder: pathlib.Path, reports: Mapping[str, Report], *, weights: str = '') -> None:
  """Writes results.json (means) and results.csv (a row per picture and method).

  Scores are stored with their protocol and the description of the weights:
  {set: {method: {metric: value, 'protocol': name, 'weights': text}}}, and 'exact' if pictures are
  excluded from a mean, see `means`.
  """
  stated = {'weights': weights} if weights else {}
  found = {
    name: {
      method: scores
      | {'protocol': report.protocol}
      | ({} if method == BLURRED else stated)
      | ({'exact': report.exact} if report.exact else {})
      for method, scores in report.mean().items()
    }
    for name, report in reports.items()
  }
  atomic.write_text(folder / 'results.json', json.dumps(found, indent=2, allow_nan=False) + '\n')
  rows = [
    {'set': name, 'picture': picture, 'method': method, 'protocol': report.protocol}
    | ({} if method == BLURRED else stated)
    | {metric: f'{value:.4f}' for metric, value in scores.items()}
    for name, report in reports.items()
    for picture, methods in report.scores.items()
    for method, scores in methods.items()
  ]
  lines = io.StringIO()
  columns = dict.fromkeys(['set', 'picture', 'method', 'protocol', *stated])
  table = csv.DictWriter(lines, [*columns | dict.fromkeys(key for row in rows for key in row)])
  table.writeheader()
  table.writerows(rows)
  atomic.write_text(folder / 'results.csv', lines.getvalue())


def show(say: Callable[[Any], None], folder: pathlib.Path) -> None:
  """Prints the tables of results.json: method, metrics, gain in PSNR over the blurred input."""
  for name, methods in json.loads((folder / 'results.json').read_text()).items():
    stated = {key: value for scores in methods.values() for key, value in scores.items()}
    metrics = [key for key in stated if key not in ('protocol', 'weights', 'exact')]
    rows = []
    for method, scores in methods.items():
      row = [method, *(f'{scores[key]:.4g}' if key in scores else '' for key in metrics)]
      if 'psnr' in metrics:
        row.append(f'{scores["psnr"] - methods[BLURRED]["psnr"]:+.2f} dB')
      rows.append(row)
    header = ['method', *metrics, *(['gain'] if 'psnr' in metrics else [])]
    title = [protocols.describe(stated['protocol'])]
    title += [stated['weights']] if 'weights' in stated else []
    # Not as the table's own title, which wraps if it is wider than the table.
    say(f'{name} ({"; ".join(title)})')
    say(writers.table(header, rows))
    if exact := stated.get('exact'):
      say(f'{exact} with infinite PSNR (equal to the sharp picture): excluded from its mean')
