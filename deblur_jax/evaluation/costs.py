"""The costs of a method: multiply-adds, milliseconds, memory.

Times and memory depend on the machine and are always reported with its name; on the CPU, memory is
that of the whole process, so call `measure` in a process that has done nothing else.
"""

from collections.abc import Callable
import math
import os
import pathlib
import platform
import time
from typing import Any, NamedTuple

import jax
from jax.extend import core
import numpy as np

from deblur_jax import tiling
from deblur_jax.nn.conv import plain
from deblur_jax.types import Needs

SMALL = (256, 256)
LARGE = (720, 1280)
REPEATS = 9
PATIENCE = 20.0
"""Seconds after which no further repeat starts."""


class Costs(NamedTuple):
  """The costs of restoring one picture."""

  gmacs: float | None
  """Billions of multiply-adds at 256x256, of convolutions and matrix products; None if unknown."""
  ms_256x256: float
  """Median milliseconds, and the quartiles."""
  ms_256x256_q1: float
  ms_256x256_q3: float
  ms_1280x720: float
  ms_1280x720_q1: float
  ms_1280x720_q3: float
  compile_s: float
  """Seconds of XLA compilation for both sizes."""
  memory_mib: int
  """Peak at 1280x720: of the accelerator, or on a CPU of the whole process."""


def measure(load: Callable[[], Any]) -> Costs:
  """The costs of a method; `load()` returns a new instance, with `restore` and `needs`, each time.

  Call it in a process that has done nothing else.
  """
  method, compiling = load(), []

  def listen(event: str, duration_secs: float, **_: Any) -> None:
    if event == '/jax/core/compile/backend_compile_duration':
      compiling.append(duration_secs)

  jax.monitoring.register_event_duration_secs_listener(listen)
  small, large = milliseconds(method, SMALL), milliseconds(method, LARGE)
  memory, seconds = peak_mib(), sum(compiling)
  # Loaded again, because functions that are already traced keep their fast form.
  try:
    macs = count_macs(load().restore, _image(method.needs, SMALL))
    gmacs = macs * tiling.count(*SMALL, method.needs) / 1e9
  except jax.errors.TracerArrayConversionError:  # run by another program, such as onnxruntime
    gmacs = None
  return Costs(gmacs, *small, *large, seconds, memory)


def milliseconds(method: Any, size: tuple[int, int]) -> tuple[float, float, float]:
  """Median, first and third quartile of the time of one call."""
  call, times = _call(method, size), []
  call()  # compiles
  begin = time.monotonic()
  while not times or (len(times) < REPEATS and time.monotonic() - begin < PATIENCE):
    start = time.perf_counter()
    call()
    times.append(time.perf_counter() - start)
  first, median, third = 1000 * np.quantile(times, (0.25, 0.5, 0.75))
  return float(median), float(first), float(third)


def peak_mib() -> int:
  """The peak of the memory so far: of the accelerator, or on a CPU of the whole process."""
  stats = jax.devices()[0].memory_stats() or {}
  if 'peak_bytes_in_use' in stats:
    return round(stats['peak_bytes_in_use'] / 2**20)
  status = pathlib.Path('/proc/self/status')
  if status.exists():  # getrusage would count what the parent held when it started this process
    line = next(line for line in status.read_text().splitlines() if line.startswith('VmHWM'))
    return round(int(line.split()[1]) / 2**10)
  import resource  # not available on Windows

  return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)  # bytes on macOS


def count_macs(function: Callable[..., Any], *arguments: Any) -> int:
  """Multiply-adds of every convolution and matrix product of `function(*arguments)`.

  Counted in the jaxpr with the layers in their plain form, so the result does not depend on the
  device; nothing is computed, and arguments may be `jax.ShapeDtypeStruct`s. As is usual, bias,
  norms, activations and FFTs are not counted. Functions that `jax.jit` has already traced keep
  their form.
  """
  with plain():
    return _macs(jax.make_jaxpr(function)(*arguments).jaxpr)


def device_name() -> str:
  """The name of the device that methods run on."""
  device = jax.devices()[0]
  if device.platform != 'cpu':
    return device.device_kind
  cpus = pathlib.Path('/proc/cpuinfo')
  lines = cpus.read_text().splitlines() if cpus.exists() else []
  models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  name = models[0] if models else platform.processor() or platform.machine()
  affinity = getattr(os, 'sched_getaffinity', None)
  count = len(affinity(0)) if affinity else os.cpu_count()
  return f'{name}, {count} cores'


def _macs(jaxpr: Any) -> int:
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'conv_general_dilated':
      total += _conv_macs(equation)
    elif equation.primitive.name == 'dot_general':
      contracted = equation.params['dimension_numbers'][0][0]
      shared = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
      total += shared * equation.outvars[0].aval.size
    else:
      times = equation.params.get('length', 1)  # of a scan
      total += times * sum(map(_macs, core.jaxprs_in_params(equation.params)))
  return total


def _conv_macs(equation: Any) -> int:
  image, kernel = (variable.aval for variable in equation.invars)
  numbers = equation.params['dimension_numbers']
  taps = kernel.size // kernel.shape[numbers.rhs_spec[0]]
  if math.prod(equation.params['lhs_dilation']) == 1:
    return taps * equation.outvars[0].aval.size
  # A transposed convolution: every input pixel is multiplied by the whole kernel, zeros are not.
  pixels = image.size // image.shape[numbers.lhs_spec[1]]
  return pixels * kernel.size


def _call(method: Any, size: tuple[int, int]) -> Callable[[], Any]:
  """A function that restores a picture of `size` like a photograph: whole if it fits, or tiled."""
  if not tiling.fits(*size, method.needs):
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    return lambda: tiling.tiled(method.restore, image, method.needs)
  placed = jax.device_put(_image(method.needs, size))
  return lambda: jax.block_until_ready(method.restore(placed))


def _image(needs: Needs, size: tuple[int, int]) -> np.ndarray:
  """A picture `[1 h w 3]` of at least `size`, or one tile, with sides that `needs` allows."""
  height, width = (needs.side or tiling.round_up(side, needs.multiple) for side in size)
  return np.random.default_rng(0).random((1, height, width, 3), np.float32)
