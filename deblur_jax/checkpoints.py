"""Checkpoints of the training state: newest and best, written in the background, atomic, verified.

A background thread reads each checkpoint after it was written and saves its SHA-256 digests.

A state can be restored on any number of devices; the target's shardings decide.
"""

from concurrent import futures
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from deblur_jax import atomic, weights

SEAL = 'sha256.json'
"""File in a checkpoint's folder: the SHA-256 digests of all other files, by name."""


class Damaged(ValueError):
  """A checkpoint's files differ from what was written."""


class DiskFull(OSError):
  """No disk space for a checkpoint; the previous one is intact."""


class Checkpoints:
  """The checkpoints of a run; close it (or leave its `with` block) to finish the last write.

  Args:
    folder: where to keep them, one folder per step.
    best: the metric that the best one is chosen by, higher is better.
  """

  def __init__(self, folder: pathlib.Path, *, best: str = 'psnr'):
    self.folder = pathlib.Path(folder).absolute()
    self._sealer = futures.ThreadPoolExecutor(1, thread_name_prefix='seal')
    self._seals: dict[int, futures.Future] = {}
    keep = (
      policies.LatestN(1),
      policies.BestN(
        get_metric_fn=lambda metrics: metrics[best], n=1, keep_checkpoints_without_metrics=False
      ),
    )
    self._manager = ocp.CheckpointManager(
      epath.Path(self.folder),
      item_handlers=ocp.StandardCheckpointHandler(),
      options=ocp.CheckpointManagerOptions(
        save_decision_policy=policies.FixedIntervalPolicy(1),
        preservation_policy=policies.AnyPreservationPolicy(keep),
        cleanup_tmp_directories=True,
      ),
    )

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def latest(self) -> int | None:
    """The newest step on disk, or None."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any, metrics: dict[str, float] | None = None) -> None:
    """Starts writing `state`; returns as soon as its arrays are copied.

    Raises DiskFull if there was no space for this write or the previous one.
    """
    with _NamedErrors(self.folder):
      self._written()
      # Checked first: writers that fail halfway print from their own threads.
      needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
      if shutil.disk_usage(self.folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

  def wait(self) -> None:
    """Waits until everything is on disk; raises DiskFull if there was no space."""
    with _NamedErrors(self.folder):
      self._finish()

  def restore(self, target: Any, step: int | None = None) -> Any:
    """The state of `step` (default: the newest), with the structure and shardings of `target`.

    Args:
      target: a state of arrays or of ShapeDtypeStructs with shardings.
      step: an existing step.

    Raises weights.DoesNotFit, listing every name, if the checkpoint is of another network, and
    Damaged if one of its files has changed since it was written.
    """
    step = self.latest() if step is None else step
    self._verify(step)
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
    found = self._manager.item_metadata(step)
    found = getattr(found, 'tree', found)
    weights.check_fit(
      _params(found), _params(abstract), what=f'checkpoint {self.folder / str(step)}'
    )
    return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))

  def close(self) -> None:
    """Finishes the last write."""
    with _NamedErrors(self.folder):
      try:
        self._finish()
      finally:
        self._sealer.shutdown()
        self._manager.close()

  def _finish(self) -> None:
    """Waits until the last write is done and its digests are saved."""
    self._written()
    for seal in self._seals.values():
      seal.result()

  def _written(self) -> None:
    """Waits until the last write is done; starts saving the digests of checkpoints without any."""
    self._manager.wait_until_finished()
    if jax.process_index():
      return
    for seal in [seal for seal in self._seals.values() if seal.done()]:
      seal.result()  # raises the error of a failed seal
    for step in set(self._manager.all_steps()) - self._seals.keys():
      self._seals[step] = self._sealer.submit(_seal, self.folder / str(step))

  def _verify(self, step: int) -> None:
    folder = self.folder / str(step)
    # A run killed before the seal was written has none. One process checks for all.
    if jax.process_index() or not (folder / SEAL).exists():
      return
    expected, found = json.loads((folder / SEAL).read_text()), _digests(folder)
    if wrong := sorted(name for name, digest in expected.items() if found.get(name) != digest):
      others = [other for other in self._manager.all_steps() if other != step]
      where = f'from step {max(others)}' if others else 'from the beginning'
      raise Damaged(
        f'{folder}: {wrong[0]} is missing or has changed since it was written: remove this folder '
        f'and run the same command to resume {where}'
      )


def _seal(folder: pathlib.Path) -> None:
  """Writes the seal of a complete checkpoint, unless it has one."""
  # A checkpoint that has just been replaced may be deleted meanwhile.
  with contextlib.suppress(FileNotFoundError):
    if not (folder / SEAL).exists():
      atomic.write_text(folder / SEAL, json.dumps(_digests(folder), indent=2) + '\n')


def _digests(folder: pathlib.Path) -> dict[str, str]:
  """Name -> SHA-256 of all files except the seal."""
  found = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file() and path.name != SEAL:
      with path.open('rb') as file:
        found[str(path.relative_to(folder))] = hashlib.file_digest(file, 'sha256').hexdigest()
  return found


def _params(state: Any) -> Any:
  return state['params'] if isinstance(state, dict) else state.params


class _NamedErrors:
  """Turns the errors of the writing threads on a full disk into DiskFull."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder

  def __enter__(self) -> None:
    pass

  def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
    text = str(error)
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or 'No space left' in text:
      raise DiskFull(
        f'no space left for a checkpoint in {self._folder}: free some space and run the same '
        'command to resume from the last intact checkpoint'
      ) from error
