"""What restores the pictures of a server on the device of its process."""

import logging
import os
import pathlib
import time
from typing import Any, Protocol

import numpy as np

import deblur_jax
from deblur_jax.formats import kinds
from deblur_jax.photos import guided, history, jobs, pictures, restore
from deblur_jax.serve.restorers import Restorers
from deblur_jax.serve.settings import Settings, Upload

log = logging.getLogger('deblur_jax.serve')

MOST_SHAPES = 64
"""Compiled functions are dropped from memory after pictures of this many sizes."""


class Progress(Protocol):
  """Receives how many tiles a picture has, and is called after each."""

  tiles: int

  def tick(self) -> None:
    """Called after every tile; if it raises, the restoration ends and nothing is written."""


class Device:
  """Restores uploads, one at a time."""

  threads = 1
  """How many pictures can be restored at once."""

  def __init__(self, restorers: Restorers, *, warm: int = 0):
    """`warm` is the side of the picture of the warm-up."""
    self._restorers, self._warm_side = restorers, warm
    self._shapes: set[tuple] = set()

  def restore(
    self, upload: Upload, settings: Settings, target: pathlib.Path, progress: Progress
  ) -> dict[str, Any]:
    """Restores an upload and writes `target`; returns the report."""
    restorer, request = self._restorers.get(settings), settings.request
    progress.tiles = restore.tiling.count(*upload.size, restorer.method.needs, tile=restorer.tile)
    options = restore.Options(
      mask=upload.mask,
      where=guided.where(request.region) if request else None,
      strip=settings.strip,
      crop=settings.crop,
      quality=settings.quality,
      force=settings.force,
      diagnose=settings.diagnose,
      uncertainty=self._restorers.calibration(settings.weights) if settings.uncertainty else None,
      made=history.made(
        self._restorers.made_with(settings),
        {
          **settings.plain(),
          'psf': settings.psf or None,
          'mask': upload.mask,
          'prompt': str(request) if request else None,
        },
      ),
    )
    outcome = restore.restore_file(
      jobs.Job(upload.source, target), restorer, options, progress.tick
    )
    if settings.uncertainty == 'map':
      os.replace(restore.beside(target, 'uncertainty'), target)
    self._forget_shapes(settings.weights, upload.size)
    method = restorer.method.name if request else settings.weights
    report = {'method': method, 'version': deblur_jax.__version__} | outcome.plain()
    report |= {'understood': str(request)} if request else {}
    return {name: value for name, value in report.items() if name not in ('source', 'target')}

  def warm_up(self, folder: pathlib.Path) -> str:
    """Restores a picture with every network, so that all is loaded, and compiled for one size.

    Uses the empty `folder`; returns the kind of the device.
    """
    import jax

    source, size = folder / 'warm.png', (self._warm_side, self._warm_side)
    y, x = np.mgrid[: size[0], : size[1]]
    plane = (127 + 100 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)
    image = pictures.pyvips.Image.new_from_array(np.stack([plane] * 3, -1))
    image.copy(interpretation='srgb').pngsave(str(source))
    for name in self._restorers.networks():
      begin = time.monotonic()
      job = jobs.Job(source, folder / 'warm_result.png')
      restore.restore_file(job, self._restorers.get(Settings(name)))
      log.info('%s is ready after %.1f s', name, time.monotonic() - begin)
    return jax.devices()[0].device_kind

  def _forget_shapes(self, name: str, size: tuple[int, int]) -> None:
    """Bounds the memory that compiled functions take; JAX's cache on disk keeps them."""
    self._shapes.add((name, size))
    if len(self._shapes) > MOST_SHAPES:
      import jax

      jax.clear_caches()
      self._shapes.clear()


def result_name(upload: Upload, settings: Settings) -> str:
  """The name of the result of an upload, whose suffix says its format."""
  suffix = f'.{settings.format}' if settings.format else upload.source.suffix
  return str(kinds.result_name(pathlib.Path('result').with_suffix(suffix)))
