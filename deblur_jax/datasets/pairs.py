"""Pairs of pictures in two folders: matched by name, and checked before training.

The checks read every header, and the pixels of a sample; each error names the file.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
import os
import pathlib
from typing import NamedTuple

import numpy as np

from deblur_jax.datasets import files


class Pair(NamedTuple):
  """One scene: blurred and sharp."""

  name: str
  blurred: pathlib.Path
  sharp: pathlib.Path


class WrongPairs(ValueError):
  """Pictures that do not pair up; the message names the first of them."""


def match(
  blurred: str | os.PathLike,
  sharp: str | os.PathLike,
  *,
  scene: Callable[[str], str] = str,
) -> list[Pair]:
  """Pairs of the pictures in two folders, by relative path without extension, in order of name.

  Args:
    blurred: folder of the blurred pictures.
    sharp: folder of the sharp ones.
    scene: from the name of a picture to the part that it shares with its partner, which names the
      pair.

  Raises FileNotFoundError if a folder is missing or empty, WrongPairs for pictures without a
  partner, or with several.
  """
  found = []
  for folder in (pathlib.Path(blurred), pathlib.Path(sharp)):
    folders(folder.parent, folder.name)
    found.append(_scenes(pictures(folder), scene))
  for these, others, here, there in ((*found, blurred, sharp), (*found[::-1], sharp, blurred)):
    alone = [name for name in these if name not in others]
    if alone:
      name, rule = (
        ('that name', '; names must match except for the extension')
        if scene is str
        else (f'the scene {alone[0]}', '')
      )
      raise WrongPairs(
        f'{these[alone[0]]}: no picture of {name} in {os.fspath(there)} ({len(alone)} of'
        f' {len(these)} in {os.fspath(here)} have no partner){rule}'
      )
  return [Pair(name, file, found[1][name]) for name, file in found[0].items()]


def folders(directory: pathlib.Path, *names: str) -> list[pathlib.Path]:
  """Subfolders of `directory`; raises FileNotFoundError with those missing and what was found."""
  missing = [name for name in names if not (directory / name).is_dir()]
  if missing:
    wanted = f'{"folders" if missing[1:] else "a folder"} {" and ".join(f"{m}/" for m in missing)}'
    raise FileNotFoundError(f'{directory}: expected {wanted}, {listed(directory)}')
  return [directory / name for name in names]


def pictures(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Like `files.find`; raises FileNotFoundError, with what was found, if there are none."""
  found = files.find(folder)
  if not found:
    kinds = ', '.join(files.EXTENSIONS)
    raise FileNotFoundError(f'{folder}: no pictures ({kinds}), {listed(folder)}')
  return found


def check_sizes(pairs: Iterable[Pair]) -> None:
  """Raises WrongPairs for the first pair of unequal sizes; reads headers only."""
  for pair in pairs:
    sizes = files.size(pair.blurred), files.size(pair.sharp)
    if sizes[0] != sizes[1]:
      raise unequal(pair, *sizes)


def unequal(pair: Pair, blurred: tuple[int, ...], sharp: tuple[int, ...]) -> WrongPairs:
  """The error for a pair of unequal sizes `(height, width)`."""
  return WrongPairs(
    f'{pair.blurred}: {blurred[1]}x{blurred[0]} pixels, but {pair.sharp} has'
    f' {sharp[1]}x{sharp[0]}; crop both to the same view or remove the pair'
  )


def check_order(pairs: Sequence[Pair], *, most: int = 48) -> None:
  """Raises WrongPairs for a blurred picture that shows a different scene than its sharp partner.

  Correlates averaged-down luminance. Of more than `most` pairs a sample is read, in runs of
  neighbors, so that an offset by a few names shows. An offset by a frame or two within one take of
  a film, whose frames look alike, cannot be detected this way.
  """
  sample = _sample(pairs, most)
  with futures.ThreadPoolExecutor() as pool:
    blurred = np.stack(list(pool.map(files.thumbnail, [p.blurred for p in sample])))
    sharp = np.stack(list(pool.map(files.thumbnail, [p.sharp for p in sample])))
  flat = (_contrast(blurred) < 0.02) | (_contrast(sharp) < 0.02)  # nothing to compare
  likeness = _standard(blurred) @ _standard(sharp).T  # [blurred sharp]
  likeness[:, flat] = -1
  for i, pair in enumerate(sample):
    own, best = likeness[i, i], int(np.argmax(likeness[i]))
    if flat[i]:
      continue
    # True pairs correlate to 0.99 or more, unless the blur is very strong; frames of one scene may
    # reach 0.97. So another picture must match much better before this one is called wrong.
    if 1 - own > max(0.03, 5 * (1 - likeness[i, best])) or likeness[i, best] > own + 0.3:
      raise WrongPairs(
        f'{pair.blurred}: looks like a blurred {sample[best].sharp.name} (correlation'
        f' {likeness[i, best]:.2f}), not {pair.sharp} ({own:.2f}); the files seem out of order'
      )
    if own < 0.1:
      raise WrongPairs(
        f'{pair.blurred}: shows a different scene than {pair.sharp} (correlation {own:.2f});'
        f' rename the files so that the two halves of a pair have the same name'
      )


def listed(directory: pathlib.Path, *, most: int = 6) -> str:
  """What is in a folder, as the end of an error message: `found a/, b/, c.png`."""
  if not directory.is_dir():
    return 'but the folder does not exist'
  inside = sorted(f'{p.name}/' if p.is_dir() else p.name for p in directory.iterdir())
  more = f' and {len(inside) - most} more' if len(inside) > most else ''
  return f'found {", ".join(inside[:most]) or "nothing"}{more}'


def _scenes(found: dict[str, pathlib.Path], scene: Callable[[str], str]) -> dict[str, pathlib.Path]:
  by_scene: dict[str, pathlib.Path] = {}
  for name, file in found.items():
    other = by_scene.setdefault(scene(name), file)
    if other is not file:
      raise WrongPairs(f'{file}: same scene as {other.name} in that folder; remove one of them')
  return by_scene


def _sample(pairs: Sequence[Pair], most: int, run: int = 4) -> list[Pair]:
  if len(pairs) <= most:
    return list(pairs)
  starts = np.linspace(0, len(pairs) - run, most // run).astype(int)
  return [pairs[start + i] for start in starts for i in range(run)]


def _contrast(thumbnails: np.ndarray) -> np.ndarray:
  return thumbnails.std(axis=(1, 2))


def _standard(thumbnails: np.ndarray) -> np.ndarray:
  flat = thumbnails.reshape(len(thumbnails), -1)
  flat = flat - flat.mean(axis=1, keepdims=True)
  return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
