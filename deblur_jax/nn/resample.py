"""Resizing images by integer factors: pixel shuffling, bilinear resizing.

All take any leading dimensions, `[... h w c]`. On the CPU, bilinear upsampling has a custom
gradient, which is fast but rules out forward-mode differentiation.
"""

import jax
from jax import lax
import jax.numpy as jnp

from deblur_jax.nn.conv import fast


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
  """`[... h w c*f*f]` as `[... h*f w*f c]`; channel (c, i, j) goes to row i, column j (torch)."""
  *lead, h, w, c = x.shape
  c //= factor * factor
  x = x.reshape(*lead, h, w, c, factor, factor)
  x = jnp.moveaxis(x, (-2, -1), (-4, -2))  # [... h f w f c]
  return x.reshape(*lead, h * factor, w * factor, c)


def pixel_unshuffle(x: jax.Array, factor: int) -> jax.Array:
  """`[... h*f w*f c]` as `[... h w c*f*f]`, the inverse of `pixel_shuffle`."""
  *lead, h, w, c = x.shape
  x = x.reshape(*lead, h // factor, factor, w // factor, factor, c)
  x = jnp.moveaxis(x, (-4, -2), (-2, -1))  # [... h w c f f]
  return x.reshape(*lead, h // factor, w // factor, c * factor * factor)


def upsample2_bilinear(x: jax.Array) -> jax.Array:
  """`[... h w c]` as `[... 2h 2w c]`, bilinear with aligned pixel centers (align_corners=False)."""
  double = _double_for_cpu if fast() else _double
  return double(double(x, x.ndim - 3), x.ndim - 2)


def enlarge_bilinear(x: jax.Array, factor: int) -> jax.Array:
  """`[... h w c]` as `[... f*h f*w c]`, bilinear with aligned pixel centers; border pixels repeat.

  `factor` is 1 or even.
  """
  if factor == 2:
    return upsample2_bilinear(x)
  return _enlarge(_enlarge(x, x.ndim - 3, factor), x.ndim - 2, factor) if factor > 1 else x


def shrink_bilinear(x: jax.Array, factor: int) -> jax.Array:
  """`[... f*h f*w c]` as `[... h w c]`, bilinear with antialiasing, equal to `jax.image.resize`.

  Each new pixel is a mean of old ones, weighted by a triangle twice as wide as the new pixel;
  positions beyond the border have no weight. `factor` is 1 or even.
  """
  return _shrink(_shrink(x, x.ndim - 3, factor), x.ndim - 2, factor) if factor > 1 else x


def downsample2_bilinear(x: jax.Array) -> jax.Array:
  """`[... 2h 2w c]` as `[... h w c]`: means of 2x2, equal to bilinear without antialiasing."""
  *lead, h, w, c = x.shape
  x = x.reshape(*lead, h // 2, 2, w // 2, 2, c)
  return x.mean(axis=(-4, -2))


def _enlarge(x, axis, factor):
  """`_double` for any even factor."""
  before, after = _neighbors(x, axis)
  places = [(i + 0.5) / factor - 0.5 for i in range(factor)]
  near = [(1 - abs(at)) * x + abs(at) * (before if at < 0 else after) for at in places]
  return _interleave(near, axis)


def _shrink(x, axis, factor):
  taps = range(-factor // 2, factor + factor // 2)  # relative to the new pixel's first old one
  weights = [1 - abs(tap + 0.5 - factor / 2) / factor for tap in taps]
  count, margin = x.shape[axis] // factor, factor // 2

  def sums(y, axis):
    padded = jnp.pad(y, [(margin * (i == axis),) * 2 for i in range(y.ndim)])
    # Rows of `factor` pixels: strided slices of an unknown size are what jax2onnx cannot do.
    shape = (*y.shape[:axis], count + 1, factor, *y.shape[axis + 1 :])
    rows = padded.reshape(shape)
    parts = [
      lax.index_in_dim(
        lax.slice_in_dim(rows, i // factor, i // factor + count, axis=axis),
        i % factor,
        axis + 1,
        keepdims=False,
      )
      for i in range(2 * factor)
    ]
    return jnp.asarray(sum(weight * part for weight, part in zip(weights, parts, strict=True)))

  total = sums(jnp.ones(x.shape[axis], x.dtype), 0)
  shape = [1] * x.ndim
  shape[axis] = count
  return sums(x, axis) / total.reshape(shape)


def _double(x, axis):
  # Each new pixel's center is a quarter pixel from that of its old one; border pixels repeat.
  before, after = _neighbors(x, axis)
  return _interleave([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis)


def _neighbors(x, axis):
  """The pixels before and after each pixel along an axis; border pixels repeat."""
  first, last = _part(x, axis, 0, 1), _part(x, axis, -1, None)
  if fast():
    before = jnp.concatenate([first, _part(x, axis, 0, -1)], axis)
    return before, jnp.concatenate([_part(x, axis, 1, None), last], axis)
  # In this form jax2onnx 0.17 gets the sizes right if they are unknown.
  padded, size = lax.concatenate([first, x, last], axis), x.shape[axis]
  return lax.slice_in_dim(padded, 0, size, axis=axis), lax.slice_in_dim(
    padded, 2, size + 2, axis=axis
  )


def _double_transposed(y, axis):
  """The transpose of `_double`; XLA compiles the automatic one to code four times slower."""
  even, odd = _part(y, axis, 0, None, 2), _part(y, axis, 1, None, 2)
  before = jnp.concatenate([_part(even, axis, 0, 1), _part(odd, axis, 0, -1)], axis)
  after = jnp.concatenate([_part(even, axis, 1, None), _part(odd, axis, -1, None)], axis)
  return 0.75 * (even + odd) + 0.25 * (before + after)


_double_for_cpu = jax.custom_vjp(_double, nondiff_argnums=(1,))
_double_for_cpu.defvjp(
  lambda x, axis: (_double(x, axis), None),
  lambda axis, _, cotangent: (_double_transposed(cotangent, axis),),
)


def _part(x, axis, start, stop, step=1):
  return x[(slice(None),) * axis + (slice(start, stop, step),)]


def _interleave(parts, axis):
  *lead, size = parts[0].shape[: axis + 1]
  rest = parts[0].shape[axis + 1 :]
  return jnp.stack(parts, axis + 1).reshape(*lead, len(parts) * size, *rest)
