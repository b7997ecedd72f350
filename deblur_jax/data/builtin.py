"""Pictures that need no download: photographs from the scikit-image wheel, and dead leaves.

The photographs are the ones in the wheel that show a scene; all are free to use (public domain or
CC0). Three are for evaluation: they are never trained on, and no dead leaves take their colors.
"""

import dataclasses
import functools
import importlib.util
import pathlib
import types

import numpy as np

from deblur_jax.data import leaves
from deblur_jax.datasets import files

TEST = ('astronaut.png', 'camera.png', 'coffee.png')

# How often each occurs in an epoch: color and structure more often than plain texture.
TRAIN = {
  'chelsea.png': 14,
  'rocket.jpg': 14,
  'brick.png': 8,
  'coins.png': 8,
  'grass.png': 8,
  'gravel.png': 8,
  'page.png': 4,
}
PALETTES = ('chelsea.png', 'rocket.jpg')

LEAVES = 64  # as many as photographs in an epoch; half and half trains best
LEAVES_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Builtin:
  """The built-in pictures of a split, sharp only; photographs have 172 to 640 pixels a side.

  Each is read or rendered on first use (10 ms for a photograph, 40 ms for dead leaves) and cached:
  20 MB in all.
  """

  split: str
  seed: int = 0

  paired = False
  aligned = True
  files = types.MappingProxyType({})  # The version of scikit-image determines them.

  def __len__(self) -> int:
    return len(TEST) if self.split == 'test' else len(_train_photographs()) + LEAVES

  def __getitem__(self, index: int) -> dict[str, str | np.ndarray]:
    if not 0 <= index < len(self):
      raise IndexError(f'no picture {index}: there are {len(self)}')
    photographs = TEST if self.split == 'test' else _train_photographs()
    if index < len(photographs):
      file = photographs[index]
      return {'name': file.partition('.')[0], 'sharp': photograph(file)}
    number = index - len(photographs)
    return {'name': f'leaves/{number:03d}', 'sharp': dead_leaves(self.seed, number)}

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of a picture."""
    return self[index]['sharp'].shape[:2]


def _train_photographs() -> tuple[str, ...]:
  return tuple(file for file, times in TRAIN.items() for _ in range(times))


@functools.cache
def photograph(file: str) -> np.ndarray:
  """A photograph from the scikit-image wheel, uint8 `[h w 3]`, read-only."""
  # The package is located, not imported: only its files are needed.
  package = importlib.util.find_spec('skimage')
  path = pathlib.Path(package.origin).parent / 'data' / file
  if not path.exists():
    raise FileNotFoundError(
      f'{path}: missing from scikit-image; run pip install --force-reinstall scikit-image'
    )
  return _frozen(files.read(path))


@functools.lru_cache(maxsize=4 * LEAVES)
def dead_leaves(seed: int, number: int) -> np.ndarray:
  """Dead-leaves picture `number`, uint8 `[256 256 3]`, read-only.

  Half of them use the colors of a training photograph, half muted ones.
  """
  rng = np.random.default_rng([seed, number])
  palette = None
  if number % 2:
    file = PALETTES[number // 2 % len(PALETTES)]
    palette = photograph(file).reshape(-1, 3)
  return _frozen(leaves.render(rng, LEAVES_SIZE, palette))


def _frozen(image: np.ndarray) -> np.ndarray:
  image = np.array(image)
  image.setflags(write=False)
  return image
