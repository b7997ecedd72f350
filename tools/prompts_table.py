"""What prompts do to two faults: `python tools/prompts_table.py RUN --pictures FOLDER`.

Crops of the pictures get two faults. Prompts ask to remove one of them, or both, and each result is
compared with three pictures: without the first fault, without the second, and without both. The
right one should be the closest. Prints a Markdown table of PSNR in dB; 'steps' is what `restore`
does without a RUN (photos/guided.py).
"""

import argparse
import pathlib
import sys

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax.blur import synthesis
from deblur_jax.data import sources
from deblur_jax.guidance import words
from deblur_jax.photos import guided
from deblur_jax.types import as_float

STEPS = 'steps'
MIXES = {
  'dark': 'gamma(2)',
  'motion': 'motion(9)',
  'defocus': 'gaussian(1.5)',
  'noise': 'noise(0.04)',
  'jpeg': 'jpeg(30)',
}
"""In the order in which they happen."""
PAIRS = ('motion', 'noise'), ('defocus', 'noise'), ('defocus', 'jpeg'), ('dark', 'noise')
SIDE = 256


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('methods', nargs='+', help=f'{STEPS}, or weights that read prompts')
  parser.add_argument('--pictures', required=True, help='folder of sharp pictures')
  parser.add_argument('--limit', type=int, default=12, metavar='N')
  arguments = parser.parse_args()
  found = sources.open('sharp', 'all', directory=arguments.pictures)
  sharp = [middle(as_float(found[i]['sharp'])) for i in range(min(len(found), arguments.limit))]
  print('| faults | prompt | method | without the first | without the second | without both |')
  print('|---|---|---|---|---|---|')
  for pair in PAIRS:
    first, second = pair
    given, *wanted = (
      [faulty(one, left, number) for number, one in enumerate(sharp)]
      for left in (pair, (second,), (first,), ())
    )
    title = ' and '.join(words.NAMES[fault] for fault in pair)
    row(title, '(none)', '', given, wanted)
    for prompt in (f'remove the {words.NAMES[first]}', f'remove the {words.NAMES[second]}', 'both'):
      request = words.parse(f'remove the {title}' if prompt == 'both' else prompt)
      for method in arguments.methods:
        restorer = guided.load(request, weights=None if method == STEPS else method)
        row(title, prompt, method, [restorer(one) for one in given], wanted)


def middle(picture: np.ndarray) -> np.ndarray:
  """The central crop."""
  top, left = ((side - SIDE) // 2 for side in picture.shape[:2])
  return picture[top : top + SIDE, left : left + SIDE]


def faulty(sharp: np.ndarray, faults: tuple[str, ...], number: int) -> np.ndarray:
  """A picture with faults, the same ones for each set that holds them."""
  image = sharp[None]
  for i, fault in enumerate(MIXES):
    if fault in faults:
      key = jax.random.fold_in(jax.random.key(number), i)
      image = synthesis.parse(MIXES[fault])(key, image)
  return np.asarray(image[0])


def row(title: str, prompt: str, method: str, results: list, wanted: list) -> None:
  """Prints one."""
  scores = [np.mean([psnr(*pair) for pair in zip(results, one, strict=True)]) for one in wanted]
  print('| ' + ' | '.join([title, prompt, method, *(f'{score:.2f}' for score in scores)]) + ' |')


def psnr(result: np.ndarray, wanted: np.ndarray) -> float:
  """In dB."""
  return -10 * float(np.log10(np.mean(np.square(np.clip(result, 0, 1) - wanted))))


if __name__ == '__main__':
  main()
