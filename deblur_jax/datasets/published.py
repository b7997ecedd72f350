"""What a published data set is, and how a folder of it becomes checked examples.

Each set has its own module with only what is specific to it: where it comes from, and `read`, which
finds its pictures in a folder laid out as its authors publish it. `catalog.SETS` lists the sets,
`builders` makes TFDS builders of them.
"""

from collections.abc import Callable, Mapping
import dataclasses
import os
import pathlib
from typing import NamedTuple

from deblur_jax.datasets import files, pairs

SPLITS = ('train', 'test')


class Single(NamedTuple):
  """A picture of a set whose sharp and blurred pictures are unrelated."""

  name: str
  picture: pathlib.Path


class Kind(NamedTuple):
  """One of the forms in which a set is published; a TFDS config."""

  description: str
  folder: str
  """Glob, within the set's folder, that only this form matches."""


Examples = dict[str, list[pairs.Pair] | list[Single]]
"""Split -> pairs; for an unpaired set `{train,test}_{sharp,blurred}` -> single pictures."""


@dataclasses.dataclass(frozen=True)
class Published:
  """A published data set."""

  name: str
  title: str
  description: str
  homepage: str
  license: str
  citation: str
  download: str
  """What to download from where, as the end of an error."""
  folder: str
  """What its archive unpacks to."""
  layout: str
  """What that folder contains."""
  read: Callable[[pathlib.Path, str], Examples]
  """From a folder and a kind; raises FileNotFoundError or pairs.WrongPairs, in one line."""
  kinds: Mapping[str, Kind] = dataclasses.field(default_factory=dict)
  unaligned: str = ''
  """Why the halves of a pair do not match pixel by pixel; empty if they do."""
  example: type[pairs.Pair] | type[Single] = pairs.Pair
  doubt: Callable[[Examples, str], str] = lambda examples, kind: ''
  """From the examples and the kind: a one-line warning about anything suspicious, or ''."""

  def kinds_in(self, directory: str | os.PathLike) -> list[str]:
    """The kinds that a folder contains."""
    directory = pathlib.Path(directory)
    return [name for name, kind in self.kinds.items() if any(directory.glob(kind.folder))]


def scan(published: Published, directory: str | os.PathLike, kind: str = '') -> Examples:
  """Examples of each split in a folder laid out as published, checked.

  If pairs match pixel by pixel, their sizes must too, and a sample must show the same scenes.

  Raises:
    FileNotFoundError: something is missing or empty; says what was expected and what was found.
    pairs.WrongPairs: pictures without a partner, of unequal sizes, or of different scenes.
    files.UnreadablePicture: a file that is not a picture.
  """
  directory = pathlib.Path(directory)
  if not directory.is_dir():
    raise FileNotFoundError(f'{directory}: no such folder; {published.download}')
  try:
    examples = published.read(directory, kind)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'{error}; {published.title} is laid out as {published.layout}; {published.download}'
    ) from None
  for found in examples.values():
    if published.unaligned:
      for example in found:
        for file in example[1:]:
          files.size(file)
    else:
      pairs.check_sizes(found)
      pairs.check_order(found)
  return examples
