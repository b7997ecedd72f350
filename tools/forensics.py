"""Fits and tests what distinguishes deblurred pictures: `python tools/forensics.py`.

  python tools/forensics.py --train PHOTOS --test KODAK --figure roc.png

Untouched pictures are sharp, or blurred by lens or motion. Deblurred ones are results of our
methods for such blurred pictures; those of other methods, which were not trained on, are only
tested. All are saved as JPEG or not at all. Writes deblur_jax/pretrained/forensics.json if the area
under the ROC curve is at least 0.7.
"""

import argparse
import json
import pathlib

import jax
import numpy as np

from deblur_jax import sharding
from deblur_jax.blur import synthesis
from deblur_jax.data import sources
from deblur_jax.evaluation import figures
from deblur_jax.photos import diagnosis, forensics, restorer
from deblur_jax.types import as_float
from deblur_jax.uncertainty import measures, reliability

UNTOUCHED = 'sharp or gaussian(0.5..2.5) or disk(1..4) or shake(3..15) | noise(0..0.02)'
BLURRED = 'gaussian(0.7..2.5) or disk(1..4) or shake(3..15) | noise(0..0.02)'
SAVED = 'jpeg(80..96) or sharp'
OURS = 'mobile', 'polyblur'
OTHERS = 'wiener', 'unsharp mask'
LEAST = 0.7
SIDE = 192


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--train', required=True, help='folder of sharp photographs')
  parser.add_argument('--test', required=True, help='folder of others')
  parser.add_argument('--limit', type=int, default=90, help='photographs to train on')
  parser.add_argument('--draws', type=int, default=2, help='of each photograph to test on')
  parser.add_argument('--figure', type=pathlib.Path)
  arguments = parser.parse_args()
  sharding.keep_compiled()
  run = {name: restorer.load(name, force=True) for name in OURS}
  found = examples(arguments.train, arguments.limit, 1, OURS, run)
  everything = [(traces, name != 'untouched') for name, traces in found]
  fitted = reliability.fit(*zip(*everything, strict=True), data='photographs')
  tested: dict[str, list[float]] = {}
  for name, traces in examples(arguments.test, 0, arguments.draws, (*OURS, *OTHERS), run):
    tested.setdefault(name, []).append(fitted(traces))
  curves = {}
  print('| results of | AUC | found, at 5 % false alarms |\n|---|---|---|')
  ours = [score for name in OURS for score in tested[name]]
  for name, scores in {'ours': ours, **tested}.items():
    if name == 'untouched':
      continue
    curves[name] = roc = measures.roc(np.array(scores), np.array(tested['untouched']))
    print(f'| {name} | {roc.area:.3f} | {np.interp(0.05, roc.false, roc.true):.0%} |')
  if arguments.figure:
    figures.save(arguments.figure, figures.roc(curves))
  if curves['ours'].area < LEAST:
    raise SystemExit(f'the area is below {LEAST}: not written')
  entry = {'auc': round(curves['ours'].area, 3), 'found': fitted._asdict()}
  forensics.STORED.write_text(json.dumps(entry, indent=1) + '\n')


def examples(folder: str, limit: int, draws: int, methods, run):
  """Yields (method or 'untouched', traces): as many untouched pictures as deblurred ones."""
  source = sources.open('sharp', 'all', directory=folder)
  count = min(limit or len(source), len(source))
  mixes = [jax.jit(synthesis.parse(text)) for text in (UNTOUCHED, BLURRED, SAVED)]
  for number in range(count * draws):
    sharp = source[number // draws * len(source) // count]['sharp']
    top, left = ((side - SIDE) // 2 for side in sharp.shape[:2])
    sharp = as_float(sharp[top : top + SIDE, left : left + SIDE])[None]
    for place, name in enumerate(methods):
      key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), number), place)
      keys = jax.random.split(key, 4)
      yield 'untouched', seen(mixes[2](keys[0], mixes[0](keys[1], sharp)))
      blurred = np.asarray(mixes[1](keys[2], sharp))
      yield name, seen(mixes[2](keys[3], np.clip(deblurred(name, blurred, run), 0, 1)))


def deblurred(name: str, blurred: np.ndarray, run) -> np.ndarray:
  """Pictures `[1 h w 3]` by a method of ours, or as other programs do."""
  if name in run:
    return run[name](blurred)
  if name == 'wiener':  # with a PSF that is about right
    psf = np.asarray(restorer.load('polyblur').find_psf(blurred).psf)
    return restorer.load('wiener', psf=psf)(blurred)
  from PIL import Image, ImageFilter

  image = Image.fromarray(np.rint(255 * blurred[0]).astype(np.uint8))
  return as_float(np.asarray(image.filter(ImageFilter.UnsharpMask(2, 150, 2))))[None]


def seen(images) -> dict[str, float]:
  """The traces of a picture as it is stored in 8 bits."""
  image = np.rint(255 * np.asarray(images[0])).astype(np.uint8)
  return forensics.traces(diagnosis.windows(image.shape, lambda start, stop: image[start:stop]))


if __name__ == '__main__':
  main()
