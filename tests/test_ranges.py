"""Ranges of activations: exact percentiles, also if pictures differ a thousandfold."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='the extra export is not installed')
pytest.importorskip('onnxruntime', reason='the extra export is not installed')

from deblur_jax.compress import ranges  # noqa: E402  # needs the extra


@pytest.fixture(scope='module')
def doubled(tmp_path_factory):
  """A file that doubles its input, any number of values, to y and gives back z = -y."""
  from onnx import TensorProto, helper

  two = helper.make_tensor('two', TensorProto.FLOAT, [], [2])
  nodes = [helper.make_node('Mul', ['x', 'two'], ['y']), helper.make_node('Neg', ['y'], ['z'])]
  given, made = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ['a', 'b']) for n in 'xz')
  graph = helper.make_graph(nodes, 'graph', [given], [made], [two])
  path = tmp_path_factory.mktemp('ranges') / 'm.onnx'
  opset = [helper.make_opsetid('', 17)]
  onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
  return path


@pytest.mark.parametrize('percentile', [99, 99.9, 100])
def test_a_range_holds_a_percentile_of_the_magnitudes(doubled, percentile):
  drawn = np.random.default_rng(0).normal(1, 1, (4, 50, 50)).astype(np.float32)
  drawn[3] *= 1000  # a picture unlike those before it
  low, high = ranges.collect(doubled, ['y'], [{'x': one} for one in drawn], percentile)['y']
  made = 2 * drawn
  limit = np.sort(np.abs(made), axis=None)[-1 - round(made.size * (100 - percentile) / 100)]
  assert (low, high) == (max(made.min(), -limit), min(made.max(), limit))
  assert low.dtype == high.dtype == np.float32
  inside = np.mean((made >= low) & (made <= high))
  assert inside == pytest.approx(percentile / 100, abs=1e-6)


def test_every_activation_of_a_file_has_its_range(doubled):
  feeds = [{'x': np.float32([[0, 1, 2, 3]])}, {'x': np.float32([[4, 5, 6, 700]])}]
  assert ranges.collect(doubled, ['y', 'z'], feeds, 100) == {'y': (0, 1400), 'z': (-1400, 0)}
  # One of eight values is cut off.
  assert ranges.collect(doubled, ['y', 'z'], feeds, 87) == {'y': (0, 12), 'z': (-12, 0)}


def test_an_activation_is_observed_before_the_next_layer(doubled):
  graph = onnx.load(doubled).graph
  ranges._observe(graph, ['y'], 0.0)
  kinds = [node.op_type for node in graph.node]
  assert (kinds[0], kinds[-2], kinds[-1]) == ('Mul', 'TopK', 'Neg')  # or all have to be kept
