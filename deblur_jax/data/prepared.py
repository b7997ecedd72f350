"""Published data sets as prepared by `tools/prepare.py`: ArrayRecord files, read through TFDS."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from deblur_jax.data.ops import Example
from deblur_jax.datasets import files


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A split that a TFDS builder has written as ArrayRecord; pictures are stored encoded."""

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

  Example i has the i-th of each; the shorter split repeats.
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
      raise IndexError(f'no example {index}: there are {len(self)}')
    both = {key: self._record(key, index) for key in ('sharp', 'blurred')}
    names = {key: record['name'].decode() for key, record in both.items()}
    return {
      'name': f'{names["blurred"]} and {names["sharp"]}',
      **{key: _decoded(both[key], 'picture', f'{name} ({key})') for key, name in names.items()},
    }

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of the blurred picture, from its header."""
    record = self._record('blurred', index)
    return files.encoded_size(record['picture'], record['name'].decode())

  def _record(self, key: str, index: int) -> dict[str, bytes]:
    records = getattr(self, key)
    return records[index % len(records)]


def open(name: str, split: str, directory: pathlib.Path | None) -> Prepared | Unpaired:
  """A split of a published set, `set` or `set/kind`, in a TFDS data directory.

  Raises FileNotFoundError, with what to do, if it is not prepared there.
  """
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
    return builder.as_data_source(split, decoders=encoded)

  if 'picture' in pictures:
    return Unpaired(records(f'{split}_sharp'), records(f'{split}_blurred'))
  return Prepared(records(split), aligned=not published.unaligned)


def _record_files(records: Any) -> dict[str, pathlib.Path]:
  folder = pathlib.Path(records.dataset_info.data_dir)
  return {path.name: path for path in sorted(folder.glob('*.array_record*'))}


def _decoded(record: dict[str, bytes], key: str, name: str) -> np.ndarray:
  return files.decode(record[key], f'{name} of the prepared data')
