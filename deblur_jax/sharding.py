"""One mesh over all devices of all processes, and how arrays lie on it.

Pictures are split over every device. The state of training lies whole on each, or, with
`make_mesh(fsdp)`, in parts on the `fsdp` devices that share one copy of it ("fully sharded data
parallel", ZeRO; Rajbhandari et al. 2020, arXiv:1910.02054).
"""

from collections.abc import Callable, Mapping
import json
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from deblur_jax import cached

LOST_AFTER = 30
"""Seconds without a sign of life after which a process counts as lost, and ends all others."""


def start(
  coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
  """Joins the other processes of a run; before anything else is asked of JAX.

  Args:
    coordinator: HOST:PORT, where process 0 listens. Without, all three are what Slurm, Open MPI, a
      TPU pod or Kubernetes say.
    processes: how many there are.
    process: which this is, from 0.

  Raises ValueError where only some are given or they make no sense, or where none are and there is
  nothing to ask. Processes that do not come within five minutes end this one.
  """
  given = [value is not None for value in (coordinator, processes, process)]
  if any(given) and not all(given):
    raise ValueError('--coordinator, --processes and --process go together')
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
      '--distributed: neither Slurm, Open MPI, a TPU pod nor Kubernetes tells here which processes '
      f'there are: give --coordinator=HOST:PORT --processes=N --process=I ({error})'
    ) from error


def make_mesh(fsdp: int = 1) -> Mesh:
  """A mesh with the axes 'data' and 'fsdp', of size `fsdp`, over every device of every process.

  Raises ValueError where the devices do not divide into groups of `fsdp`.
  """
  devices = jax.devices()
  if fsdp < 1 or len(devices) % fsdp:
    raise ValueError(f'fsdp {fsdp} does not divide {len(devices)} devices: set --config.fsdp')
  # Explicit axes, the default, make pixel shuffle, gathers and FFTs fail.
  axes = {'axis_names': ('data', 'fsdp'), 'axis_types': (AxisType.Auto,) * 2}
  shape = len(devices) // fsdp, fsdp
  if len({getattr(device, 'slice_index', 0) for device in devices}) == 1:
    return jax.make_mesh(shape, **axes)
  # Machines with GPUs each count as a slice, which jax.make_mesh refuses. What fsdp gathers in
  # every step had better stay in one.
  devices.sort(key=lambda device: (device.slice_index, device.process_index, device.id))
  return Mesh(np.asarray(devices).reshape(shape), **axes)


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array: scalars, parameters in use."""
  return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
  """Every device holds a slice of the first axis: pictures."""
  return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def spread(tree: Any, mesh: Mesh) -> Any:
  """The sharding of every array of a state: split over 'fsdp' along the largest axis that divides.

  Where none does, and without such devices, every device holds the whole array.
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
  """(state, batch) -> (state, metrics) as `step`, over all devices; the state is given away.

  `state` shows how a state lies. Its parameters are gathered on every device for the step.
  """

  def run(state: Any, batch: Any) -> tuple[Any, Any]:
    # Left to itself, XLA may split the convolutions by channels and gather the pictures.
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
    with jax.set_mesh(mesh):  # for parts that work on the pictures of each device apart
      return compiled(state, batch)

  return within


def local(tree: Any, mesh: Mesh) -> Any:
  """Whole arrays on every device of this process. All processes have to ask for them."""
  whole = jax.device_put(tree, replicated(mesh))
  own = replicated(own_mesh())

  def without_the_others(leaf: jax.Array) -> jax.Array:
    parts = [part.data for part in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, own, parts)

  return jax.tree.map(without_the_others, whole)


def own_mesh() -> Mesh:
  """A mesh over the devices of this process alone."""
  return Mesh(np.asarray(jax.local_devices()), ('own',), axis_types=(AxisType.Auto,))


def apart(predict: Callable[[Any, jax.Array], jax.Array]) -> Callable[[Any, jax.Array], jax.Array]:
  """(state, pictures) -> pictures as `predict`, every device of this process with its share.

  There are as many pictures as devices, or a multiple; the state is what `local` gives.
  """
  mesh = own_mesh()
  rows = batched(mesh).spec
  # Devices that know nothing of each other: no compiler can make them wait.
  each = jax.shard_map(
    predict, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False
  )
  return jax.jit(each)


def gather(value: Any) -> list[Any]:
  """The `value` of every process, in their order; what JSON can hold. All have to ask for them."""
  if jax.process_count() == 1:
    return [value]
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.asarray(text.size))
  padded = np.pad(text, (0, sizes.max() - text.size))
  lines = zip(multihost_utils.process_allgather(padded), sizes, strict=True)
  return [json.loads(line[:size].tobytes()) for line, size in lines]


def anywhere(flag: bool, mesh: Mesh) -> jax.Array:
  """Whether `flag` is set in any process, the same in all; reading it waits for all of them."""
  flags = np.full(jax.local_device_count(), flag)
  return jax.jit(jnp.any, out_shardings=replicated(mesh))(put({'flag': flags}, mesh)['flag'])


def local_batch_size(batch_size: int, mesh: Mesh) -> int:
  """The share of a global batch that this process loads; ValueError where it does not divide."""
  if batch_size % mesh.size:
    raise ValueError(
      f'batch_size {batch_size} does not divide over {mesh.size} devices: set --config.batch_size, '
      f'or those of --config.data.phases, to a multiple of {mesh.size}'
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
  if jax.config.values['jax_compilation_cache_dir'] is None:
    jax.config.update('jax_compilation_cache_dir', str(cached.folder()))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
