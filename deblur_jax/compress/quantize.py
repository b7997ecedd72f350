"""An ONNX file -> the same network in INT8, if that loses little on pictures it was not fitted to.

Static quantization by onnxruntime: weights as int8 per output channel, activations as uint8 within
the 99.999th percentile of what calibration pictures give. Largest values would not do: restoration
networks multiply features with each other, and a few products are a hundred times as large as all
others. The layers next to input and output stay in float, where errors are seen directly.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import importlib.util
import json
import logging
import os
import pathlib
import tempfile
from typing import Any, NamedTuple

import numpy as np

from deblur_jax import atomic, exported
from deblur_jax.compress import ranges
from deblur_jax.evaluation.blurred_set import Blurred
from deblur_jax.types import as_float

LAYERS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
"""ONNX's operations with weights."""

PERCENTILE = 99.999
GROUPS = 24
"""Into how many groups layers are divided to find those that lose most."""

Say = Callable[[str], None]
Pairs = Sequence[tuple[np.ndarray, np.ndarray]]
"""(blurred, sharp) crops, float32 `[s s 3]`."""


class Quantized(NamedTuple):
  """What quantization made of a file."""

  psnr_before: float
  """In float, over the held-out crops, in dB."""
  psnr: float
  layers: int
  """How many layers there are."""
  in_float: list[str]
  """The layers that stay in float: nodes of the ONNX graph."""

  @property
  def loss(self) -> float:
    """dB lost on the held-out crops."""
    return self.psnr_before - self.psnr


def check_installed() -> None:
  """Raises ValueError if a package of the extra `export` is missing."""
  for name in ('onnx', 'onnxruntime', 'jax2onnx'):
    if importlib.util.find_spec(name) is None:
      raise ValueError(f"INT8 needs pip install 'deblur-jax[export]' (no module {name})")


def crops(pictures: Blurred) -> Pairs:
  """The crops of an evaluation set that was opened with `crop`."""
  examples = (pictures[i] for i in range(len(pictures)))
  return [(as_float(one['blurred']), as_float(one['sharp'])) for one in examples]


def write(
  source: pathlib.Path,
  path: pathlib.Path,
  calibration: Pairs,
  held_out: Pairs,
  *,
  max_loss: float = 0.2,
  say: Say = print,
) -> Quantized:
  """Writes the ONNX file `source` as INT8 to `path`, and returns what that costs.

  If more than `max_loss` dB are lost on the `held_out` crops, groups of layers are put back into
  float, those that lose most first. Raises ValueError if `source` cannot be used, has no layers to
  quantize, or loses too much whatever is done; nothing is written then.
  """
  network = exported.open_onnx(source)
  with tempfile.TemporaryDirectory(prefix='deblur_jax_') as folder:
    trial = _Trials(source, network, calibration, pathlib.Path(folder))
    found = _search(trial, network, held_out, max_loss, say)
    if set(found.in_float) != trial.written:
      trial.write(found.in_float)
    _copy_metadata(source, trial.result, _record(found, calibration, held_out))
    with atomic.replacing(path) as partial:
      partial.write_bytes(trial.result.read_bytes())
  return found


class _Trials:
  """INT8 versions of one file, all from one calibration."""

  def __init__(
    self, source: pathlib.Path, network: exported.Exported, pairs: Pairs, folder: pathlib.Path
  ):
    import onnx  # pyright: ignore[reportMissingImports]  # an extra
    from onnxruntime.quantization.shape_inference import quant_pre_process  # pyright: ignore

    self._prepared, self.result = folder / 'prepared.onnx', folder / 'int8.onnx'
    self._ranges = folder / 'ranges.json'
    self.written: set[str] = set()  # the layers in float of the file that was written last
    # Its own symbolic shapes fail on sizes that are any multiple of something.
    with _quietly():
      quant_pre_process(os.fspath(source), os.fspath(self._prepared), skip_symbolic_shape=True)
    graph = onnx.load(os.fspath(self._prepared)).graph
    self.layers = _layers(graph)
    self.ends = _ends(graph, set(self.layers))
    inner = set(self.layers) - self.ends
    if not inner:
      raise ValueError(f'{source}: no layers to quantize between the first and the last')
    tensors = {
      name for node in graph.node if node.name in inner for name in (node.input[0], node.output[0])
    }
    feeds = [feed for blurred, _ in pairs for feed in network.feeds(blurred[None])]
    with _quietly():
      found = ranges.collect(self._prepared, tensors, feeds, PERCENTILE)
    self._save(found)

  def _save(self, found: Mapping[str, ranges.Range]) -> None:
    """Stores ranges as a result of onnxruntime's calibration, which `write` then does not do."""
    from onnxruntime.quantization import calibrate  # pyright: ignore[reportMissingImports]

    method = calibrate.CalibrationMethod.MinMax
    calibrate.save_tensors_data(calibrate.TensorsData(method, dict(found)), self._ranges)

  def write(self, in_float: Iterable[str]) -> None:
    """Writes `self.result`, with these layers in float."""
    from onnxruntime import quantization  # pyright: ignore[reportMissingImports]

    self.written = set(in_float)
    with _quietly():
      quantization.quantize_static(
        os.fspath(self._prepared),
        os.fspath(self.result),
        None,  # no pictures: the ranges are known
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=list(LAYERS),
        nodes_to_quantize=sorted(set(self.layers) - self.written),
        calibration_cache_path=os.fspath(self._ranges),
        extra_options={'MatMulConstBOnly': True},
      )

  def psnr(self, in_float: Iterable[str], pairs: Pairs) -> float:
    """Over `pairs` with these layers in float, in dB."""
    self.write(in_float)
    return _psnr(exported.open_onnx(self.result).restore, pairs)


def _search(
  trial: _Trials, network: exported.Exported, held_out: Pairs, max_loss: float, say: Say
) -> Quantized:
  """The fewest groups of layers in float that keep the loss within `max_loss`, costliest first."""
  before = _psnr(network.restore, held_out)

  def outcome(in_float: Iterable[str]) -> Quantized:
    in_float = [name for name in trial.layers if name in set(in_float)]
    return Quantized(before, trial.psnr(in_float, held_out), len(trial.layers), in_float)

  best = outcome(trial.ends)
  if best.loss <= max_loss:
    return best
  say(f'INT8 loses {best.loss:.2f} dB; looking for the layers that cost most')
  inner = [name for name in trial.layers if name not in trial.ends]
  groups = [list(group) for group in np.array_split(inner, min(GROUPS, len(inner)))]
  gains = [trial.psnr([*trial.ends, *group], held_out) for group in groups]
  order = [groups[i] for i in np.argsort(gains)[::-1]]
  least, most = 1, len(order) - 1
  accepted = None
  while least <= most:
    count = (least + most) // 2
    tried = outcome([*trial.ends, *(name for group in order[:count] for name in group)])
    if tried.loss <= max_loss:
      accepted, most = tried, count - 1
    else:
      least = count + 1
  if accepted is None:
    raise ValueError(
      f'INT8 loses {best.loss:.2f} dB, and still more than {max_loss:g} with all but a few layers '
      'in float: not written'
    )
  return accepted


def _psnr(restore: Callable[..., np.ndarray], pairs: Pairs) -> float:
  """The mean over `pairs`, in dB."""
  errors = [np.mean((np.clip(restore(one[None])[0], 0, 1) - two) ** 2) for one, two in pairs]
  return float(np.mean(-10 * np.log10(np.maximum(errors, 1e-12))))


def _layers(graph: Any) -> list[str]:
  """The names of the nodes that have weights, in the order of the graph."""
  constants = {one.name for one in graph.initializer}
  return [
    node.name
    for node in graph.node
    if node.op_type in LAYERS and any(name in constants for name in node.input[1:2])
  ]


def _ends(graph: Any, layers: set[str]) -> set[str]:
  """The layers that see the input, or whose results reach the output, through no other layer."""
  ends: set[str] = set()
  nodes = [node for node in graph.node if node.op_type != 'Shape']  # no pixels pass through those
  reached = {one.name for one in graph.input}
  for node in nodes:
    if reached & set(node.input):
      if node.name in layers:
        ends.add(node.name)
      else:
        reached |= set(node.output)
  wanted = {one.name for one in graph.output}
  for node in reversed(nodes):
    if wanted & set(node.output):
      if node.name in layers:
        ends.add(node.name)
      else:
        wanted |= set(node.input)
  return ends


def _record(found: Quantized, calibration: Pairs, held_out: Pairs) -> dict[str, Any]:
  """What the manifest says about the quantization."""
  return {
    'method': f'onnxruntime static QDQ, int8 per channel, {PERCENTILE} percentile',
    'calibration_crops': len(calibration),
    'held_out_crops': len(held_out),
    'psnr_float': round(found.psnr_before, 3),
    'psnr': round(found.psnr, 3),
    'layers': found.layers,
    'layers_in_float': len(found.in_float),
  }


def _copy_metadata(source: pathlib.Path, target: pathlib.Path, record: dict[str, Any]) -> None:
  """Gives `target` the metadata of `source`, with `record` in the manifest if there is one."""
  import onnx  # pyright: ignore[reportMissingImports]

  kept = {one.key: one.value for one in onnx.load(os.fspath(source)).metadata_props}
  if exported.METADATA in kept:
    manifest = json.loads(kept[exported.METADATA]) | {'dtype': 'int8', 'quantized': record}
    kept[exported.METADATA] = json.dumps(manifest)
  model = onnx.load(os.fspath(target))
  onnx.helper.set_model_props(model, kept)
  onnx.save(model, os.fspath(target))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
  """Without onnxruntime's advice, its warnings and what it prints."""
  import onnxruntime  # pyright: ignore[reportMissingImports]

  level = logging.root.level
  logging.root.setLevel(logging.ERROR)
  onnxruntime.set_default_logger_severity(3)  # errors
  try:
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
      yield
  finally:
    logging.root.setLevel(level)
    onnxruntime.set_default_logger_severity(2)  # its default, warnings
