"""The range of every activation of an ONNX file on calibration pictures, without rare extremes.

onnxruntime's own percentile calibration sorts every value into a histogram, to which a picture with
larger values adds bins without limit. Here only the few values of largest magnitude are kept, which
are all that a percentile near 100 depends on: the result is exact. The file itself selects them, so
that no activation, of which a network may have gigabytes, outlives its use.
"""

from collections.abc import Iterable, Mapping, Sequence
import os
import pathlib
from typing import Any

import numpy as np

Range = tuple[np.float32, np.float32]

RESULTS = ('smallest', 'largest', 'count', 'magnitudes')
"""What is found out about an activation: its extremes, its size, and its largest magnitudes."""


def collect(
  path: pathlib.Path,
  tensors: Iterable[str],
  feeds: Sequence[Mapping[str, np.ndarray]],
  percentile: float,
) -> dict[str, Range]:
  """(smallest, largest) of each of the `tensors` of an ONNX file that is run on `feeds`.

  Of the magnitudes of a tensor's values, `percentile` percent are within its range. All `feeds`
  have one shape.
  """
  import onnx  # pyright: ignore[reportMissingImports]  # an extra
  import onnxruntime  # pyright: ignore[reportMissingImports]

  model, names = onnx.load(os.fspath(path)), sorted(set(tensors))
  cut = len(feeds) * (100 - percentile) / 100  # values to cut off, per value of one picture
  _observe(model.graph, names, cut)
  options = onnxruntime.SessionOptions()
  # In the order of the file, in which an activation is observed as soon as it is known.
  options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), options, providers=['CPUExecutionProvider']
  )
  runs: list[Any] = [session.run(None, feed) for feed in feeds]
  step = len(RESULTS)
  return {
    name: _range([run[step * i : step * (i + 1)] for run in runs], cut)
    for i, name in enumerate(names)
  }


def _range(parts: Sequence[Sequence[np.ndarray]], cut: float) -> Range:
  """The range of a tensor from the `RESULTS` of all pictures."""
  smallest, largest, counts, magnitudes = zip(*parts, strict=True)
  kept = int(counts[0] * cut + 1e-6) + 1
  limit = np.sort(np.concatenate(magnitudes))[-kept]
  return max(min(smallest), -limit), min(max(largest), limit)


def _observe(graph: Any, names: Sequence[str], cut: float) -> None:
  """Replaces the outputs of `graph` by the `RESULTS` about each of the tensors called `names`."""
  from onnx import TensorProto, ValueInfoProto, helper  # pyright: ignore[reportMissingImports]

  def constant(name: str, kind: int, *values: float) -> str:
    graph.initializer.append(helper.make_tensor(f':{name}', kind, [len(values)], values))
    return f':{name}'

  flat = constant('flat', TensorProto.INT64, -1)
  share = constant('share', TensorProto.DOUBLE, cut)
  more = constant('more', TensorProto.DOUBLE, 1 + 1e-6)
  observers = {}
  del graph.output[:]
  for name in names:
    smallest, largest, count, magnitudes = (f'{name}:{result}' for result in RESULTS)
    steps = [
      ('ReduceMin', [name], [smallest], {'keepdims': 0}),
      ('ReduceMax', [name], [largest], {'keepdims': 0}),
      ('Size', [name], [count], {}),
      ('Cast', [count], [f'{name}:exact'], {'to': TensorProto.DOUBLE}),
      ('Mul', [f'{name}:exact', share], [f'{name}:cut'], {}),
      ('Add', [f'{name}:cut', more], [f'{name}:sum'], {}),
      ('Cast', [f'{name}:sum'], [f'{name}:kept'], {'to': TensorProto.INT64}),
      ('Abs', [name], [f'{name}:abs'], {}),
      ('Reshape', [f'{name}:abs', flat], [f'{name}:flat'], {}),
      ('TopK', [f'{name}:flat', f'{name}:kept'], [magnitudes, f'{name}:places'], {'sorted': 0}),
    ]
    observers[name] = [helper.make_node(kind, *ends, **options) for kind, *ends, options in steps]
    graph.output.extend(ValueInfoProto(name=f'{name}:{result}') for result in RESULTS)
  nodes = list(graph.node)
  del graph.node[:]
  for node in nodes:
    graph.node.append(node)
    for name in node.output:
      graph.node.extend(observers.get(name, ()))
