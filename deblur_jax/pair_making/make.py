"""Paired data sets made from sharp pictures or from films, in the layout of GoPro.

  OUT/{train,test}/<sequence>/{blur,sharp}/<name>.png    pairs, 8 bit
  OUT/psf/<sequence>/<name>.npz                          kernels and camera paths of a pair
  OUT/manifest.jsonl                                     one line per pair: how it was made

A pair depends only on the recipe, the seed and its name: not on the order, on what else is made, or
on how often the work was interrupted.
"""

from collections.abc import Iterable, Iterator
from concurrent import futures
import dataclasses
import functools
import json
import os
import pathlib
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from deblur_jax import atomic, tiling
from deblur_jax.blur import frames, synthesis
from deblur_jax.datasets import files
from deblur_jax.pair_making.plan import Job, digest

Path = str | os.PathLike[str]
MANIFEST = 'manifest.jsonl'
READERS = 4
"""Threads that read and write; only one blurs at a time."""


class Outcome(NamedTuple):
  """What became of a job."""

  job: Job
  status: str
  """'made', 'skipped' (already there) or 'failed'."""
  message: str
  """The path of the blurred picture, or why it failed, in one line."""


class Made(NamedTuple):
  """A pair in memory: uint8 `[h w 3]`."""

  blurred: np.ndarray
  sharp: np.ndarray
  record: dict[str, Any]
  """How it was made, for the manifest."""
  arrays: dict[str, np.ndarray]
  """What is too large for the manifest."""


@dataclasses.dataclass(frozen=True)
class Mix:
  """Blurs by a mix of `blur.synthesis`; each name draws its own values by `seed`."""

  mix: str
  seed: int

  folder = 'blur'

  def __post_init__(self):
    synthesis.parse(self.mix)

  def __call__(self, job: Job) -> Made:
    """The pair of a picture; raises ValueError or OSError if it cannot be read."""
    sharp = files.read(job.sources[0])
    height, width = sharp.shape[:2]
    canvas = _canvas_side(height), _canvas_side(width)
    degrade = synthesis.parse(self.mix)
    with _device_lock:
      places = _draw(degrade, _key(self.seed, job.name))
      blurred = np.asarray(_degrade(degrade, places, tiling.pad(sharp, *canvas)))
    steps, arrays = [], {}
    for place, drawn in enumerate(degrade.describe(places)):
      large = {'psf': drawn.psf} if drawn.psf is not None else {}
      large |= {name: value for name, value in drawn.values.items() if value.ndim > 1}
      small = {name: _plain(v) for name, v in drawn.values.items() if name not in large}
      steps.append({'step': drawn.step, **small})
      arrays |= {f'{place}_{drawn.step}_{name}': value for name, value in large.items()}
    return Made(blurred[:height, :width], sharp, {'canvas': canvas, 'steps': steps}, arrays)


@dataclasses.dataclass(frozen=True)
class Film:
  """Averages the frames of a film; the middle one is the sharp picture."""

  frames: int
  response: str = 'linear'

  def __post_init__(self):
    if self.frames < 3 or self.frames % 2 == 0:
      raise ValueError(f'the number of frames must be odd and at least 3, not {self.frames}')
    if self.response not in frames.RESPONSES:
      known = ', '.join(frames.RESPONSES)
      raise ValueError(f'no camera response {self.response!r} (known: {known})')

  @property
  def folder(self) -> str:
    """'blur' or 'blur_gamma', as in GoPro."""
    return 'blur' if self.response == 'linear' else f'blur_{self.response}'

  def __call__(self, job: Job) -> Made:
    """The pair of a film; raises ValueError or OSError if it cannot be read."""
    film = [files.read(file) for file in job.sources]
    for file, frame in zip(job.sources, film, strict=True):
      if frame.shape != film[0].shape:
        raise ValueError(f'{file}: not the same size as {job.sources[0]}')
    with _device_lock:
      blurred = np.asarray(_average(np.stack(film), self.response))
    return Made(blurred, film[len(film) // 2], {}, {})


def pairs(jobs: Iterable[Job], output: Path, recipe: Mix | Film) -> Iterator[Outcome]:
  """Makes the pairs that are not yet in `output`; yields the outcome of each.

  A pair that cannot be made is reported, and the rest are made. Files appear complete or not at
  all, and an interrupted run is continued by calling this again. Raises ValueError if `output` has
  a pair of the same name that was made differently.
  """
  output, jobs = pathlib.Path(output), list(jobs)
  output.mkdir(parents=True, exist_ok=True)
  manifest = output / MANIFEST
  records = _read(manifest)
  for job in jobs:
    if job.name in records and not job.problem:
      _check_same(output, records[job.name], _record(job, recipe))
  _write(manifest, records)  # drops the partial line that a killed run may leave
  pool = futures.ThreadPoolExecutor(READERS)
  try:
    with manifest.open('a', encoding='utf-8') as file:
      for outcome, record in pool.map(functools.partial(_make, output, recipe, records), jobs):
        if record:
          file.write(_line(record))
          file.flush()
        yield outcome
  finally:
    pool.shutdown(cancel_futures=True)
  _write(manifest, _read(manifest))


def _make(
  output: pathlib.Path, recipe: Mix | Film, records: dict, job: Job
) -> tuple[Outcome, dict[str, Any] | None]:
  if job.problem:
    return Outcome(job, 'failed', job.problem), None
  record = _record(job, recipe)
  blurred, sharp = output / record['blurred'], output / record['sharp']
  if job.name in records and blurred.exists() and sharp.exists():
    return Outcome(job, 'skipped', str(blurred)), None
  try:
    made = recipe(job)
    if made.arrays:
      record['arrays'] = f'psf/{job.name}.npz'
      with _new(output / record['arrays']) as partial, partial.open('wb') as file:
        np.savez_compressed(file, **made.arrays)
    for path, pixels in ((sharp, made.sharp), (blurred, made.blurred)):
      with _new(path) as partial:
        Image.fromarray(pixels).save(partial, 'png', compress_level=3)
  except Exception as error:  # One bad file must not stop the rest.
    reason = next(iter(str(error).splitlines()), '') or type(error).__name__
    source = str(job.sources[0])
    return Outcome(job, 'failed', reason if source in reason else f'{source}: {reason}'), None
  return Outcome(job, 'made', str(blurred)), record | made.record


def _record(job: Job, recipe: Mix | Film) -> dict[str, Any]:
  """What is known about a pair before it is made."""
  sequence, _, name = job.name.rpartition('/')
  return {
    'name': job.name,
    'blurred': f'{job.split}/{sequence}/{recipe.folder}/{name}.png',
    'sharp': f'{job.split}/{sequence}/sharp/{name}.png',
    'sources': [str(file) for file in job.sources],
    **dataclasses.asdict(recipe),
  }


def _check_same(output: pathlib.Path, existing: dict[str, Any], wanted: dict[str, Any]) -> None:
  """Raises ValueError if the existing pair was made in a different way than `wanted`."""
  for name, value in wanted.items():
    old = existing.get(name)
    if name == 'sources' and old:  # the same path may be written in several ways
      old, value = ([os.path.realpath(path) for path in paths] for paths in (old, value))
    if old != value:
      raise ValueError(
        f'{output}: has {wanted["name"]} with {name} {old!r}, not {value!r}: use another folder'
      )


def _key(seed: int, name: str) -> jax.Array:
  return jax.random.fold_in(jax.random.key(seed), np.uint32(digest(name)))


def _canvas_side(side: int) -> int:
  """`side` rounded up to one of four sizes per octave, so that few compiled shapes serve all."""
  return tiling.round_up(side, max(16, 2 ** (side.bit_length() - 1) // 4))


_device_lock = threading.Lock()
_draw = jax.jit(synthesis.Degrade.draw, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _degrade(degrade: synthesis.Degrade, places: list, sharp: jax.Array) -> jax.Array:
  places, sharp = jax.tree.map(lambda one: one[None], (places, sharp))
  blurred = degrade.apply(places, sharp.astype(jnp.float32) / 255)[0]
  return jnp.round(blurred * 255).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=1)
def _average(film: jax.Array, response: str) -> jax.Array:
  blurred = frames.average(film.astype(jnp.float32) / 255, response=response)
  return jnp.round(blurred * 255).astype(jnp.uint8)


def _plain(value: np.ndarray) -> Any:
  """A value for JSON; floats with as many digits as a float32 has."""
  return value.tolist() if value.ndim else float(str(value[()]))


def _new(path: pathlib.Path):
  path.parent.mkdir(parents=True, exist_ok=True)
  return atomic.replacing(path)


def _line(record: dict[str, Any]) -> str:
  return json.dumps(record) + '\n'


def _read(manifest: pathlib.Path) -> dict[str, dict[str, Any]]:
  """The complete lines of a manifest, by name."""
  lines = manifest.read_text('utf-8').splitlines(keepends=True) if manifest.exists() else []
  records = [json.loads(line) for line in lines if line.endswith('\n')]
  return {record['name']: record for record in records}


def _write(manifest: pathlib.Path, records: dict[str, dict[str, Any]]) -> None:
  atomic.write_text(manifest, ''.join(_line(records[name]) for name in sorted(records)))
