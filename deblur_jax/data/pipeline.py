"""Batches on the host: `batches(source, ops, ...)[t]` is the local batch of step t.

A pure function of (seed, t), so that a run resumes from any step without iterator state. Together,
all processes hold the batches that a single process would have, so that a run can resume on a
different number of machines. Each process reads only its own rows. Nothing here calls jax.
"""

import bisect
from collections.abc import Iterator, Sequence
import functools
import os
from typing import Any

import grain
import numpy as np

from deblur_jax.data import ops as ops_lib
from deblur_jax.data.sources import Source


def batches(
  source: Source,
  ops: ops_lib.Op,
  *,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.MapDataset:
  """Endless batches: {'name': str `[b]`, 'sharp': uint8 `[b h w 3]`, 'blurred' if paired}.

  Every epoch has its own order and its own random values. A batch may span two epochs, and a source
  may be smaller than a batch.

  Args:
    source: pictures.
    ops: applied to each example with a random generator; see `ops.parse`.
    batch_size: pictures per step in this process.
    seed: for the order and the random values.
    process_index: of this process, from 0.
    process_count: processes that share each batch of `batch_size * process_count` pictures.

  Raises:
    ValueError: a batch size below 1; on reading, pictures of different sizes in a batch.
  """
  if batch_size < 1:
    raise ValueError(f'batch_size must be at least 1 in each process, not {batch_size}')
  # Runs with consecutive seeds should have nothing in common.
  state = int(np.random.SeedSequence([seed, 0]).generate_state(1)[0] >> 1)
  examples = (
    _Shuffle(grain.MapDataset.source(source), state).repeat(None).seed(state).random_map(ops)
  )
  mine = _Rows(examples, batch_size, process_index, process_count)
  return mine.batch(batch_size, drop_remainder=True, batch_fn=_stack)


def in_phases(parts: Sequence[tuple[int, grain.MapDataset]]) -> grain.MapDataset:
  """The given numbers of batches of each dataset in turn; the last one is endless.

  For training in which pictures grow and batches shrink.
  """
  return _Phases([dataset for _, dataset in parts], np.cumsum([steps for steps, _ in parts])[:-1])


def cores() -> int:
  """The CPU cores that this process may use: those of its job, not of the machine."""
  affinity = getattr(os, 'sched_getaffinity', None)  # not on macOS
  count = len(affinity(0)) if affinity else os.cpu_count() or 1
  # Slurm does not bind processes to cores on every cluster.
  return min(count, int(os.environ.get('SLURM_CPUS_PER_TASK', count)))


def iterate(
  dataset: grain.MapDataset, start: int = 0, *, num_threads: int | None = None, prefetch: int = 8
) -> Iterator[dict[str, np.ndarray]]:
  """Batches `dataset[start]`, `dataset[start + 1]`, ..., prepared ahead of time by threads.

  Args:
    dataset: from `batches`.
    start: the first step, from 0.
    num_threads: threads that read and augment (decoding pictures releases Python's lock); by
      default as many as the job has `cores`, from 4 to 16.
    prefetch: batches to prepare ahead.
  """
  num_threads = num_threads or min(max(cores(), 4), 16)
  options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
  return iter(dataset[start:].to_iter_dataset(options))


class _Shuffle(grain.MapDataset):
  """Every epoch in its own order.

  Replaces `MapDataset.shuffle`, which permutes a domain of 2^16 for every index: 0.5 ms an example
  for 128 pictures, 13 ms for 4.
  """

  def __init__(self, parent: grain.MapDataset, seed: int):
    super().__init__(parent)
    self._count = len(parent)
    self._order = functools.lru_cache(maxsize=8)(
      lambda epoch: np.random.default_rng([seed, epoch]).permutation(self._count)
    )

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index):
    if isinstance(index, slice):
      return self.slice(index)
    epoch, place = divmod(index, self._count)
    return self._parent[epoch * self._count + int(self._order(epoch)[place])]


class _Rows(grain.MapDataset):
  """This process's rows of each batch: every `processes`-th `count` examples, from `index` on."""

  def __init__(self, parent: grain.MapDataset, count: int, index: int, processes: int):
    super().__init__(parent)
    self._count, self._index, self._processes = count, index, processes

  def __len__(self) -> int:
    return len(self._parent) // self._processes

  def __getitem__(self, index):
    if isinstance(index, slice):
      return self.slice(index)
    batch, row = divmod(index, self._count)
    return self._parent[(batch * self._processes + self._index) * self._count + row]


class _Phases(grain.MapDataset):
  """Datasets in sequence, each from its beginning; `starts` are those after the first."""

  def __init__(self, parents: Sequence[grain.MapDataset], starts: np.ndarray):
    super().__init__(parents)
    self._datasets, self._starts = parents, [0, *map(int, starts)]

  def __len__(self) -> int:
    return len(self._datasets[-1])

  def __getitem__(self, index):
    if isinstance(index, slice):
      return self.slice(index)
    phase = bisect.bisect_right(self._starts, index) - 1
    return self._datasets[phase][index - self._starts[phase]]


def _stack(examples: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
  first = examples[0]['sharp'].shape
  for example in examples:
    shape = example['sharp'].shape
    if shape != first:
      raise ValueError(
        f'pictures of different sizes in a batch: {examples[0]["name"]} is {first[1]}x{first[0]},'
        f' {example["name"]} is {shape[1]}x{shape[0]}; end data.ops with a crop, such as crop(256)'
      )
  return {key: np.stack([example[key] for example in examples]) for key in examples[0]}
