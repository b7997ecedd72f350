"""Sources of pictures: `open(name, split)` gives examples by index.

| name | pictures | directory |
|---|---|---|
| `builtin` | photographs of scikit-image and dead leaves; sharp | none |
| `sharp` | a folder of sharp pictures | any layout, or with train/ and test/ |
| `pairs` | blurred and sharp, matched by name | blur/ or blur_gamma/ and sharp/, in scenes or not |
| `gopro/blur`, `gopro/blur_gamma` | GoPro | TFDS's data directory |
| `hide` | HIDE | the same |
| `realblur/j`, `realblur/r` | RealBlur | the same |
| `mcblur/rhm`, `mcblur/uhdm`, `mcblur/lsd` | MC-Blur | the same |
| `kaggle/motion`, `kaggle/defocus` | Kaggle's blur dataset; not aligned | the same |
| `unpaired` | sharp pictures, and blurred ones of other scenes; not aligned | the same |

The published sets from `gopro` on are prepared by `tools/prepare.py`.

An example is {'name': str, 'sharp': uint8 `[h w 3]`}, with 'blurred' of the same kind where
`paired`. Where `aligned`, both have the same shape and agree pixel by pixel; else each is a picture
of its own, in size too, and goes through `Apart`.

Splits are 'train' and 'test', and for folders 'all'. What a folder holds may lie in train/ and in
test/, in capitals or not. A folder without either holds out a tenth of its pictures (at least one)
for 'test', chosen by a hash of their names, so that a picture stays on its side when others are
added. Of any split, 'train[:80%]' is a part, as in TFDS, and 'train[80%:]' the rest, to validate
on.
"""

from collections.abc import Callable, Mapping
from concurrent import futures
import dataclasses
import difflib
import functools
import hashlib
import json
import os
import pathlib
import re
from typing import Any, Protocol

import numpy as np

from deblur_jax.data.builtin import Builtin
from deblur_jax.datasets import catalog, files, pairs

Example = dict[str, Any]
SPLITS = ('train', 'test')
_SLICE = re.compile(r'(\w+)\[(?:(\d+)%)?:(?:(\d+)%)?\]')


class Source(Protocol):
  """Examples by index; reading one twice gives the same."""

  @property
  def paired(self) -> bool:
    """Whether examples have their blurred half."""
    ...

  @property
  def aligned(self) -> bool:
    """Whether both halves agree pixel by pixel."""
    ...

  @property
  def files(self) -> Mapping[str, pathlib.Path]:
    """The files that examples are read from, by a name that moving them does not change."""
    ...

  def __len__(self) -> int:
    """How many there are."""
    ...

  def __getitem__(self, index: int) -> Example:
    """{'name', 'sharp', and 'blurred' where `paired`}."""
    ...

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of the picture to restore, without reading pixels where that can be."""
    ...


def open(
  name: str,
  split: str,
  *,
  directory: str | os.PathLike | None = None,
  seed: int = 0,
  unaligned: bool = False,
) -> Source:
  """The source of that name.

  Args:
    name: see the table above.
    split: train or test, of folders also all; or a part of one, such as train[80%:].
    directory: where the pictures are, or the prepared data.
    seed: of procedural pictures.
    unaligned: the caller does not compare blurred with sharp pixel by pixel.

  Raises:
    ValueError: an unknown name or split, pictures that do not pair up, or a source that is not
      aligned where that matters.
    FileNotFoundError: data that is not there; the message says where to get it.
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
      f'source {name!r} is not aligned ({published.unaligned}): it cannot be scored against its'
      f' sharp pictures nor trained on as pairs; it is for unpaired training and for scores without'
      f' reference'
    )
  found = SOURCES[name](whole, pathlib.Path(directory).expanduser() if directory else None, seed)
  return _part(found, split, *percents) if sliced else found


@dataclasses.dataclass(frozen=True)
class Part:
  """The examples of a source from `start` on, until before `stop`."""

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
  def files(self) -> Mapping[str, pathlib.Path]:
    """Those of the whole source."""
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
      raise IndexError(f'example {index} of {len(self)}')
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
class Prepared:
  """A split that a TFDS builder has written as ArrayRecord; pictures come still encoded."""

  records: Any
  aligned: bool = True
  paired = True

  @property
  def files(self) -> dict[str, pathlib.Path]:
    """The prepared files, of every split."""
    return _record_files(self.records)

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> Example:
    record = self.records[index]
    name = record['name'].decode()
    return {
      'name': name,
      **{key: _decoded(record, key, f'{name} ({key})') for key in ('sharp', 'blurred')},
    }

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of the blurred picture, from its header."""
    record = self.records[index]
    return files.encoded_size(record['blurred'], record['name'].decode())


@dataclasses.dataclass(frozen=True)
class Unpaired:
  """Splits of sharp and of blurred pictures that a TFDS builder has written.

  Example i has the i-th of each, the fewer ones again and again.
  """

  sharp: Any
  blurred: Any
  paired = True
  aligned = False

  @property
  def files(self) -> dict[str, pathlib.Path]:
    """The prepared files, of every split."""
    return _record_files(self.sharp)

  def __len__(self) -> int:
    return max(len(self.sharp), len(self.blurred))

  def __getitem__(self, index: int) -> Example:
    if not 0 <= index < len(self):
      raise IndexError(f'example {index} of {len(self)}')
    both = {key: self._record(key, index) for key in ('sharp', 'blurred')}
    names = {key: record['name'].decode() for key, record in both.items()}
    return {
      'name': f'{names["blurred"]} beside {names["sharp"]}',
      **{key: _decoded(both[key], 'picture', f'{name} ({key})') for key, name in names.items()},
    }

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of the blurred picture, from its header."""
    record = self._record('blurred', index)
    return files.encoded_size(record['picture'], record['name'].decode())

  def _record(self, key: str, index: int) -> dict[str, bytes]:
    records = getattr(self, key)
    return records[index % len(records)]


@dataclasses.dataclass(frozen=True)
class Apart:
  """Host ops with draws of their own for each picture of an example that is not aligned.

  `pipeline.batches(source, Apart(ops.parse('crop(256)')), ...)`: a window of the sharp picture and
  an unrelated one of the blurred picture, whatever their sizes.
  """

  ops: Callable[[Example, np.random.Generator], Example]

  def __call__(self, example: Example, rng: np.random.Generator) -> Example:
    alone = {key: {'sharp': example[key]} for key in ('sharp', 'blurred')}
    return {**example, **{key: self.ops(one, rng)['sharp'] for key, one in alone.items()}}


DIGEST = 'SHA-256 over names, sizes, and the first and last 4 KiB of all files'
"""What `digest` computes: contents of any size in the time that opening the files takes."""


def digest(source: Source) -> str:
  """What tells the files of a source from all others, see `DIGEST`; '' for one without files."""
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
  """A source without its last examples, and these: `share` of them, in whole examples.

  Neighbors by name are often of one scene, so the end is parted off, not a random sample. Returns
  None for the second if that share is less than half an example.
  """
  if not 0 <= share < 1:
    raise ValueError(f'data.validation is {share}, and must be at least 0 and below 1')
  count = len(source)
  kept = count - round(count * share)
  return (source, None) if kept == count else (Part(source, 0, kept), Part(source, kept, count))


def _part(source: Source, split: str, begin: str | None, end: str | None) -> Part:
  """What `split` says of a source, in whole examples next to its percents."""
  start, stop = (round(len(source) * int(percent) / 100) for percent in (begin or 0, end or 100))
  if not 0 <= start < stop <= len(source):
    raise ValueError(f'split {split!r} holds none of {len(source)} pictures')
  return Part(source, start, stop)


def _record_files(records: Any) -> dict[str, pathlib.Path]:
  folder = pathlib.Path(records.dataset_info.data_dir)
  return {path.name: path for path in sorted(folder.glob('*.array_record*'))}


def _decoded(record: dict[str, bytes], key: str, name: str) -> np.ndarray:
  return files.decode(record[key], f'{name} of the prepared data')


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
  return list(pairs.pictures(folder).items())


def _matched(folder: pathlib.Path) -> list[tuple[str, pairs.Pair]]:
  """Pairs of blur/ (or blur_gamma/) and sharp/ in a folder, or in the folders of it, as GoPro's."""
  inside = [scene for scene in folder.iterdir() if scene.is_dir()]
  scenes = sorted(scene for scene in inside if _within(scene, 'sharp').is_dir())
  sharp = _within(folder, 'sharp')
  if scenes and not sharp.is_dir():
    found = [(f'{scene.name}/{name}', pair) for scene in scenes for name, pair in _matched(scene)]
    return [(name, pair._replace(name=name)) for name, pair in found]
  blurred = _within(folder, 'blur_gamma')
  if _within(folder, 'blur').is_dir() or not blurred.is_dir():
    blurred = _within(folder, 'blur')
  return [(pair.name, pair) for pair in pairs.match(blurred, sharp)]


def _within(folder: pathlib.Path, name: str) -> pathlib.Path:
  """The folder in `folder` of that name, in capitals or not; `folder / name` if there is none.

  Raises ValueError if there are several.
  """
  found = sorted(one for one in folder.iterdir() if one.name.lower() == name and one.is_dir())
  if len(found) > 1:
    both = ' and '.join(f'{one.name}/' for one in found)
    raise ValueError(f'{folder} holds {both}, and which is {name}/ is not clear: rename one')
  return found[0] if found else folder / name


def _in_folders(
  name: str, split: str, directory: pathlib.Path | None, contents: Callable[[pathlib.Path], list]
) -> list[tuple[str, Any]]:
  """(name, contents) of a split: of train/ or test/ where there is either, else of a hold-out."""
  if not directory:
    raise ValueError(f'source {name!r} needs a directory: --config.data.directory=DIR')
  if not directory.is_dir():
    raise FileNotFoundError(f'{directory}: no such folder; source {name!r} reads pictures from it')
  parts = {part: _within(directory, part) for part in SPLITS}
  parts = {part: folder for part, folder in parts.items() if folder.is_dir()}
  if not parts:
    return _side(contents(directory), split, directory)
  if split == 'all':
    return [(f'{part}/{n}', inside) for part, one in parts.items() for n, inside in contents(one)]
  if split not in parts:
    raise FileNotFoundError(f'{directory}: no {split}/ beside {next(iter(parts))}/; add it')
  return contents(parts[split])


def _side(found: list[tuple[str, Any]], split: str, directory: pathlib.Path) -> list:
  """Those on one side of a folder's hold-out, in order of name."""
  if split == 'all':
    return found
  try:
    test = files.held_out(name for name, _ in found)
  except ValueError as error:
    raise ValueError(f'{directory}: {error}, or make train/ and test/') from None
  return [one for one in found if (one[0] in test) == (split == 'test')]


def _prepared(
  name: str, split: str, directory: pathlib.Path | None, seed: int
) -> Prepared | Unpaired:
  import tensorflow_datasets as tfds  # takes a second, and only these sources need it

  from deblur_jax.datasets import builders

  builder = builders.make(name, directory)
  published = builder.published
  if not pathlib.Path(builder.data_dir).is_dir():
    _, _, kind = name.partition('/')
    to = f' --to {directory}' if directory else ''
    raise FileNotFoundError(
      f'{builder.data_dir}: {published.title} is not prepared there; {published.download}, then:'
      f' python tools/prepare.py {published.name} --from {published.folder}{to}'
      + (f' --config {kind}' if kind else '')
    )
  pictures = published.example._fields[1:]
  encoded = {picture: tfds.decode.SkipDecoding() for picture in pictures}

  def records(split: str) -> Any:
    # A decorator hides its arguments.
    return builder.as_data_source(split, decoders=encoded)  # pyright: ignore[reportCallIssue]

  if 'picture' in pictures:
    return Unpaired(records(f'{split}_sharp'), records(f'{split}_blurred'))
  return Prepared(records(split), aligned=not published.unaligned)


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
