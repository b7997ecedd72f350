"""Measures, ships and tests the reliability of methods: `python tools/calibrations.py measure ...`.

  python tools/calibrations.py measure mobile sharp:PHOTOS mobile.jsonl
  python tools/calibrations.py ship mobile mobile.jsonl
  python tools/calibrations.py measure mobile sharp:KODAK kodak.jsonl --draws 8
  python tools/calibrations.py measure mobile pairs:GOPRO gopro.jsonl --grid --shift 3
  python tools/calibrations.py table mobile kodak.jsonl gopro.jsonl --figure reliability.png

`measure` restores pictures whose sharp versions are known and appends a line for each to a file;
run again, it continues. `ship` fits intervals and reliability to such lines and writes them into
deblur_jax/pretrained/calibrations.json. `table` compares them with other lines. A classical method
estimates its PSF for each picture.
"""

import argparse
import itertools
import json
import pathlib

import numpy as np

from deblur_jax import methods, sharding, weights
from deblur_jax.cli import values
from deblur_jax.evaluation import blurred_set, figures
from deblur_jax.photos import restorer, trust
from deblur_jax.uncertainty import conformal, measures, stored

MIX = (
  'sharp or sharp or gaussian(0.3..0.7) or gaussian(0.7..3) or disk(1..6) or shake(3..15)'
  ' or shake(15..51) or motion(5..41) | sharp or noise(0..0.003) or noise(0..0.03)'
  ' | sharp or jpeg(70..98)'
)
"""From pictures that only lose by being restored to blur that is too large."""

KEPT = 2000
"""Values of a picture whose errors and spreads are kept."""


class Grid:
  """All squares of a set of pictures, side by side."""

  def __init__(self, pictures, side: int):
    self._pictures, self._side, self._places = pictures, side, []
    for index in range(len(pictures)):
      height, width = pictures.size(index)
      tops, lefts = range(0, height - side + 1, side), range(0, width - side + 1, side)
      self._places += [(index, top, left) for top, left in itertools.product(tops, lefts)]

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, number: int) -> dict:
    index, top, left = self._places[number]
    example = self._pictures[index]
    part = (slice(top, top + self._side), slice(left, left + self._side))
    cut = {name: example[name][part] for name in ('blurred', 'sharp')}
    return {'name': f'{example["name"]} {left},{top}', **cut}


def measure(arguments: argparse.Namespace) -> None:
  """Appends the lines that are missing."""
  sharding.keep_compiled()
  solver = methods.is_solver(arguments.method)
  method = restorer.load(arguments.method, **({'psf': 31, 'force': True} if solver else {}))
  named = values.picture_set(arguments.set)
  pictures = blurred_set.open_set(
    **named,
    split='all',
    blur=arguments.blur,
    crop=0 if arguments.grid else arguments.crop,
    draws=arguments.draws,
    limit=arguments.limit,
  )
  pictures = Grid(pictures, arguments.crop) if arguments.grid else pictures
  done = len(read(arguments.lines)) if arguments.lines.exists() else 0
  rest = range(arguments.first, len(pictures), arguments.every)[done:]
  random = np.random.default_rng(0)
  with open(arguments.lines, 'a') as file:
    for one in trust.judge(method, Picked(pictures, rest), best_shift=arguments.shift):
      chosen = random.choice(one.errors.size, min(KEPT, one.errors.size), replace=False)
      line = {'name': one.name, 'evidence': one.evidence, 'gain': one.gain}
      for name in ('errors', 'spreads'):
        array = getattr(one, name)
        line[name] = None if array is None else [float(f'{v:.4g}') for v in array.flat[chosen]]
      file.write(json.dumps(line) + '\n')
      file.flush()


class Picked:
  """Some of a set of pictures."""

  def __init__(self, pictures, numbers: range):
    self._pictures, self._numbers = pictures, numbers

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, index: int):
    return self._pictures[self._numbers[index]]


def read(path: pathlib.Path) -> list[trust.Judged]:
  """The lines of a file."""
  found = []
  for text in path.read_text().splitlines():
    line = json.loads(text)
    for name in ('errors', 'spreads'):
      line[name] = None if line[name] is None else np.asarray(line[name])
    found.append(trust.Judged(**line))
  return found


def ship(arguments: argparse.Namespace) -> None:
  """Fits and stores a calibration."""
  judged = [one for path in arguments.lines for one in read(path)]
  judged.sort(key=lambda one: one.name)  # those of a photograph become neighbors
  found = trust.calibrated(judged, data=arguments.data, spread_of='turns')
  key = arguments.method
  if not methods.is_solver(key):
    key = weights.digest(methods.find(key))
  known = json.loads(stored.SHIPPED.read_text()) if stored.SHIPPED.exists() else {}
  if arguments.intervals:
    found = found._replace(reliability=None)
  known[key] = {'name': arguments.method, **rounded(found.plain())}
  stored.SHIPPED.write_text(json.dumps(known, indent=1) + '\n')
  print(trust.describe(found, judged))


def rounded(value):
  """Numbers with five digits, so that the file is small."""
  if isinstance(value, dict):
    return {name: rounded(one) for name, one in value.items()}
  if isinstance(value, list | tuple):
    return [rounded(one) for one in value]
  return float(f'{value:.5g}') if isinstance(value, float) else value


def table(arguments: argparse.Namespace) -> None:
  """Prints how well the stored calibration of a method fits other pictures."""
  known = stored.find(arguments.method)
  assert known and known.reliability
  print(
    '| pictures | count | better | mean gain, dB | mean score | ECE | rank correlation | inside |'
  )
  print('|---|---|---|---|---|---|---|---|')
  everything = []
  for path in arguments.lines:
    judged = read(path)
    scores = np.array([known.reliability(one.evidence) for one in judged])
    gains = np.array([one.gain for one in judged])
    everything += zip(scores, gains > 0, strict=True)
    inside = ''
    if known.intervals:
      each = [conformal.coverage(one.errors / one.spreads, known.intervals.scale) for one in judged]
      inside = f'{np.mean(each):.1%}'
    error = measures.calibration_error(scores, gains > 0)
    print(
      f'| {path.stem} | {len(judged)} | {np.mean(gains > 0):.0%} | {gains.mean():+.2f} '
      f'| {scores.mean():.2f} | {error:.3f} | {measures.rank_correlation(scores, gains):.2f} '
      f'| {inside} |'
    )
  scores, better = (np.array(one) for one in zip(*everything, strict=True))
  print('\n| score | share better | pictures |\n|---|---|---|')
  for score, share, count in measures.bins(scores, better):
    print(f'| {score:.2f} | {share:.2f} | {count} |')
  if arguments.figure:
    figures.save(arguments.figure, figures.reliability({arguments.method: (scores, better)}))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  commands = parser.add_subparsers(required=True)
  one = commands.add_parser('measure')
  one.add_argument('method')
  one.add_argument('set', help='sharp:FOLDER or pairs:FOLDER')
  one.add_argument('lines', type=pathlib.Path)
  one.add_argument('--blur', default=MIX)
  one.add_argument('--crop', type=int, default=192)
  one.add_argument('--draws', type=int, default=1)
  one.add_argument('--limit', type=int, default=0)
  one.add_argument('--grid', action='store_true', help='all crops, not only the central one')
  one.add_argument('--every', type=int, default=1, metavar='N', help='use every Nth only')
  one.add_argument('--first', type=int, default=0, metavar='I', help='counted from the Ith')
  one.add_argument('--shift', type=int, default=0, metavar='PIXELS', help='compare at best shift')
  one.set_defaults(run=measure)
  one = commands.add_parser('ship')
  one.add_argument('method')
  one.add_argument('lines', type=pathlib.Path, nargs='+')
  one.add_argument('--intervals', action='store_true', help='leave out the reliability')
  one.add_argument('--data', required=True, help='what the pictures were, a few words')
  one.set_defaults(run=ship)
  one = commands.add_parser('table')
  one.add_argument('method')
  one.add_argument('lines', type=pathlib.Path, nargs='+')
  one.add_argument('--figure', type=pathlib.Path)
  one.set_defaults(run=table)
  arguments = parser.parse_args()
  arguments.run(arguments)


if __name__ == '__main__':
  main()
