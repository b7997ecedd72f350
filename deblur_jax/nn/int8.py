"""Training for INT8: layers that round as an INT8 file will, so that the network learns to bear it.

Quantization-aware training by qwix (Apache-2.0). Weights are rounded to 256 steps for each output
channel, and activations to 256 steps for each image, up to their largest value; gradients pass as
if nothing had been rounded (the straight-through estimator, Bengio et al., arXiv:1308.3432). The
parameters stay float32 and have the same names, so the result is a plain network that
`deblur-jax quantize` takes.
"""

import dataclasses
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import plain


def rounding(model: Any) -> Any:
  """`model` with its layers in simulated INT8, except the first and the last, as in INT8 files.

  Raises ValueError if qwix is not installed.
  """
  try:
    import qwix  # pyright: ignore[reportMissingImports]  # an extra
  except ImportError:
    raise ValueError("training for INT8 needs pip install 'deblur-jax[quantize]'") from None
  layers = layers_in_order(model)
  ends = '|'.join(re.escape(path) for path in (layers[0], layers[-1]))
  rules = [  # the first that matches
    qwix.QuantizationRule(module_path=ends),
    qwix.QuantizationRule(module_path='.*', weight_qtype=jnp.int8, act_qtype=jnp.int8),
  ]

  class Plain(type(model)):
    def __call__(self, *arguments, **options):
      # qwix would round each pixel of a matrix product by itself, and does not see shifted sums.
      with plain():
        return super().__call__(*arguments, **options)

  fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
  made = Plain(**{name: value for name, value in fields.items() if name not in ('parent', 'name')})
  return qwix.quantize_model(made, qwix.QtProvider(rules))


def layers_in_order(model: Any) -> list[str]:
  """The paths of the layers with a kernel, in the order in which they compute."""
  found: list[str] = []

  def watch(call, arguments, options, context):
    result = call(*arguments, **options)
    if context.method_name == '__call__' and context.module.has_variable('params', 'kernel'):
      found.append('/'.join(context.module.path))
    return result

  side = model.needs.square(64)
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  with nn.intercept_methods(watch):
    jax.eval_shape(model.init, jax.random.key(0), image)
  return list(dict.fromkeys(found))
