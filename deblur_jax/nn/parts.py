"""Splits images into equal parts that pass through a network as one batch, and joins them."""

import jax


def split(x: jax.Array, rows: int, columns: int) -> jax.Array:
  """The parts of `[b h w c]` as one batch `[b*rows*columns h/rows w/columns c]`."""
  b, h, w, c = x.shape
  x = x.reshape(b, rows, h // rows, columns, w // columns, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b * rows * columns, h // rows, w // columns, c)


def join(x: jax.Array, rows: int, columns: int) -> jax.Array:
  """The inverse of `split`."""
  n, h, w, c = x.shape
  x = x.reshape(-1, rows, columns, h, w, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(n // (rows * columns), rows * h, columns * w, c)
