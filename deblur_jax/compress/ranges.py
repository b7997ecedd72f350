"""The range of every activation of an ONNX file on calibration pictures, without rare extremes.

onnxruntime's own percentile calibration sorts every value into a histogram, to which a picture with
larger values adds bins without limit. Here only the few values of largest magnitude are kept, which
are all that a percentile near 100 depends on: the result is exact, and each value costs a few
comparisons.
"""

from collections.abc import Iterable, Mapping, Sequence
import os
import pathlib

import numpy as np

Range = tuple[np.float32, np.float32]


class Extremes:
  """The smallest and the largest of many values, of those within a percentile of the magnitudes.

  Args:
    count: how many values there will be.
    percentile: how many of them, in percent, stay within the range; the rest is cut off.
  """

  def __init__(self, count: int, percentile: float):
    self._kept = int(round(count * (100 - percentile) / 100, 6)) + 1
    self._largest = np.empty(0, np.float32)
    self._low, self._high = np.float32(np.inf), np.float32(-np.inf)

  def add(self, values: np.ndarray) -> None:
    """Adds values of any shape."""
    self._low = min(self._low, values.min())
    self._high = max(self._high, values.max())
    found = np.abs(values).ravel()
    if len(self._largest) == self._kept:
      found = found[found > self._largest.min()]
    found = np.concatenate([self._largest, found])
    if len(found) > self._kept:
      found = np.partition(found, -self._kept)[-self._kept :]
    self._largest = found

  def range(self) -> Range:
    """(smallest, largest), float32."""
    limit = self._largest.min()
    return max(self._low, -limit), min(self._high, limit)


def collect(
  path: pathlib.Path,
  tensors: Iterable[str],
  feeds: Sequence[Mapping[str, np.ndarray]],
  percentile: float,
) -> dict[str, Range]:
  """The range of each of the `tensors` of an ONNX file that is run on `feeds`, all of one shape."""
  import onnx  # pyright: ignore[reportMissingImports]  # an extra
  import onnxruntime  # pyright: ignore[reportMissingImports]

  model = onnx.load(os.fspath(path))
  names = sorted(set(tensors))
  del model.graph.output[:]
  model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=['CPUExecutionProvider']
  )
  found: dict[str, Extremes] = {}
  for feed in feeds:
    for name, values in zip(names, map(np.asarray, session.run(names, feed)), strict=True):
      if name not in found:
        found[name] = Extremes(values.size * len(feeds), percentile)
      found[name].add(values)
  return {name: extremes.range() for name, extremes in found.items()}
