"""Several sources as one: pairs together with sharp pictures that are blurred on the device."""

from collections.abc import Mapping
import dataclasses
import fractions
import math
import pathlib
from typing import Any

import numpy as np

from deblur_jax.data import sources


@dataclasses.dataclass(frozen=True)
class Mixed:
  """Parts that each contribute a share of an epoch.

  An epoch is long enough to show every picture once; parts with a larger share repeat theirs. If
  any part is paired, every example has 'blurred', and 'paired' (bool) says whether it is a pair: if
  not, 'blurred' is only a placeholder.
  """

  parts: tuple[sources.Source, ...]
  shares: tuple[float, ...]

  @property
  def paired(self) -> bool:
    return any(part.paired for part in self.parts)

  @property
  def aligned(self) -> bool:
    return all(part.aligned for part in self.parts)

  @property
  def files(self) -> dict[str, pathlib.Path]:
    """The files of all parts: number of the part and name -> file."""
    parts = enumerate(part.files for part in self.parts)
    return {f'{number}: {name}': file for number, found in parts for name, file in found.items()}

  @property
  def counts(self) -> tuple[int, ...]:
    """Examples of each part in an epoch."""
    # Exactly as written: in floats, .3 and .1 are not quite three to one.
    shares = [fractions.Fraction(str(share)) for share in self.shares]
    epoch = max(len(part) / share for part, share in zip(self.parts, shares, strict=True))
    return tuple(math.ceil(share * epoch) for share in shares)

  def __len__(self) -> int:
    return sum(self.counts)

  def __getitem__(self, index: int) -> sources.Example:
    part, place = self._find(index)
    example = part[place]
    if self.paired:
      example = {'blurred': example['sharp'], **example, 'paired': np.bool_(part.paired)}
    return example

  def size(self, index: int) -> tuple[int, int]:
    """`(height, width)` of a picture."""
    part, place = self._find(index)
    return part.size(place)

  def _find(self, index: int) -> tuple[sources.Source, int]:
    if index >= 0:
      for part, count in zip(self.parts, self.counts, strict=True):
        if index < count:
          return part, index % len(part)
        index -= count
    raise IndexError(f'no such picture: there are {len(self)}')


def open(parts: Mapping[str, Mapping[str, Any]], split: str) -> Mixed:
  """The sources {name: {source, directory, share}} as one.

  Raises ValueError for a share that is not above 0, and as `sources.open` does.
  """
  for name, part in parts.items():
    if not part['share'] > 0:
      raise ValueError(f'the share of {name!r} in the mixture must be above 0, not {part["share"]}')
  opened = [
    sources.open(part['source'], split, directory=part['directory'] or None)
    for part in parts.values()
  ]
  return Mixed(tuple(opened), tuple(part['share'] for part in parts.values()))
