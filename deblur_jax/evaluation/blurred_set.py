"""Evaluation sets: pictures, with blur synthesized for sharp ones, and how to score them."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from deblur_jax.blur import synthesis
from deblur_jax.blur.synthesis import MIXED
from deblur_jax.data import ops, sources
from deblur_jax.evaluation import protocols
from deblur_jax.evaluation.protocols import Scores, as_uint8
from deblur_jax.metrics import parse as parse_metrics
from deblur_jax.types import as_float

Example = dict[str, Any]


class Blurred:
  """An evaluation set: pictures, synthesized blur for sharp ones, and how to score them.

  Synthesized blur is the same in every run.

  Args:
    source: pictures; pairs are used unchanged.
    blur: the mix, see `blur.synthesis`.
    limit: use only this many pictures, spread over the set; 0 for all.
    draws: how many times each sharp picture occurs, each time with another blur.
    crop: use only the central square of this side; 0 for whole pictures.
    protocol: the name of one of `evaluation.protocols`.
    learned: additional metrics, as from `metrics.parse` and `protocols.load_learned`.

  Raises ValueError if the source is not aligned and the protocol compares pixels.
  """

  def __init__(
    self,
    source: Any,
    blur: str,
    *,
    limit: int = 0,
    draws: int = 1,
    crop: int = 0,
    protocol: str = 'plain',
    learned: Mapping[str, protocols.Metric] | None = None,
  ):
    if protocols.find(protocol).reference and not getattr(source, 'aligned', True):
      raise ValueError(
        f'protocol {protocol!r} compares pixels, but the blurred and sharp pictures of this set '
        "are not aligned: use protocol 'sharpness', which needs no sharp ones"
      )
    self._source = source
    count = min(limit or len(source), len(source))
    draws = 1 if source.paired else draws
    self._indices = [i * len(source) // count for i in range(count) for _ in range(draws)]
    self._draws, self._crop = draws, crop
    self._degrade = None if source.paired else synthesis.parse(blur)
    self._blur = jax.jit(self._blur_one)
    self.protocol, self._learned = protocol, learned

  def __len__(self) -> int:
    return len(self._indices)

  @property
  def source(self) -> Any:
    """The source of the pictures."""
    return self._source

  def size(self, index: int) -> tuple[int, int]:
    """Height and width."""
    return (self._crop, self._crop) if self._crop else self._source.size(self._indices[index])

  def __getitem__(self, index: int) -> Example:
    example = self._source[self._indices[index]]
    if self._crop:
      example = ops.CenterCrop(self._crop)(example, np.random.default_rng())
    if self._degrade is None:
      return example
    # Seeded by the picture's index in the whole source, so that a limit changes no blur.
    draw = self._indices[index] * self._draws + index % self._draws
    key = jax.random.fold_in(jax.random.key(0), draw)
    blurred, places = self._blur(jax.random.fold_in(key, 0), as_float(example['sharp']))
    name = example['name'] + (f' {index % self._draws + 1}' if self._draws > 1 else '')
    psfs = [drawn.psf for drawn in self._degrade.describe(places) if drawn.psf is not None]
    known = {'psf': psfs[0]} if len(psfs) == 1 else {}
    return {**example, 'name': name, 'blurred': as_uint8(blurred), **known}

  def _blur_one(self, key, sharp):
    """`sharp` `[h w 3]` blurred, and the random parameters of the blur."""
    assert self._degrade is not None  # only sharp pictures are blurred
    places = self._degrade.draw(key)
    several = jax.tree.map(lambda leaf: leaf[None], places)
    return self._degrade.apply(several, sharp[None])[0], places

  def score(self, restored: np.ndarray, example: Example) -> Scores:
    """Every metric of this set for one restored picture, uint8 or float `[h w 3]`."""
    protocol = protocols.find(self.protocol)
    return protocols.score(restored, example['sharp'], protocol, self._learned)


def open_set(
  source: str,
  split: str = 'test',
  *,
  directory: str | None = None,
  blur: str = MIXED,
  limit: int = 0,
  draws: int = 1,
  crop: int = 0,
  protocol: str = '',
  metrics: str = '',
  lpips: str = '',
  dists: str = '',
) -> Blurred:
  """The evaluation set with the settings of an entry of `config.evaluate`.

  Scored by the source's default protocol if none is given, and also by `metrics`, see
  `metrics.parse`. `lpips` and `dists` are weights files; without them, these metrics are omitted.
  Raises ValueError if `metrics` are given and there are no sharp pictures.
  """
  protocol = protocol or protocols.for_source(source)
  unaligned = not protocols.find(protocol).reference
  if metrics and unaligned:
    raise ValueError(f'protocol {protocol!r} has no sharp pictures to compare with: omit {metrics}')
  return Blurred(
    sources.open(source, split, directory=directory or None, unaligned=unaligned),
    blur,
    limit=limit,
    draws=draws,
    crop=crop,
    protocol=protocol,
    learned=parse_metrics(metrics) | protocols.load_learned({'lpips': lpips, 'dists': dists}),
  )


def open_sets(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Blurred]:
  """The evaluation sets of `config.evaluate`, which has the arguments of `open_set` by name."""
  return {name: open_set(**one) for name, one in settings.items()}
