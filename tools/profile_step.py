"""Where the time of a training step goes: `tools/profile_step.py --config=configs/nafnet.py`.

Prints the time of the first step, which compiles, milliseconds per step (median), pictures per
second, the floating-point operations on all devices as counted by XLA, their share of this
machine's matrix peak, measured in the same run, and peak memory. `--trace=DIR` also writes a
profile for TensorBoard or Perfetto.
"""

import contextlib
import resource
import statistics
import time

from absl import app, flags, logging
import jax
import jax.numpy as jnp
from ml_collections import config_flags

from deblur_jax import models, opening, sharding
from deblur_jax.trainers import TRAINERS

_CONFIG = config_flags.DEFINE_config_file('config', None, 'As in deblur_jax.main.')
_STEPS = flags.DEFINE_integer('steps', 20, 'Steps to time, after two to warm up.')
_TRACE = flags.DEFINE_string('trace', None, 'Folder for a profile of the timed steps.')


def main(_):
  config = _CONFIG.value
  logging.set_verbosity(logging.WARNING)
  mesh = sharding.make_mesh(config.fsdp)
  model = models.make(**config.model, dtype=jnp.dtype(config.dtype))
  trainer = TRAINERS[config.trainer](config, model)
  dataset = opening.open_dataset(config, mesh, opening.open_source(config)[0])
  batch = {name: value for name, value in dataset[0].items() if name != 'name'}
  key = jax.random.key(config.seed)
  layout = sharding.spread(jax.eval_shape(trainer.init, key, batch), mesh)
  state = jax.jit(trainer.init, out_shardings=layout)(key, batch)
  shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (state, batch))
  flops = jax.jit(trainer.step).lower(*shapes).cost_analysis().get('flops', float('nan'))
  batch = sharding.put(batch, mesh)

  step = sharding.distributed(trainer.step, state, mesh)
  begin = time.perf_counter()
  state, metrics = step(state, batch)
  jax.block_until_ready(metrics)
  compile_time = time.perf_counter() - begin
  for _ in range(2):
    state, metrics = step(state, batch)
  jax.block_until_ready(metrics)

  times = []
  trace = jax.profiler.trace(_TRACE.value) if _TRACE.value else contextlib.nullcontext()
  with trace:
    for _ in range(_STEPS.value):
      begin = time.perf_counter()
      state, metrics = step(state, batch)
      jax.block_until_ready(metrics)
      times.append(time.perf_counter() - begin)
  seconds = statistics.median(times)
  peak = matrix_peak(jnp.dtype(config.dtype)) * mesh.size
  device = jax.devices()[0]
  lines = {
    'device': f'{mesh.size} x {device.device_kind}',
    'first step': f'{compile_time:.1f} s, including compilation',
    'step': f'{1000 * seconds:.1f} ms (median of {len(times)}; fastest {1000 * min(times):.1f})',
    'pictures': f'{len(batch["sharp"]) / seconds:.1f} per second',
    'operations': f'{flops / 1e9:.2f} GFLOP per step by XLA, {flops / seconds / 1e9:.1f} GFLOP/s',
    'matrix peak': f'{peak / 1e9:.0f} GFLOP/s measured; share {flops / seconds / peak:.0%}',
    'peak memory': f'{peak_memory(device) / 2**20:.0f} MiB',
  }
  for name, value in lines.items():
    print(f'{name:12} {value}')


def matrix_peak(dtype: jnp.dtype) -> float:
  """Floating-point operations per second of a large matrix product on one device."""
  side = 2048 if jax.default_backend() == 'cpu' else 8192
  a, b = jax.random.normal(jax.random.key(0), (2, side, side)).astype(dtype)
  product = jax.jit(jnp.matmul)
  product(a, b).block_until_ready()
  times = []
  for _ in range(8):
    begin = time.perf_counter()
    product(a, b).block_until_ready()
    times.append(time.perf_counter() - begin)
  return 2 * side**3 / min(times)


def peak_memory(device: jax.Device) -> int:
  """Bytes: of the device if it counts them, else of this process."""
  stats = device.memory_stats() or {}
  return stats.get('peak_bytes_in_use') or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main)
