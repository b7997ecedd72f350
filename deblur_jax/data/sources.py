"""Sources of pictures: `open(name, split)` gives examples by index.

| name | pictures | directory |
|---|---|---|
| `builtin` | photographs of scikit-image and dead leaves; sharp | none |
| `sharp` | a folder of sharp pictures | any layout, or with train/ and test/ |
| `pairs` | blurred and sharp, matched by name | blur/ or blur_gamma/ and sharp/, or scenes |
| `gopro/blur`, `gopro/blur_gamma` | GoPro | TFDS data directory |
| `hide` | HIDE | same |
| `realblur/j`, `realblur/r` | RealBlur | same |
| `mcblur/rhm`, `mcblur/uhdm`, `mcblur/lsd` | MC-Blur | same |
| `kaggle/motion`, `kaggle/defocus` | Kaggle's blur dataset; not aligned | same |
| `unpaired` | sharp pictures, and blurred ones of other scenes; not aligned | same |

The published sets, from `gopro` on, are prepared by `tools/prepare.py`.

An example is {'name': str, 'sharp': uint8 `[h w 3]`}, with a 'blurred' of the same type if
`paired`. If `aligned`, both have the same shape and match pixel by pixel; otherwise they are
separate pictures, which may differ in size, and are augmented with `Separately`.

Splits are 'train' and 'test', and for folders also 'all'. A folder may have subfolders train/ and
test/, in upper or lower case. A folder with neither holds out a tenth of its pictures (at least
one) for 'test', chosen by a hash of their names, so that a picture stays in its split when others
are added. 'train[:80%]' is a part of a split, as in TFDS, and 'train[80%:]' the rest, to validate
on.
"""

from collections.abc import Callable
from concurrent import futures
import dataclasses
import difflib
import functools
import hashlib
import json
import os
import pathlib
import re
from typing import Protocol

import numpy as np

from deblur_jax.data import folders, prepared
from deblur_jax.data.builtin import Builtin
from deblur_jax.data.folders import SPLITS
from deblur_jax.data.ops import Example
from deblur_jax.datasets import catalog, files, pairs

_SLICE = re.compile(r'(\w+)\[(?:(\d+)%)?:(?:(\d+)%)?\]')


class Source(Protocol):
  """Examples by index; reading one twice gives the same result."""

  paired: bool
  aligned: bool

  @property
  def files(self) -> dict[str, pathlib.Path]:
    """The files that examples are read from, by names that moving them does not change."""

  def __len__(self) -> int:
    """The number of examples."""

  def __getitem__(self, index: int) -> Example:
    """{'name', 'sharp', and 'blurred' if `paired`}."""

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of the picture to restore, without reading pixels if possible."""


def open(
  name: str,
  split: str,
  *,
  directory: str | os.PathLike | None = None,
  seed: int = 0,
  unaligned: bool = False,
) -> Source:
  """The source with that name.

  Args:
    name: see the table above.
    split: train or test, for folders also all; or a part of one, such as train[80%:].
    directory: where the pictures or the prepared data are.
    seed: for procedural pictures.
    unaligned: the caller does not compare blurred with sharp pixel by pixel.

  Raises:
    ValueError: an unknown name or split, pictures that do not pair up, or a source that is not
      aligned, without `unaligned`.
    FileNotFoundError: missing data; the message says where to get it.
  """
  if name not in SOURCES:
    near = difflib.get_close_matches(name, SOURCES, 1)
    hint = f'; did you mean {near[0]}?' if near else ''
    raise ValueError(f'no source {name!r} (known: {", ".join(SOURCES)}){hint}')
  splits = (*SPLITS, 'all') if name in ('pairs', 'sharp') else SPLITS
  sliced = _SLICE.fullmatch(split)
  whole, *percents = sliced.groups() if sliced else (split, None, None)
  if whole not in splits:
    raise ValueError(
      f'source {name!r} has no split {split!r} (known: {", ".join(splits)}, and parts such as'
      f' {splits[0]}[:80%])'
    )
  published = catalog.SETS.get(name.partition('/')[0])
  if published and published.unaligned and not unaligned:
    raise ValueError(
      f'source {name!r} is not aligned ({published.unaligned}): it cannot be trained on or scored'
      f' as pairs; use it for unpaired training and for scores without reference'
    )
  found = SOURCES[name](whole, directory and pathlib.Path(directory).expanduser(), seed)
  return _part(found, split, *percents) if sliced else found


@dataclasses.dataclass(frozen=True)
class Part:
  """The examples of a source from `start` up to, but not including, `stop`."""

  source: Source
  start: int
  stop: int

  @property
  def paired(self) -> bool:
    return self.source.paired

  @property
  def aligned(self) -> bool:
    return self.source.aligned

  @property
  def files(self) -> dict[str, pathlib.Path]:
    """The files of the whole source."""
    return self.source.files

  def __len__(self) -> int:
    return self.stop - self.start

  def __getitem__(self, index: int) -> Example:
    return self.source[self._place(index)]

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of a picture, as the source has it."""
    return self.source.size(self._place(index))

  def _place(self, index: int) -> int:
    if not 0 <= index < len(self):
      raise IndexError(f'no example {index}: there are {len(self)}')
    return self.start + index


@dataclasses.dataclass(frozen=True)
class Sharp:
  """Files of sharp pictures."""

  pictures: tuple[tuple[str, pathlib.Path], ...]
  paired = False
  aligned = True

  @property
  def files(self) -> dict[str, pathlib.Path]:
    """Name of a picture -> its file."""
    return dict(self.pictures)

  def __len__(self) -> int:
    return len(self.pictures)

  def __getitem__(self, index: int) -> Example:
    name, file = self.pictures[index]
    return {'name': name, 'sharp': files.read(file)}

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of a picture, from its header."""
    return files.size(self.pictures[index][1])


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Files of blurred and sharp pictures."""

  pictures: tuple[pairs.Pair, ...]
  paired = True
  aligned = True

  @property
  def files(self) -> dict[str, pathlib.Path]:
    """Name of a pair and which half -> its file."""
    return {
      f'{pair.name} {kind}': getattr(pair, kind)
      for pair in self.pictures
      for kind in ('blurred', 'sharp')
    }

  def __len__(self) -> int:
    return len(self.pictures)

  def __getitem__(self, index: int) -> Example:
    pair = self.pictures[index]
    blurred, sharp = files.read(pair.blurred), files.read(pair.sharp)
    if blurred.shape != sharp.shape:
      raise pairs.unequal(pair, blurred.shape, sharp.shape)
    return {'name': pair.name, 'sharp': sharp, 'blurred': blurred}

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of a picture, from its header."""
    return files.size(self.pictures[index].sharp)


@dataclasses.dataclass(frozen=True)
class Separately:
  """Applies host ops to each picture of an unaligned example, with its own random values.

  `pipeline.batches(source, Separately(ops.parse('crop(256)')), ...)`: a window of the sharp picture
  and an unrelated one of the blurred picture, whatever their sizes.
  """

  ops: Callable[[Example, np.random.Generator], Example]

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    alone = {key: {'sharp': example[key]} for key in ('sharp', 'blurred')}
    return {**example, **{key: self.ops(one, rng)['sharp'] for key, one in alone.items()}}


DIGEST = 'SHA-256 over names, sizes, and the first and last 4 KiB of all files'
"""What `digest` computes; for files of any size, it takes as long as opening them."""


def digest(source: Source) -> str:
  """A fingerprint of the files of a source, see `DIGEST`; '' for one without files."""
  found = source.files
  with futures.ThreadPoolExecutor() as pool:
    ends = list(pool.map(_ends, found.values()))
  total = hashlib.sha256()
  for name, end in zip(found, ends, strict=True):
    total.update(json.dumps([name, *end]).encode())
  return total.hexdigest() if found else ''


def _ends(path: pathlib.Path, most: int = 4096) -> tuple[int, str]:
  """The size of a file, and a digest of its first and last `most` bytes."""
  size = path.stat().st_size
  with path.open('rb') as file:
    head = file.read(most)
    file.seek(max(size - most, 0))
    return size, hashlib.sha256(head + file.read(most)).hexdigest()


def hold_out(source: Source, share: float) -> tuple[Source, Source | None]:
  """A source without its last examples, and those: `share` of them, in whole examples.

  Neighbors by name are often of one scene, so the end is held out, not a random sample. The second
  is None if that share is less than half an example.
  """
  if not 0 <= share < 1:
    raise ValueError(f'data.validation must be at least 0 and below 1, not {share}')
  count = len(source)
  kept = count - round(count * share)
  return (source, None) if kept == count else (Part(source, 0, kept), Part(source, kept, count))


def _part(source: Source, split: str, begin: str | None, end: str | None) -> Part:
  """The part of a source that `split` names, rounded to whole examples."""
  start, stop = (round(len(source) * int(percent) / 100) for percent in (begin or 0, end or 100))
  if not 0 <= start < stop <= len(source):
    raise ValueError(f'split {split!r} has none of {len(source)} pictures')
  return Part(source, start, stop)


def _builtin(split: str, directory: pathlib.Path | None, seed: int) -> Builtin:
  if directory:
    raise ValueError(
      f"source 'builtin' takes no directory, but got {directory}; use 'sharp' or 'pairs'"
    )
  return Builtin(split, seed)


def _sharp(split: str, directory: pathlib.Path | None, seed: int) -> Sharp:
  found = folders.find('sharp', split, directory, folders.pictures)
  for _, file in found:
    files.size(file)  # fails at the start, not in mid-training, if it is not a picture
  return Sharp(tuple(found))


def _pairs(split: str, directory: pathlib.Path | None, seed: int) -> Pairs:
  found = [pair for _, pair in folders.find('pairs', split, directory, folders.matched)]
  pairs.check_sizes(found)
  pairs.check_order(found)
  return Pairs(tuple(found))


def _prepared(
  name: str, split: str, directory: pathlib.Path | None, seed: int
) -> prepared.Prepared | prepared.Unpaired:
  return prepared.open(name, split, directory)


SOURCES: dict[str, Callable[[str, pathlib.Path | None, int], Source]] = {
  'builtin': _builtin,
  'pairs': _pairs,
  'sharp': _sharp,
  **{
    name: functools.partial(_prepared, name)
    for published in catalog.SETS.values()
    for name in catalog.names(published)
  },
}
