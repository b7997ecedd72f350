"""Sources of pictures: `open(name, split)` gives examples by index.

| name | pictures | directory |
|---|---|---|
| `builtin` | photographs of scikit-image and dead leaves; sharp | none |
| `sharp` | a folder of sharp pictures | any layout, or with train/ and test/ |
| `pairs` | blurred and sharp, matched by name | blur/ and sharp/, or both in train/ and in test/ |
| `gopro/blur`, `gopro/blur_gamma` | GoPro, see `tools/prepare.py` | TFDS's data directory |

An example is {'name': str, 'sharp': uint8 `[h w 3]`} with 'blurred' of the same shape where
`paired`. Splits are 'train' and 'test', and for folders 'all'. A folder without train/ and test/
holds out a tenth of its pictures (at least one) for 'test', chosen by a hash of their names, so
that a picture stays on its side when others are added.
"""

from collections.abc import Callable
import dataclasses
import difflib
import functools
import hashlib
import os
import pathlib
from typing import Any, Protocol

from deblur_jax.data.builtin import Builtin
from deblur_jax.datasets import files, pairs

Example = dict[str, Any]
SPLITS = ('train', 'test')


class Source(Protocol):
  """Examples by index; reading one twice gives the same."""

  paired: bool

  def __len__(self) -> int:
    """How many there are."""

  def __getitem__(self, index: int) -> Example:
    """{'name', 'sharp', and 'blurred' where `paired`}."""

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)`, without reading pixels where that can be."""


def open(
  name: str, split: str, *, directory: str | os.PathLike | None = None, seed: int = 0
) -> Source:
  """The source of that name; `seed` is that of procedural pictures.

  Raises:
    ValueError: an unknown name or split, or pictures that do not pair up.
    FileNotFoundError: data that is not there; the message says where to get it.
  """
  if name not in SOURCES:
    near = difflib.get_close_matches(name, SOURCES, 1)
    hint = f'; did you mean {near[0]}?' if near else ''
    raise ValueError(f'no source {name!r} (known: {", ".join(SOURCES)}){hint}')
  splits = (*SPLITS, 'all') if name in ('pairs', 'sharp') else SPLITS
  if split not in splits:
    raise ValueError(f'source {name!r} has no split {split!r} (known: {", ".join(splits)})')
  return SOURCES[name](split, directory and pathlib.Path(directory).expanduser(), seed)


@dataclasses.dataclass(frozen=True)
class Sharp:
  """Files of sharp pictures."""

  pictures: tuple[tuple[str, pathlib.Path], ...]
  paired = False

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
class Prepared:
  """A split that a TFDS builder has written as ArrayRecord; pictures come still encoded."""

  records: Any
  paired = True

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> Example:
    record = self.records[index]
    name = record['name'].decode()
    sharp, blurred = (
      files.decode(record[key], f'{name} ({key}) of the prepared data')
      for key in ('sharp', 'blurred')
    )
    return {'name': name, 'sharp': sharp, 'blurred': blurred}

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of a picture, from its header."""
    record = self.records[index]
    return files.encoded_size(record['sharp'], record['name'].decode())


def _builtin(split: str, directory: pathlib.Path | None, seed: int) -> Builtin:
  if directory:
    raise ValueError(
      f"source 'builtin' takes no directory, got {directory}; take 'sharp' or 'pairs'"
    )
  return Builtin(split, seed)


def _sharp(split: str, directory: pathlib.Path | None, seed: int) -> Sharp:
  found = _in_folders('sharp', split, directory, _pictures)
  for _, file in found:
    files.size(file)  # a file that is no picture shows at the start, not in mid-training
  return Sharp(tuple(found))


def _pairs(split: str, directory: pathlib.Path | None, seed: int) -> Pairs:
  found = [pair for _, pair in _in_folders('pairs', split, directory, _matched)]
  pairs.check_sizes(found)
  pairs.check_order(found)
  return Pairs(tuple(found))


def _pictures(folder: pathlib.Path) -> list[tuple[str, pathlib.Path]]:
  found = files.find(folder)
  if not found:
    kinds = ', '.join(files.EXTENSIONS)
    raise FileNotFoundError(f'{folder}: no pictures in it ({kinds}), {pairs.listed(folder)}')
  return list(found.items())


def _matched(folder: pathlib.Path) -> list[tuple[str, pairs.Pair]]:
  return [(pair.name, pair) for pair in pairs.match(folder / 'blur', folder / 'sharp')]


def _in_folders(
  name: str, split: str, directory: pathlib.Path | None, contents: Callable[[pathlib.Path], list]
) -> list[tuple[str, Any]]:
  """(name, contents) of a split: of train/ or test/ where there is either, else of a hold-out."""
  if not directory:
    raise ValueError(f'source {name!r} needs a directory: --config.data.directory=DIR')
  if not directory.is_dir():
    raise FileNotFoundError(f'{directory}: no such folder; source {name!r} reads pictures from it')
  parts = [directory / part for part in SPLITS if (directory / part).is_dir()]
  if not parts:
    return _side(contents(directory), split, directory)
  if split == 'all':
    return [(f'{part.name}/{n}', inside) for part in parts for n, inside in contents(part)]
  if directory / split not in parts:
    raise FileNotFoundError(f'{directory}: no {split}/ beside {parts[0].name}/; add it')
  return contents(directory / split)


def _side(found: list[tuple[str, Any]], split: str, directory: pathlib.Path) -> list:
  """Those on one side of a folder's hold-out, in order of name."""
  if split == 'all':
    return found
  if len(found) < 2:
    raise ValueError(
      f'{directory}: one picture cannot be parted into train and test; add more, or make train/'
      f' and test/'
    )
  by_hash = sorted((name for name, _ in found), key=_hash)
  held_out = set(by_hash[: max(1, round(len(found) / 10))])
  return [one for one in found if (one[0] in held_out) == (split == 'test')]


def _hash(name: str) -> bytes:
  return hashlib.sha256(name.encode()).digest()


def _gopro(config: str, split: str, directory: pathlib.Path | None, seed: int) -> Prepared:
  import tensorflow_datasets as tfds  # takes a second, and only this source needs it

  from deblur_jax.datasets import gopro

  builder = gopro.Gopro(config=config, data_dir=directory)
  if not pathlib.Path(builder.data_dir).is_dir():
    to = f' --to {directory}' if directory else ''
    raise FileNotFoundError(
      f'{builder.data_dir}: GoPro is not prepared there; {gopro.DOWNLOAD}, then: python'
      f' tools/prepare.py gopro --from GOPRO_Large{to} --config {config}'
    )
  encoded = tfds.decode.SkipDecoding()
  return Prepared(builder.as_data_source(split, decoders={'blurred': encoded, 'sharp': encoded}))


SOURCES: dict[str, Callable[[str, pathlib.Path | None, int], Source]] = {
  'builtin': _builtin,
  'pairs': _pairs,
  'sharp': _sharp,
  'gopro/blur': functools.partial(_gopro, 'blur'),
  'gopro/blur_gamma': functools.partial(_gopro, 'blur_gamma'),
}
