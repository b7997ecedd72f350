"""How well the uncertainty of methods holds on test sets, as a table and figures."""

from collections.abc import Callable, Iterable, Mapping
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from deblur_jax import atomic, methods, writers
from deblur_jax.evaluation import blurred_set, figures, protocols
from deblur_jax.photos import restorer, trust
from deblur_jax.uncertainty import conformal, measures, stored

ESTIMATED = 31
"""Side in pixels of the PSF that classical methods estimate."""


class Assessment(NamedTuple):
  """How well the uncertainty of a method holds on a set."""

  pictures: int
  coverage: float | None
  """Mean share of the values inside their intervals; None without intervals, as the next two."""
  width: float | None
  """Mean width of the intervals, in levels of 255."""
  ause: float | None
  """Mean area under the sparsification error, see `uncertainty.measures`."""
  better: float
  """Share of the results with a higher PSNR than their input."""
  reliability: float | None
  """Mean; None if the method has no reliability, as the next two."""
  ece: float | None
  """Expected calibration error of the reliability."""
  rank_correlation: float | None
  """Spearman's, of reliability and gain in PSNR."""
  scores: list[float]
  """Reliability and gain in dB of each picture."""
  gains: list[float]
  by_spread: list[float]
  """The mean sparsification curves."""
  by_error: list[float]


def assess(judged: Iterable[trust.Judged], known: stored.Stored) -> Assessment:
  """The assessment of what `trust.judge` yields, one picture at a time, by what is stored."""
  inside, widths, curves, scores, gains = [], [], [], [], []
  for one in judged:
    gains.append(one.gain)
    if known.reliability:
      scores.append(known.reliability(one.evidence))
    if known.intervals and one.spreads is not None:
      scale = known.intervals.scale
      inside.append(conformal.coverage(one.errors / one.spreads, scale))
      widths.append(2 * 255 * scale * float(one.spreads.mean()))
      curves.append(measures.sparsification(one.errors, one.spreads))
  better = np.array(gains) > 0
  return Assessment(
    pictures=len(gains),
    coverage=float(np.mean(inside)) if inside else None,
    width=float(np.mean(widths)) if widths else None,
    ause=float(np.mean([one.ause for one in curves])) if curves else None,
    better=float(better.mean()),
    reliability=float(np.mean(scores)) if scores else None,
    ece=measures.calibration_error(np.array(scores), better) if scores else None,
    rank_correlation=measures.rank_correlation(scores, gains) if len(scores) > 1 else None,
    scores=scores,
    gains=gains,
    by_spread=_mean([one.by_spread for one in curves]),
    by_error=_mean([one.by_error for one in curves]),
  )


def run(
  named: Mapping[str, str],
  sets: Mapping[str, Mapping[str, Any]],
  output: pathlib.Path,
  say: Callable[[Any], None],
) -> None:
  """Assesses methods on sets, prints a table, writes uncertainty.json and uncertainty.png.

  `named` are names in the table and of `methods.find`, `sets` the arguments of
  `evaluation.open_set`. Methods without a calibration and sets without sharp pictures are skipped.
  """
  found: dict[str, dict[str, Assessment]] = {}
  opened = {name: blurred_set.open_set(**one) for name, one in sets.items()}
  compared = {name: one for name, one in opened.items() if protocols.find(one.protocol).reference}
  for method, place in named.items():
    known = stored.find(place)
    if known is None:
      say(f'{method}: no uncertainty, as it has no calibration')
      continue
    load = {'psf': ESTIMATED, 'force': True} if methods.is_solver(place) else {}
    load |= {'spread_of': known.intervals.spread_of} if known.intervals else {}
    with_spread = restorer.load(place, **load)
    for name, pictures in compared.items():
      shift = protocols.find(pictures.protocol).shift
      judged = trust.judge(with_spread, pictures, best_shift=shift)
      judged = writers.track(judged, f'uncertainty of {method} on {name}', total=len(pictures))
      found.setdefault(name, {})[method] = assess(judged, known)
  if not found:
    return
  plain = {
    name: {method: one._asdict() for method, one in several.items()}
    for name, several in found.items()
  }
  atomic.write_text(output / 'uncertainty.json', json.dumps(plain, indent=2) + '\n')
  figures.save(output / 'uncertainty.png', _figure(found))
  for name, several in found.items():
    say(f'uncertainty on {name}')
    say(writers.table(HEADER, [_row(method, one) for method, one in several.items()]))
  say(f'wrote uncertainty.json and uncertainty.png to {output}')


HEADER = ('method', 'coverage', 'width', 'AUSE', 'better', 'reliability', 'ECE', 'rank corr.')


def _row(method: str, one: Assessment) -> list[str]:
  values = [
    (one.coverage, '.1%'),
    (one.width, '.1f'),
    (one.ause, '.3f'),
    (one.better, '.0%'),
    (one.reliability, '.2f'),
    (one.ece, '.3f'),
    (one.rank_correlation, '.2f'),
  ]
  return [method, *('' if value is None else format(value, form) for value, form in values)]


def _figure(found: Mapping[str, Mapping[str, Assessment]]) -> np.ndarray:
  """Reliability and sparsification curves of all methods, a row for each set."""
  rows = []
  for name, several in found.items():
    scored = {
      method: (np.array(one.scores), np.array(one.gains) > 0)
      for method, one in several.items()
      if one.scores
    }
    curves = {
      method: measures.Sparsification(
        measures.REMOVED, np.array(one.by_spread), np.array(one.by_error)
      )
      for method, one in several.items()
      if one.by_spread
    }
    panels = (figures.reliability(scored, name), figures.sparsification(curves, name))
    rows.append(np.concatenate(panels, axis=1))
  return np.concatenate(rows)


def _mean(curves: list[np.ndarray]) -> list[float]:
  return np.mean(curves, axis=0).tolist() if curves else []
