"""Convolutions with torch's arithmetic, in whichever form is fast on the backend.

On the CPU, XLA computes depthwise, 1x1, unpadded and transposed convolutions, and above all their
gradients, many times slower than necessary. Each of these layers therefore has two forms with the
same arithmetic and the same parameter tree: the plain form, one `lax` convolution, for GPU, TPU and
export; and the fast form for the CPU. `fast()` chooses at trace time.

All take `[b h w c]`, use explicit padding (never 'SAME', which pads strided convolutions
differently from torch), and use torch's default initialization: weights and biases uniform within
1 / sqrt(fan_in). If a paper uses another one, `kernel_init` is that one and biases start at 0.
"""

from collections.abc import Callable, Iterator
import contextlib
import contextvars
import math
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from deblur_jax.nn.parameters import parameter

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
_plain_asked = contextvars.ContextVar('plain_asked', default=False)


def fast() -> bool:
  """Whether layers traced now use their CPU form."""
  return jax.default_backend() == 'cpu' and not _plain_asked.get()


@contextlib.contextmanager
def plain() -> Iterator[None]:
  """Makes layers traced inside the block use their plain form, for export and for counting.

  Functions that `jax.jit` has already traced keep their form.
  """
  token = _plain_asked.set(True)
  try:
    yield
  finally:
    _plain_asked.reset(token)


def torch_uniform(fan_in: int) -> Callable[..., jax.Array]:
  """Initializer: uniform within 1 / sqrt(fan_in), torch's kaiming_uniform(a=sqrt(5))."""
  bound = 1 / math.sqrt(fan_in)

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def conv(x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0) -> jax.Array:
  """Cross-correlation of `[b h w i]` with `[k k i o]`, zero padded."""
  if fast() and kernel.shape[:2] == (1, 1) and stride == 1 and padding == 0:
    return jnp.einsum('bhwi,io->bhwo', x, kernel[0, 0])
  if fast() and stride == 1 and padding == 0:
    # Unpadded, XLA takes up to twenty times as long on the CPU (jax 0.10.2).
    return conv(x, kernel, padding=1)[:, 1:-1, 1:-1]
  return lax.conv_general_dilated(
    x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=_LAYOUT
  )


def depthwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Cross-correlation of each channel of `[b h w c]` with its own odd-sized filter `[k k 1 c]`.

  Zero padded to the same size. The fast form defines its own gradient, which rules out forward-mode
  differentiation (`jax.jvp`); use `plain()` for that.
  """
  if fast():
    return _shifted_depthwise(x, kernel)
  margin = kernel.shape[0] // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    [(margin, margin)] * 2,
    dimension_numbers=_LAYOUT,
    feature_group_count=x.shape[-1],
  )


def conv_transpose(
  x: jax.Array, kernel: jax.Array, *, stride: int, padding: int = 0, output_padding: int = 0
) -> jax.Array:
  """torch's ConvTranspose2d of `[b h w i]`, sides (h - 1) stride - 2 padding + k + output_padding.

  `kernel` is `[k k i o]`, spatially flipped from torch's: the filter that slides over the
  zero-dilated input. The fast form, available if sides grow exactly `stride` times, skips the
  multiplications by those zeros.
  """
  size = kernel.shape[0]
  # If some phase does not see the input pixel it lies on, its convolution would need negative
  # padding, for which XLA's gradients on the CPU are wrong (jax 0.10.2).
  if fast() and size + output_padding - 2 * padding == stride <= size - padding:
    return _phased_transpose(x, kernel, stride, padding)
  before = size - 1 - padding
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    [(before, before + output_padding)] * 2,
    lhs_dilation=(stride, stride),
    dimension_numbers=_LAYOUT,
  )


@jax.custom_vjp
def _shifted_depthwise(x, kernel):
  """Depthwise convolution as k * k shifted multiply-adds, fused into one loop by XLA."""
  size, (height, width) = kernel.shape[0], x.shape[1:3]
  padded, kernel = _pad(x, size // 2).astype(jnp.float32), kernel.astype(jnp.float32)
  total = sum(
    padded[:, i : i + height, j : j + width] * kernel[i, j][None, None]
    for i in range(size)
    for j in range(size)
  )
  return total.astype(x.dtype)


def _shifted_forward(x, kernel):
  return _shifted_depthwise(x, kernel), (x, kernel)


def _shifted_backward(saved, cotangent):
  x, kernel = saved
  size, (height, width) = kernel.shape[0], x.shape[1:3]
  padded = _pad(x, size // 2)

  # Row by row, because k * k separate sums over the image would each read all of it from memory;
  # one sum per image, so that devices that share a batch need not synchronize at every row.
  def add_row(total, row):
    here = lax.dynamic_index_in_dim(cotangent, row, 1, keepdims=False).astype(jnp.float32)
    rows = lax.dynamic_slice_in_dim(padded, row, size, 1).astype(jnp.float32)  # [b k w+k-1 c]
    taps = [
      jnp.sum(rows[:, i, j : j + width] * here, axis=1) for i in range(size) for j in range(size)
    ]
    return total + jnp.stack(taps, axis=1), None  # [b k*k c]

  start = jnp.zeros((x.shape[0], size * size, x.shape[-1]), jnp.float32)
  total, _ = lax.scan(add_row, start, jnp.arange(height))
  kernel_gradient = total.sum(axis=0).reshape(kernel.shape).astype(kernel.dtype)
  return _shifted_depthwise(cotangent, kernel[::-1, ::-1]), kernel_gradient


_shifted_depthwise.defvjp(_shifted_forward, _shifted_backward)


def _phased_transpose(x, kernel, stride, padding):
  """Transposed convolution as one small convolution for each of the stride^2 output phases."""
  b, h, w, _ = x.shape
  size, _, inputs, outputs = kernel.shape
  if size == stride:  # every output pixel sees one input pixel: a single matrix product
    flat = kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(inputs, -1)
    phases = jnp.einsum('bhwi,io->bhwo', x, flat).reshape(b, h, w, stride, stride, outputs)
    phases = phases.transpose(0, 1, 3, 2, 4, 5)
  else:
    taps = [_phase_taps(phase, size, stride, padding) for phase in range(stride)]
    phases = [
      [
        lax.conv_general_dilated(
          x, kernel[rows, columns], (1, 1), [above, left], dimension_numbers=_LAYOUT
        )
        for columns, left in taps
      ]
      for rows, above in taps
    ]
    phases = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)  # [b h s w s o]
  return phases.reshape(b, h * stride, w * stride, outputs)


def _phase_taps(phase, size, stride, padding):
  """The taps of a flipped filter for output pixels `stride * n + phase`, and their padding."""
  # Unflipped, tap t maps input n - d to output stride * n + phase, with t = stride * d + offset.
  offset = phase + padding
  first = -(offset // stride)
  last = (size - 1 - offset) // stride
  taps = slice(size - 1 - (stride * last + offset), size - (stride * first + offset), stride)
  return taps, (last, -first)


def _pad(x, margin):
  return jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))


def _initializers(fan_in, kernel_init=None):
  """The initializers of kernel and bias."""
  if kernel_init is None:
    return torch_uniform(fan_in), torch_uniform(fan_in)
  return kernel_init, nn.initializers.zeros


def _with_bias(module, x, features, init):
  bias = parameter(module, 'bias', init, (features,))
  return x + bias.astype(x.dtype).reshape(1, 1, 1, features)


class Conv(nn.Module):
  """`conv` with weights: {'kernel': [k k i o], 'bias': [o]}; pads by k // 2 by default."""

  features: int
  kernel_size: int = 3
  stride: int = 1
  padding: int | None = None
  use_bias: bool = True
  kernel_init: Callable[..., jax.Array] | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    size, inputs = self.kernel_size, x.shape[-1]
    kernel_init, bias_init = _initializers(size * size * inputs, self.kernel_init)
    padding = size // 2 if self.padding is None else self.padding
    kernel = parameter(self, 'kernel', kernel_init, (size, size, inputs, self.features))
    x = conv(x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride, padding=padding)
    return _with_bias(self, x, self.features, bias_init) if self.use_bias else x


class DepthwiseConv(nn.Module):
  """`depthwise_conv` with weights: {'kernel': [k k 1 c], 'bias': [c]}."""

  kernel_size: int = 3
  use_bias: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    size, channels = self.kernel_size, x.shape[-1]
    kernel_init, bias_init = _initializers(size * size)
    kernel = parameter(self, 'kernel', kernel_init, (size, size, 1, channels))
    x = depthwise_conv(x.astype(self.dtype), kernel.astype(self.dtype))
    return _with_bias(self, x, channels, bias_init) if self.use_bias else x


class ConvTranspose(nn.Module):
  """`conv_transpose` with weights: {'kernel': [k k i o], 'bias': [o]}."""

  features: int
  kernel_size: int
  stride: int
  padding: int = 0
  output_padding: int = 0
  use_bias: bool = True
  kernel_init: Callable[..., jax.Array] | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    size, inputs = self.kernel_size, x.shape[-1]
    fan_in = size * size * self.features  # as torch counts it, on the weight's second axis
    kernel_init, bias_init = _initializers(fan_in, self.kernel_init)
    kernel = parameter(self, 'kernel', kernel_init, (size, size, inputs, self.features))
    x = conv_transpose(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      stride=self.stride,
      padding=self.padding,
      output_padding=self.output_padding,
    )
    return _with_bias(self, x, self.features, bias_init) if self.use_bias else x
