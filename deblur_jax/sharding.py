"""One mesh over all devices of all processes, and the shardings of arrays on it.

Pictures are split over every device. The training state is replicated on each, or, with
`make_mesh(fsdp)`, split over groups of `fsdp` devices ("fully sharded data parallel", ZeRO;
Rajbhandari et al. 2020, arXiv:1910.02054).
"""

from collections.abc import Callable, Mapping
import json
import os
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from deblur_jax import cached

LOST_AFTER = 30
"""Seconds without a heartbeat after which a process counts as lost, which ends all others."""


def start(
  coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
  """Connects to the other processes of a run; must come before any other use of JAX.

  Args:
    coordinator: HOST:PORT of process 0. If None, all three are taken from the environment of Slurm,
      Open MPI, a TPU pod or Kubernetes.
    processes: the number of processes.
    process: the index of this one, from 0.

  Raises ValueError if only some are given or they are invalid, or if none are given and no such
  environment is found. Ends this process if the others do not start within five minutes.
  """
  given = [value is not None for value in (coordinator, processes, process)]
  if any(given) and not all(given):
    raise ValueError('--coordinator, --processes and --process must be given together')
  try:
    jax.distributed.initialize(
      coordinator,
      processes,
      process,
      cluster_detection_method='deactivate' if all(given) else None,
      heartbeat_timeout_seconds=LOST_AFTER,
      shutdown_timeout_seconds=LOST_AFTER,
    )
  except (ValueError, RuntimeError) as error:
    if any(given):
      raise ValueError(f'--coordinator={coordinator}: {error}') from error
    raise ValueError(
      '--distributed: found no Slurm, Open MPI, TPU pod or Kubernetes environment: '
      f'give --coordinator=HOST:PORT --processes=N --process=I ({error})'
    ) from error


def make_mesh(fsdp: int = 1) -> Mesh:
  """A mesh with the axes 'data' and 'fsdp', of size `fsdp`, over every device of every process.

  Raises ValueError if the devices do not divide into groups of `fsdp`.
  """
  devices = jax.devices()
  if fsdp < 1 or len(devices) % fsdp:
    raise ValueError(f'fsdp {fsdp} does not divide {len(devices)} devices: set --config.fsdp')
  # Pixel shuffle, gathers and FFTs fail with explicit axes, the default.
  axes = {'axis_names': ('data', 'fsdp'), 'axis_types': (AxisType.Auto,) * 2}
  shape = len(devices) // fsdp, fsdp
  if len({getattr(device, 'slice_index', 0) for device in devices}) == 1:
    return jax.make_mesh(shape, **axes)
  # Each machine with GPUs counts as a slice, and jax.make_mesh rejects several. Groups of fsdp
  # devices, which communicate in every step, should stay within one.
  devices.sort(key=lambda device: (device.slice_index, device.process_index, device.id))
  return Mesh(np.asarray(devices).reshape(shape), **axes)


def cpu() -> Any:
  """The CPU of this process, or None if `JAX_PLATFORMS` names accelerators only."""
  try:
    return jax.local_devices(backend='cpu')[0]
  except RuntimeError:
    return None


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device: for scalars and parameters in use."""
  return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
  """A slice of the first axis on every device: for pictures."""
  return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def spread(tree: Any, mesh: Mesh) -> Any:
  """The sharding of every array of a state: split over 'fsdp' along the largest divisible axis.

  Arrays without such an axis are replicated, as are all if 'fsdp' has size 1.
  """
  parts = mesh.shape.get('fsdp', 1)

  def lay(leaf: Any) -> NamedSharding:
    dividing = [(size, axis) for axis, size in enumerate(leaf.shape) if size % parts == 0]
    if parts == 1 or not dividing:
      return replicated(mesh)
    return NamedSharding(mesh, PartitionSpec(*[None] * max(dividing)[1], 'fsdp'))

  return jax.tree.map(lay, tree)


def distributed(
  step: Callable[[Any, Any], tuple[Any, Any]], state: Any, mesh: Mesh
) -> Callable[[Any, Any], tuple[Any, Any]]:
  """`step`, (state, batch) -> (state, metrics), jitted over all devices; donates the state.

  `state` determines the shardings. Its parameters are gathered on every device for the step.
  """

  def run(state: Any, batch: Any) -> tuple[Any, Any]:
    # Without this, XLA may split the convolutions by channels and gather the pictures.
    params = jax.lax.with_sharding_constraint(state.params, replicated(mesh))
    return step(state.replace(params=params), batch)

  layout = spread(state, mesh)
  compiled = jax.jit(
    run,
    donate_argnums=0,
    in_shardings=(layout, batched(mesh)),
    out_shardings=(layout, replicated(mesh)),
  )

  def within(state: Any, batch: Any) -> tuple[Any, Any]:
    with jax.set_mesh(mesh):  # for shard_map inside the step
      return compiled(state, batch)

  return within


def local(tree: Any, mesh: Mesh) -> Any:
  """`tree` replicated on every device of this process. All processes must call it."""
  whole = jax.device_put(tree, replicated(mesh))
  own = replicated(own_mesh())

  def own_shards(leaf: jax.Array) -> jax.Array:
    parts = [part.data for part in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, own, parts)

  return jax.tree.map(own_shards, whole)


def own_mesh() -> Mesh:
  """A mesh over the devices of this process only."""
  return Mesh(np.asarray(jax.local_devices()), ('own',), axis_types=(AxisType.Auto,))


def per_device(
  predict: Callable[[Any, jax.Array], jax.Array],
) -> Callable[[Any, jax.Array], jax.Array]:
  """`predict`, (state, pictures) -> pictures, split over the devices of this process.

  The number of pictures must be a multiple of the number of devices; the state is from `local`.
  """
  mesh = own_mesh()
  rows = batched(mesh).spec
  # shard_map without communication: the compiler cannot insert any synchronization.
  each = jax.shard_map(
    predict, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False
  )
  return jax.jit(each)


def gather(value: Any) -> list[Any]:
  """The `value`, a JSON value, of every process, in order. All processes must call it."""
  if jax.process_count() == 1:
    return [value]
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.asarray(text.size))
  padded = np.pad(text, (0, sizes.max() - text.size))
  lines = zip(multihost_utils.process_allgather(padded), sizes, strict=True)
  return [json.loads(line[:size].tobytes()) for line, size in lines]


def any_process(flag: bool, mesh: Mesh) -> jax.Array:
  """Whether `flag` is set in any process; the same in all. Reading it waits for all processes."""
  flags = np.full(jax.local_device_count(), flag)
  return jax.jit(jnp.any, out_shardings=replicated(mesh))(put({'flag': flags}, mesh)['flag'])


def local_batch_size(batch_size: int, mesh: Mesh) -> int:
  """This process's share of a global batch; raises ValueError if it does not divide evenly."""
  if batch_size % mesh.size:
    raise ValueError(
      f'batch_size {batch_size} is not divisible by {mesh.size} devices: set --config.batch_size, '
      f'or those in --config.data.phases, to a multiple of {mesh.size}'
    )
  return batch_size // jax.process_count()


def put(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """This process's part of a batch as global arrays, split over the mesh along the first axis."""
  sharding = batched(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()
  }


def keep_compiled() -> None:
  """Enables JAX's persistent compilation cache, in the user's cache folder.

  `JAX_COMPILATION_CACHE_DIR` names another folder. Functions that compile in less than 0.05 s are
  not kept, or as `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` says.
  """
  if jax.config.values['jax_compilation_cache_dir'] is None:
    jax.config.update('jax_compilation_cache_dir', str(cached.folder()))
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.05)
