"""ONNX files by jax2onnx, with any height and width.

jax2onnx cannot divide an unknown height by the strides of a network. So a network that needs sides
in multiples of m is traced on images packed into blocks of m x m pixels, `[b h w m*m*3]`, whose
unknown sides it never has to divide, and ONNX's own SpaceToDepth packs them.
"""

import contextlib
import json
import logging
import pathlib
from typing import Any
from unittest import mock
import zipfile

import jax

from deblur_jax import atomic, exported
from deblur_jax.export import Request, difference
from deblur_jax.nn.conv import plain

INPUT, OUTPUT = 'input', 'output'


def write(path: pathlib.Path, request: Request, *, layout: str = 'nhwc', opset: int = 17) -> float:
  """Writes an ONNX file, tried against JAX first; returns their largest difference.

  `layout` is that of the file's images, 'nhwc' or 'nchw'. Raises ValueError if an operation of the
  network cannot be exported, the result differs or jax2onnx is missing.
  """
  model = _model(request, layout, opset)
  with atomic.replacing(path) as partial:
    partial.write_bytes(model.SerializeToString())
    session = exported.open_onnx(partial)
    return difference(request, session.restore)


def write_darktable(path: pathlib.Path, request: Request) -> float:
  """Writes a `.dtmodel` archive for darktable's AI modules; returns the difference as `write`.

  It holds a model `[1 3 h w]` of the task 'denoise', the only one that maps a picture to a picture
  of the same size, with its config.json and a model card.
  """
  name = path.stem
  identifier = f'denoise-{name}'
  config = {
    'id': identifier,
    'name': f'deblur {name}',
    'description': f'deblurring by {request.manifest["network"]}, exported by deblur_jax',
    'task': 'denoise',
    'arch': request.manifest['network'],
    'backend': 'onnx',
    'version': '1.0',
    'tiling': True,
    'num_inputs': 1,
  }
  inner = path.with_name(f'.{path.name}.onnx')
  try:
    error = write(inner, request, layout='nchw')
    with atomic.replacing(path) as partial, zipfile.ZipFile(partial, 'w') as archive:
      archive.write(inner, f'{identifier}/model.onnx', zipfile.ZIP_DEFLATED)
      archive.writestr(f'{identifier}/config.json', json.dumps(config, indent=2) + '\n')
      archive.writestr(f'{identifier}/README.md', _card(name, request))
  finally:
    inner.unlink(missing_ok=True)
  return error


def _card(name: str, request: Request) -> str:
  """The model card: what darktable asks of a model, as far as the manifest says it."""
  manifest = request.manifest
  lines = {
    'Network': manifest['network'],
    'Model license': manifest.get('license', 'not stated'),
    'Attribution': manifest.get('attribution', 'not stated'),
    'Source of the weights': manifest.get('origin', 'trained with deblur_jax'),
    'Training data': json.dumps(manifest.get('data', 'not stated')),
    'Training code': 'deblur_jax, Apache-2.0',
    'SHA-256 of the weights': manifest['sha256'],
    'Input and output': 'float32 [1, 3, H, W], sRGB in [0, 1]',
    'Sides': f'multiples of {request.needs.multiple}',
    'Inference': 'local only',
  }
  table = '\n'.join(f'| {key} | {value} |' for key, value in lines.items())
  return f'# deblur {name}\n\nRemoves blur from photographs.\n\n| | |\n|---|---|\n{table}\n'


def _model(request: Request, layout: str, opset: int) -> Any:
  """The ONNX model, with its metadata."""
  try:
    import jax2onnx  # pyright: ignore[reportMissingImports]  # an extra
    import onnx  # pyright: ignore[reportMissingImports]
    import onnxruntime  # noqa: F401  # pyright: ignore[reportMissingImports]  # tries the result
  except ImportError as error:
    raise ValueError(f"ONNX export needs pip install 'deblur-jax[export]' ({error})") from None
  m = request.needs.multiple
  packed = request.size is None and m > 1
  sides = request.size or (('h', 'w') if packed else ('H', 'W'))
  channels = 3 * m * m if packed else 3
  shape = (request.batch or 'B', *sides, channels)

  def run(images: jax.Array) -> jax.Array:
    return request.apply(_unpacked(images, m) if packed else images)

  try:
    with plain(), _exporting():
      model = jax2onnx.to_onnx(run, [shape], opset=opset)
  except Exception as error:  # jax2onnx raises whatever its converters do
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    hint = '; try a fixed --size HxW' if request.size is None else ''
    network = request.manifest['network']
    raise ValueError(
      f'{network} cannot be exported to ONNX like this ({reason[:200]}){hint}'
    ) from None
  _wrap(model, layout, block=m if packed else 1)
  model.producer_name = 'deblur_jax'
  onnx.helper.set_model_props(model, {exported.METADATA: json.dumps(request.manifest)})
  onnx.checker.check_model(model)
  return model


def _unpacked(blocks: jax.Array, m: int) -> jax.Array:
  """`[b h w m*m*3]` as `[b m*h m*w 3]`."""
  b, h, w, _ = blocks.shape
  pixels = blocks.reshape(b, h, w, m, m, 3).transpose(0, 1, 3, 2, 4, 5)
  return pixels.reshape(b, h * m, w * m, 3)


def _wrap(model: Any, layout: str, *, block: int) -> None:
  """Names input and output, packs the input by `block`, and turns both into `layout`."""
  from onnx import TensorProto, helper  # pyright: ignore[reportMissingImports]

  graph = model.graph
  inner, result = graph.input[0].name, graph.output[0].name
  dims = [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
  height, width = dims[1:3] if block == 1 else ('H', 'W')
  shape = [dims[0], height, width, 3] if layout == 'nhwc' else [dims[0], 3, height, width]
  before = []
  if layout == 'nhwc' and block == 1:
    before.append(helper.make_node('Identity', [INPUT], [inner]))
  else:
    planes = INPUT
    if layout == 'nhwc':
      before.append(helper.make_node('Transpose', [INPUT], ['planes'], perm=[0, 3, 1, 2]))
      planes = 'planes'
    if block > 1:
      before.append(helper.make_node('SpaceToDepth', [planes], ['blocks'], blocksize=block))
      planes = 'blocks'
    before.append(helper.make_node('Transpose', [planes], [inner], perm=[0, 2, 3, 1]))
  if layout == 'nhwc':
    after = helper.make_node('Identity', [result], [OUTPUT])
  else:
    after = helper.make_node('Transpose', [result], [OUTPUT], perm=[0, 3, 1, 2])
  nodes = [*before, *graph.node, after]
  del graph.node[:], graph.input[:], graph.output[:]
  graph.node.extend(nodes)
  graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))
  graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))


@contextlib.contextmanager
def _exporting():
  """What jax2onnx 0.17 needs: copies share the scope of unknown sizes; fewer warnings; speed.

  It copies jaxprs deeply, and JAX's scopes fail to be copied if two sizes in them have one hash.
  """
  logger = logging.getLogger('onnx_ir')
  scope: Any = jax.export.SymbolicScope
  level = logger.level
  logger.setLevel(logging.ERROR)
  scope.__deepcopy__ = lambda self, memo: self
  try:
    with _quick_lookups():
      yield
  finally:
    del scope.__deepcopy__
    logger.setLevel(level)


@contextlib.contextmanager
def _quick_lookups():
  """Without jax2onnx's searches through all nodes for those that make or use a value.

  It makes them for every equation and every step of its optimizer, so that large networks take
  minutes. The values know both.
  """
  from jax2onnx.converter import (  # pyright: ignore[reportMissingImports]
    conv_transpose_bias_folding,
    ir_optimizations,
    output_binding,
  )

  search_producer = ir_optimizations._producer_node
  search_consumers = ir_optimizations._consumer_nodes
  search_named = ir_optimizations._has_named_consumer
  search_graph = output_binding._value_is_graph_connected

  def producer(nodes, value):
    if not hasattr(value, 'producer'):  # a name
      return search_producer(nodes, value)
    found = value.producer()
    return found if found is not None and found.graph is not None else None  # not removed

  def consumers(nodes, value):
    if not hasattr(value, 'consumers'):
      return search_consumers(nodes, value)
    return [node for node in value.consumers() if node.graph is not None]

  def named(nodes, *, producer, output_name):
    outputs = (output for output in producer.outputs if output.name == output_name)
    if any(consumers(nodes, output) for output in outputs):
      return True
    return search_named(nodes, producer=producer, output_name=output_name)

  def connected(context, value):
    return value.producer() is not None or search_graph(context, value)

  with (
    mock.patch.object(ir_optimizations, '_producer_node', producer),
    mock.patch.object(conv_transpose_bias_folding, '_producer_node', producer),
    mock.patch.object(ir_optimizations, '_has_named_consumer', named),
    mock.patch.object(ir_optimizations, '_consumer_nodes', consumers),
    mock.patch.object(output_binding, '_value_is_graph_connected', connected),
  ):
    yield
