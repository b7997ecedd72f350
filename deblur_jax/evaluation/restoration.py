"""How well a method restores a set of pictures: scores per picture, means, files.

Pictures are restored whole, padded no further than the method's own multiple (in tiles if it takes
one size only), and scored by the set's protocol (`evaluation.protocols`); doing nothing, "blurred",
is scored beside every method. A picture's scores never depend on the other pictures of its set.
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
from deblur_jax.blur import synthesis
from deblur_jax.blur.synthesis import MIXED
from deblur_jax.data import sources
from deblur_jax.evaluation import protocols
from deblur_jax.evaluation.protocols import Scores, as_uint8
from deblur_jax.metrics import parse as parse_metrics
from deblur_jax.types import Needs, Restore, as_float

Example = dict[str, Any]

BLURRED = 'blurred'
"""The method that does nothing."""


class Picture(NamedTuple):
  """One picture of a set, uint8 `[h w 3]` each, with the scores of every method."""

  name: str
  blurred: np.ndarray
  restored: np.ndarray
  sharp: np.ndarray | None
  """None where no sharp picture fits by the pixel."""
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
    """How many pictures have an infinite score, the PSNR of two that are equal."""
    return sum(not _is_finite(scores) for scores in self.scores.values())


class Blurred:
  """A set to evaluate on: pictures, the blurred half made for sharp ones, and how to score them.

  Blur that is made is the same in every run.

  Args:
    source: pictures; those that come in pairs stay as they are.
    blur: the mix, see `blur.synthesis`.
    limit: only this many pictures, spread over the set; 0 for all.
    draws: how often each sharp picture comes, every time blurred otherwise.
    protocol: the name of one of `evaluation.protocols`.
    learned: metrics to add, as `metrics.parse` and `protocols.load_learned` give them.

  Raises ValueError where the source is not aligned and the protocol compares by the pixel.
  """

  def __init__(
    self,
    source: Any,
    blur: str,
    *,
    limit: int = 0,
    draws: int = 1,
    protocol: str = 'plain',
    learned: Mapping[str, protocols.Metric] | None = None,
  ):
    if protocols.find(protocol).reference and not getattr(source, 'aligned', True):
      raise ValueError(
        f'protocol {protocol!r} compares by the pixel, and in this set the blurred and the sharp '
        "pictures do not lie on each other; protocol 'sharpness' needs no sharp ones"
      )
    self._source = source
    count = min(limit or len(source), len(source))
    draws = 1 if source.paired else draws
    self._indices = [i * len(source) // count for i in range(count) for _ in range(draws)]
    self._draws = draws
    self._degrade = None if source.paired else synthesis.parse(blur)
    self._blur = jax.jit(self._blur_one)
    self.protocol, self._learned = protocol, learned

  def __len__(self) -> int:
    return len(self._indices)

  @property
  def source(self) -> Any:
    """Where the pictures come from."""
    return self._source

  def size(self, index: int) -> tuple[int, int]:
    """Height and width."""
    return self._source.size(self._indices[index])

  def __getitem__(self, index: int) -> Example:
    if self._degrade is None:
      return self._source[self._indices[index]]
    example = self._source[self._indices[index]]
    # By the picture's place in the whole source, so that a limit changes nothing.
    draw = self._indices[index] * self._draws + index % self._draws
    key = jax.random.fold_in(jax.random.key(0), draw)
    blurred, places = self._blur(jax.random.fold_in(key, 0), as_float(example['sharp']))
    name = example['name'] + (f' {index % self._draws + 1}' if self._draws > 1 else '')
    psfs = [drawn.psf for drawn in self._degrade.tell(places) if drawn.psf is not None]
    known = {'psf': psfs[0]} if len(psfs) == 1 else {}
    return {**example, 'name': name, 'blurred': as_uint8(blurred), **known}

  def _blur_one(self, key, sharp):
    """`sharp` `[h w 3]` blurred, and what was drawn for it."""
    assert self._degrade is not None  # only sharp pictures are blurred
    places = self._degrade.draw(key)
    several = jax.tree.map(lambda leaf: leaf[None], places)
    return self._degrade.apply(several, sharp[None])[0], places

  def score(self, restored: np.ndarray, example: Example) -> Scores:
    """Every metric of this set for one restored picture, uint8 or float `[h w 3]`."""
    protocol = protocols.find(self.protocol)
    return protocols.score(restored, example['sharp'], protocol, self._learned)


def open_set(
  source: str,
  split: str = 'test',
  *,
  directory: str | None = None,
  blur: str = MIXED,
  limit: int = 0,
  draws: int = 1,
  protocol: str = '',
  metrics: str = '',
  lpips: str = '',
  dists: str = '',
) -> Blurred:
  """A set to evaluate on, with the settings of one of `config.evaluate`.

  Scored by the source's own protocol if none is named, and by `metrics` besides, see
  `metrics.parse`. `lpips` and `dists` are the files of their weights; without, they are left out.
  """
  protocol = protocol or protocols.for_source(source)
  unaligned = not protocols.find(protocol).reference
  if metrics and unaligned:
    raise ValueError(f'protocol {protocol!r} has no sharp pictures to compare with: no {metrics}')
  return Blurred(
    sources.open(source, split, directory=directory or None, unaligned=unaligned),
    blur,
    limit=limit,
    draws=draws,
    protocol=protocol,
    learned=parse_metrics(metrics) | protocols.load_learned({'lpips': lpips, 'dists': dists}),
  )


def open_sets(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Blurred]:
  """The sets of `config.evaluate`: name -> the arguments of `open_set`."""
  return {name: open_set(**one) for name, one in settings.items()}


def evaluate(
  restore: Restore,
  sets: Mapping[str, Blurred],
  method: str,
  needs: Needs,
  *,
  show: int = 4,
  together: int = 1,
) -> dict[str, Report]:
  """Every set's report on `restore`, known as `method`; `show` pictures of each keep their pixels.

  Pictures pass `together` by `together`, so that a set of any size fits in memory. The processes of
  a run divide them: all have to call, all get every score, the first gets what is shown. Raises
  ValueError for a method called 'blurred', which stands for doing nothing.
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
  """(index, example, restored picture, float32 `[h w 3]`) of a set, or of its `indices`.

  Pictures of one size come one after the other, so that each size is compiled once. They share no
  larger shape: what a picture is padded with enters whole-image statistics, and at its borders any
  network. `restore` always gets `together` pictures, the last one repeated if there are fewer; if
  `together` is 1, it also gets the PSF, if a single one made the blur.
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

  A picture that has an infinite score, as the PSNR of two equal pictures is, is left out of the
  mean of that metric for every method, so that all means are of the same pictures; a metric that
  this leaves without pictures is left out.
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
  """Writes results.json (means) and results.csv (a line per picture and method).

  The protocol stands beside the scores, and which weights they are of:
  {set: {method: {metric: value, 'protocol': name, 'weights': text}}}; 'exact' if pictures are left
  out of a mean, see `means`.
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
  """Prints the tables of results.json: method, metrics, gain in PSNR over doing nothing."""
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
    # Not as the table's own title, which breaks where it is wider than the table.
    say(f'{name} ({"; ".join(title)})')
    say(writers.table(header, rows))
    if exact := stated.get('exact'):
      say(f'{exact} with infinite PSNR (equal to the sharp picture): left out of its means')
