"""Networks from files that hold the whole computation: ONNX from anywhere, and our StableHLO.

An ONNX file from elsewhere works if it maps one batch of RGB images in [0, 1], `[b 3 h w]` or
`[b h w 3]`, to another of the same size. Files that deblur_jax exported say in their metadata what
they need of an image.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import json
import os
import pathlib
from typing import Any, NamedTuple
import zipfile

import jax
import numpy as np

from deblur_jax.types import Needs

METADATA = 'deblur_jax'
"""The key of an ONNX file's metadata that holds the manifest."""

MANIFEST, PROGRAM = 'manifest.json', 'exported'
"""Names in a StableHLO file, a zip."""

MULTIPLE, HALO = 64, 64
"""Assumed of ONNX files that do not say what they need."""


class Exported(NamedTuple):
  """A network out of a file."""

  restore: Callable[..., np.ndarray]
  """`[b h w 3]` float32 -> the same."""
  needs: Needs
  manifest: Mapping[str, Any]
  """Empty for a file from elsewhere."""
  feeds: Callable[[np.ndarray], Iterator[dict[str, np.ndarray]]] = lambda images: iter(())
  """`[b h w 3]` float32 -> what onnxruntime is given for it, run by run; nothing for StableHLO."""


def open_file(path: str | os.PathLike[str]) -> Exported:
  """The network in an `.onnx` or `.stablehlo` file. Raises ValueError if it cannot be used."""
  path = pathlib.Path(path)
  return open_onnx(path) if path.suffix == '.onnx' else open_stablehlo(path)


def open_stablehlo(path: pathlib.Path) -> Exported:
  """The network in a zip that `export.stablehlo.write` made."""
  try:
    with zipfile.ZipFile(path) as archive:
      manifest = json.loads(archive.read(MANIFEST))
      program = jax.export.deserialize(bytearray(archive.read(PROGRAM)))
  except (zipfile.BadZipFile, KeyError, ValueError) as error:
    raise ValueError(f'{path}: not a StableHLO file of deblur_jax, or damaged ({error})') from None
  shape = [side if isinstance(side, int) else 0 for side in program.in_avals[0].shape]
  run = jax.jit(program.call)
  restore = _of_any_size(lambda images: np.asarray(run(images)), shape[0], shape[1:3])
  return Exported(restore, Needs(**manifest['needs']), manifest)


def open_onnx(path: pathlib.Path) -> Exported:
  """The network in an ONNX file, run by onnxruntime on the device that JAX uses."""
  try:
    import onnxruntime  # pyright: ignore[reportMissingImports]  # an extra
  except ImportError:
    raise ValueError(f"{path}: ONNX files need pip install 'deblur-jax[export]'") from None
  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3  # errors; it warns of initializers that are not used
  providers = _providers(onnxruntime)
  try:
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
  except Exception as error:  # onnxruntime's exceptions have no base class but this
    reason = str(error).partition('\n')[0].rpartition(' : ')[2]
    raise ValueError(f'{path}: onnxruntime cannot load this file ({reason[:200]})') from None
  inputs, outputs = session.get_inputs(), session.get_outputs()
  if len(inputs) != 1 or len(outputs) != 1:
    raise ValueError(
      f'{path}: has {len(inputs)} inputs and {len(outputs)} outputs; only a model with one picture '
      'in and one out can restore'
    )
  dtype = {'tensor(float)': np.float32, 'tensor(float16)': np.float16}.get(inputs[0].type)
  shape = inputs[0].shape
  if dtype is None or len(shape) != 4 or 3 not in (shape[1], shape[3]):
    raise ValueError(
      f'{path}: the input is {inputs[0].type} {shape}; supported are floats [b 3 h w] or [b h w 3]'
    )
  planes = shape[3] != 3
  known = [side if isinstance(side, int) else 0 for side in shape]
  sides = known[2:] if planes else known[1:3]

  def feed(images: np.ndarray) -> dict[str, np.ndarray]:
    given = images.astype(dtype)
    return {inputs[0].name: np.ascontiguousarray(given.transpose(0, 3, 1, 2)) if planes else given}

  def run(images: np.ndarray) -> np.ndarray:
    result: Any = session.run(None, feed(images))[0]
    return (result.transpose(0, 2, 3, 1) if planes else result).astype(np.float32)

  def feeds(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    return map(feed, _runs(np.asarray(images, np.float32), known[0], sides))

  restore = _of_any_size(run, known[0], sides)
  metadata = session.get_modelmeta().custom_metadata_map
  if METADATA in metadata:
    manifest = json.loads(metadata[METADATA])
    return Exported(restore, Needs(**manifest['needs']), manifest, feeds)
  side = min(sides)
  if side:
    return Exported(restore, Needs(1, 'approximate', min(HALO, side // 8), side), {}, feeds)
  return Exported(restore, Needs(MULTIPLE, 'approximate', HALO), {}, feeds)


def _runs(images: np.ndarray, batch: int, sides: Sequence[int]) -> Iterator[np.ndarray]:
  """`images` as the batches that a file takes, padded by reflection to its `sides`."""
  count, height, width, _ = images.shape
  margins = [(0, max(side - size, 0)) for side, size in zip(sides, (height, width), strict=True)]
  images = np.pad(images, ((0, -count % batch if batch else 0), *margins, (0, 0)), 'symmetric')
  size = batch or len(images)
  for i in range(0, len(images), size):
    yield images[i : i + size]


def _of_any_size(
  run: Callable[[np.ndarray], np.ndarray], batch: int, sides: Sequence[int]
) -> Callable[..., np.ndarray]:
  """`run` for any number of images, which it takes `batch` at a time (0: any number).

  If it takes only images of `sides` (height, width; 0: any), smaller ones are padded by reflection.
  """

  def restore(blurred: np.ndarray, **known: Any) -> np.ndarray:
    del known
    images = np.asarray(blurred, np.float32)
    count, height, width, _ = images.shape
    results = []
    for given in _runs(images, batch, sides):
      result = run(given)
      if result.shape != given.shape:
        old, new = (f'{one.shape[2]}x{one.shape[1]}' for one in (given, result))
        raise ValueError(f'the model turns {old} pixels into {new}; a restoration keeps the size')
      results.append(result)
    return np.concatenate(results)[:count, :height, :width]

  return restore


def _providers(onnxruntime: Any) -> list[str]:
  """Execution providers for the device that JAX uses, the CPU as the last resort."""
  for_gpu = ['CUDAExecutionProvider', 'ROCMExecutionProvider']
  wanted = for_gpu if jax.default_backend() == 'gpu' else []
  available = onnxruntime.get_available_providers()
  return [one for one in wanted if one in available] + ['CPUExecutionProvider']
