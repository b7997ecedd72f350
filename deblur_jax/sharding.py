"""One mesh over all devices of all processes, and the two ways in which arrays lie on it."""

from collections.abc import Mapping
import os
import pathlib

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np


def make_mesh() -> Mesh:
  """A mesh with the one axis 'data' over every device of every process."""
  # Explicit axes, the default, make pixel shuffle, gathers and FFTs fail.
  return jax.make_mesh((jax.device_count(),), ('data',), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array: parameters, scalars."""
  return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
  """Every device holds a slice of the first axis: pictures."""
  return NamedSharding(mesh, PartitionSpec('data'))


def local_batch_size(batch_size: int, mesh: Mesh) -> int:
  """The share of a global batch that this process loads; ValueError where it does not divide."""
  if batch_size % mesh.size:
    raise ValueError(
      f'batch_size {batch_size} does not divide over {mesh.size} devices: '
      f'set --config.batch_size to a multiple of {mesh.size}'
    )
  return batch_size // jax.process_count()


def put(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """This process's part of a batch as global arrays, split over the mesh along the first axis."""
  sharding = batched(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()
  }


def keep_compiled() -> None:
  """Keeps compiled functions from one run to the next, in the user's cache folder.

  `JAX_COMPILATION_CACHE_DIR` names another folder.
  """
  if jax.config.jax_compilation_cache_dir is None:
    home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    jax.config.update('jax_compilation_cache_dir', str(pathlib.Path(home, 'deblur_jax')))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
