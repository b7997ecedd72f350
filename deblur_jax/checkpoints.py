"""Training states on disk: the newest and the best, written in the background, atomic, verified.

A thread of its own reads what was written and seals it with SHA-256 digests.

A state is restored on any number of devices: the target's shardings decide.
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
"""File in a checkpoint's folder: what all others held when it was complete, by their names."""


class Damaged(ValueError):
  """A checkpoint is not what was written."""


class DiskFull(OSError):
  """A checkpoint could not be written for lack of space; the one before is still good."""


class Checkpoints:
  """The checkpoints of a run; close it (or leave its `with` block) to finish the last write.

  Args:
    folder: where they lie, one folder a step.
    best: the metric by which the best is kept, higher is better.
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

    Raises DiskFull when this write, or the one before, found no space.
    """
    with _NamedErrors(self.folder):
      self._written()
      # Asked first: writers that fail half-way litter the terminal from threads of their own.
      needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
      if shutil.disk_usage(self.folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

  def wait(self) -> None:
    """Returns when everything is on disk; raises DiskFull when there was no space."""
    with _NamedErrors(self.folder):
      self._finish()

  def restore(self, target: Any, step: int | None = None) -> Any:
    """The state of `step` (default: the newest), laid out as `target`.

    Args:
      target: a state, or one of ShapeDtypeStruct with shardings.
      step: which; must exist.

    Raises weights.DoesNotFit, listing every name, where the checkpoint is of another network, and
    Damaged where a file of it has changed since it was written.
    """
    step = self.latest() if step is None else step
    assert step is not None, f'no checkpoint in {self.folder}'
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
    """Returns when the last write is done and sealed."""
    self._written()
    for seal in self._seals.values():
      seal.result()

  def _written(self) -> None:
    """Returns when the last write is done; has what is not sealed yet sealed."""
    self._manager.wait_until_finished()
    if jax.process_index():
      return
    for seal in [seal for seal in self._seals.values() if seal.done()]:
      seal.result()  # raises what went wrong
    for step in set(self._manager.all_steps()) - self._seals.keys():
      self._seals[step] = self._sealer.submit(_seal, self.folder / str(step))

  def _verify(self, step: int) -> None:
    folder = self.folder / str(step)
    # Killed before it could be sealed, one is as it is. One process reads for all.
    if jax.process_index() or not (folder / SEAL).exists():
      return
    expected, found = json.loads((folder / SEAL).read_text()), _digests(folder)
    if wrong := sorted(name for name, digest in expected.items() if found.get(name) != digest):
      others = [other for other in self._manager.all_steps() if other != step]
      where = f'from step {max(others)}' if others else 'from the beginning'
      raise Damaged(
        f'{folder}: {wrong[0]} is missing or has changed since it was written: remove this folder, '
        f'and the same command goes on {where}'
      )


def _seal(folder: pathlib.Path) -> None:
  """Writes the seal of a checkpoint that is complete and has none."""
  # One that has just been replaced may be on its way out.
  with contextlib.suppress(FileNotFoundError):
    if not (folder / SEAL).exists():
      atomic.write_text(folder / SEAL, json.dumps(_digests(folder), indent=2) + '\n')


def _digests(folder: pathlib.Path) -> dict[str, str]:
  """Name -> SHA-256 of all files but the seal."""
  found = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file() and path.name != SEAL:
      with path.open('rb') as file:
        found[str(path.relative_to(folder))] = hashlib.file_digest(file, 'sha256').hexdigest()
  return found


def _params(state: Any) -> Any:
  return state['params'] if isinstance(state, dict) else state.params


class _NamedErrors:
  """Turns what the writing threads report on a full disk into one clear error."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder

  def __enter__(self) -> None:
    pass

  def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
    text = str(error)
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or 'No space left' in text:
      raise DiskFull(
        f'no space left for a checkpoint in {self._folder}: make room and run the same command '
        'again, it goes on from the last good checkpoint'
      ) from error
