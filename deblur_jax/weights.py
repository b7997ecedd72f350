"""Weights as one `.safetensors` file with a manifest: write, read, verify.

The manifest is JSON in the file's metadata: the network the weights are for ('network',
'arguments') and any further facts ('steps', 'psnr', ...). It includes a SHA-256 of itself and every
tensor, so a damaged file is always rejected. Parameters are nested dicts of arrays, stored under
their joined names ('encoder/conv/kernel'). The format does not depend on the network.

Stored as 'int8', a kernel (an array of two or more axes and at least `LARGE` values) is rounded to
255 steps for each output channel, the last axis, and the step sizes are stored next to it
('encoder/conv/kernel:step'); everything else, such as the small first and last kernels, is stored
as float16. No value changes by more than half a step, 1/254 of the largest in its channel. This
only saves disk space: reading returns float32.
"""

from collections.abc import Mapping
import hashlib
import json
import os
import pathlib
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from deblur_jax import atomic, methods

Path = str | os.PathLike[str]

METADATA = 'deblur_jax'
"""The key of the file's metadata that holds the manifest."""

_NO_MANIFEST = 'no deblur_jax manifest in the file: was it written by another program?'

STORED = {
  'float32': np.dtype(np.float32),
  'float16': np.dtype(np.float16),
  'bfloat16': np.dtype(ml_dtypes.bfloat16),
}


INT8 = 'int8'
LARGE = 4096
STEP = ':step'
"""Suffix of the name of the step sizes that an int8 kernel is multiplied by."""

READ = {'F32': STORED['float32'], 'F16': STORED['float16'], 'BF16': STORED['bfloat16']} | {
  kind: np.dtype(name)
  for kind, name in {
    'F64': 'f8',
    'I64': 'i8',
    'I32': 'i4',
    'I8': 'i1',
    'U32': 'u4',
    'U8': 'u1',
  }.items()
}
"""safetensors' names of the dtypes; its own numpy reader does not support bfloat16."""


class WeightsError(ValueError):
  """A file without valid weights; the message says which file and why, in one line."""


class DoesNotFit(ValueError):
  """Weights whose names or shapes differ from those of the network."""


def write(
  path: Path, params: Mapping[str, Any], manifest: Mapping[str, Any], *, dtype: str | None = None
) -> None:
  """Writes `params` and `manifest` to `path` atomically.

  `dtype` ('float32', 'float16', 'bfloat16' or 'int8') is the storage type of floating-point
  tensors; by default their own. The manifest holds JSON values or numpy scalars; its 'sha256' is
  set here. Raises ValueError for an unknown `dtype`.
  """
  if dtype not in (None, INT8, *STORED):
    raise ValueError(f'unknown dtype {dtype!r}; available: {", ".join((*STORED, INT8))}')
  tensors = {}
  for name, value in _flat(params).items():
    if dtype == INT8 and _large(np.asarray(value)):
      tensors[name], tensors[name + STEP] = _quantized(np.asarray(value, np.float32))
    else:
      tensors[name] = _stored(value, 'float16' if dtype == INT8 else dtype)
  _save(path, tensors, manifest)


def annotate(source: Path, target: Path, **facts: Any) -> None:
  """Writes the weights `source` to `target` with `facts` in their manifest; values stay as stored.

  Raises as `read`.
  """
  tensors, manifest = _verified(source)
  _save(target, tensors, manifest | facts)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """(params, manifest) of the file at `path`, verified.

  Tensors stored as float16, bfloat16 or int8 are returned as float32. Raises WeightsError if the
  file is not a safetensors file, has no manifest or is damaged, FileNotFoundError if it does not
  exist.
  """
  tensors, manifest = _verified(path)
  half = (STORED['float16'], STORED['bfloat16'])
  params = {}
  for name, value in tensors.items():
    if name + STEP in tensors:
      value = value.astype(np.float32) * tensors[name + STEP]
    if not name.endswith(STEP):
      params[name] = value.astype(np.float32) if value.dtype in half else value
  return _nested(params), manifest


def _save(path: Path, tensors: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> None:
  """Writes tensors as they are, with the manifest and its digest."""
  stored = {key: value for key, value in manifest.items() if key != 'sha256'}
  stored = json.loads(json.dumps(stored, default=np.generic.item))
  stored['sha256'] = _digest(tensors, stored)
  data = safetensors.numpy.save(dict(tensors), {METADATA: json.dumps(stored)})
  with atomic.replacing(path) as partial:
    partial.write_bytes(data)


def _verified(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """(tensors as they are stored, manifest) of a file; raises as `read`."""
  try:
    data = pathlib.Path(path).read_bytes()
  except FileNotFoundError:
    raise FileNotFoundError(f'{path}: no such weights file') from None
  metadata = _metadata(path, data)
  if METADATA not in metadata:
    raise WeightsError(f'{path}: {_NO_MANIFEST}')
  damaged = f'{path}: damaged, SHA-256 does not match: download or write the file again'
  try:
    manifest = json.loads(metadata[METADATA])
    tensors = {name: _array(tensor) for name, tensor in safetensors.deserialize(data)}
    intact = manifest['sha256'] == _digest(tensors, manifest)
  except (ValueError, KeyError, TypeError, safetensors.SafetensorError):
    raise WeightsError(damaged) from None
  if not intact:
    raise WeightsError(damaged)
  return tensors, manifest


def check_fit(found: Mapping[str, Any], expected: Mapping[str, Any], *, what: str) -> None:
  """Raises DoesNotFit unless two nested dicts have the same names and shapes; lists differences.

  Leaves are arrays or `jax.ShapeDtypeStruct`s; dtypes are not compared. `what` describes the
  weights in the error, such as 'weights.safetensors for mprnet'.
  """
  found_shapes, expected_shapes = _shapes(found), _shapes(expected)
  missing = sorted(expected_shapes.keys() - found_shapes.keys())
  extra = sorted(found_shapes.keys() - expected_shapes.keys())
  shared = sorted(expected_shapes.keys() & found_shapes.keys())
  wrong = [name for name in shared if found_shapes[name] != expected_shapes[name]]
  if not missing and not extra and not wrong:
    return
  lines = [
    f'{what}: {len(missing)} missing, {len(extra)} extra, {len(wrong)} of another shape '
    f'(of {len(expected_shapes)}); use the variant and arguments that the weights were trained with'
  ]
  lines += [f'  missing  {name} {_text(expected_shapes[name])}' for name in missing]
  lines += [f'  extra    {name} {_text(found_shapes[name])}' for name in extra]
  lines += [
    f'  shape    {name} is {_text(found_shapes[name])}, expected {_text(expected_shapes[name])}'
    for name in wrong
  ]
  raise DoesNotFit('\n'.join(lines))


def shared(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
  """The leaves of the nested dict `found` whose names are also in `expected`."""
  names, flat = _flat(expected), _flat(found)
  return _nested({name: flat[name] for name in flat if name in names})


def is_ours(path: Path) -> bool:
  """Whether the file at `path` is a .safetensors file with a manifest; False if none exists."""
  try:
    if pathlib.Path(path).suffix != '.safetensors':
      return False
    with open(path, 'rb') as file:
      start = file.read(8)
      return METADATA in _metadata(path, start + file.read(int.from_bytes(start, 'little')))
  except (OSError, WeightsError, OverflowError, MemoryError):
    return False


def digest(path: Path) -> str:
  """The SHA-256 in the manifest of the file at `path`; reads only the header. Raises as `read`.

  Of an exported network (`methods.EXPORTED`), the SHA-256 of the file.
  """
  if pathlib.Path(path).suffix in methods.EXPORTED:
    with open(path, 'rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()
  with open(path, 'rb') as file:
    start = file.read(8)
    length = int.from_bytes(start, 'little')
    head = start + file.read(length if length <= os.path.getsize(path) else 0)
  try:
    return json.loads(_metadata(path, head)[METADATA])['sha256']
  except (ValueError, KeyError, TypeError) as error:
    if isinstance(error, WeightsError):
      raise
    raise WeightsError(f'{path}: {_NO_MANIFEST}') from None


def _metadata(path: Path, data: bytes) -> dict[str, str]:
  """The metadata in the header: a length in eight bytes, then that many bytes of JSON."""
  try:
    length = int.from_bytes(data[:8], 'little')
    header = json.loads(data[8 : 8 + length])
    return header.get('__metadata__', {})
  except (ValueError, AttributeError):
    raise WeightsError(f'{path}: not a safetensors file') from None


def _stored(value: Any, dtype: str | None) -> np.ndarray:
  value = np.asarray(value, order='C')
  return value.astype(STORED[dtype]) if dtype and _floating(value) else value


def _large(value: np.ndarray) -> bool:
  return value.ndim > 1 and value.size >= LARGE and _floating(value)


def _floating(value: np.ndarray) -> bool:
  return value.dtype.kind == 'f' or value.dtype == STORED['bfloat16']


def _quantized(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(int8, float32 step sizes `[o]`) of a kernel `[... o]`; channels of zeros have step size 0."""
  step = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / np.float32(127)
  counts = np.divide(kernel, step, out=np.zeros_like(kernel), where=step > 0)
  return np.rint(counts).astype(np.int8), step


def _array(tensor: Mapping[str, Any]) -> np.ndarray:
  return np.frombuffer(tensor['data'], READ[tensor['dtype']]).reshape(tensor['shape'])


def _digest(tensors: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> str:
  manifest = {key: value for key, value in manifest.items() if key != 'sha256'}
  digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
  for name in sorted(tensors):
    value = tensors[name]
    digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
    digest.update(value.tobytes())
  return digest.hexdigest()


def _flat(params: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  flat = {}
  for name, value in params.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f'{prefix}{name}/')
    else:
      flat[prefix + name] = value
  return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
  nested: dict[str, Any] = {}
  for name, value in flat.items():
    *folders, leaf = name.split('/')
    at = nested
    for folder in folders:
      at = at.setdefault(folder, {})
    at[leaf] = value
  return nested


def _shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  return {name: tuple(np.shape(leaf)) for name, leaf in _flat(tree).items()}


def _text(shape: tuple[int, ...]) -> str:
  return f'[{" ".join(map(str, shape))}]'
