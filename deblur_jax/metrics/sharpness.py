"""How sharp a picture looks by itself, without a sharp one to compare it with.

Both are `f(image)` for `[h w 3]` or `[b h w 3]` in [0, 1] of any float type, compute in float32 and
return one value per image. They compare pictures of one scene: noise and ringing count as sharp.
"""

import jax
import jax.numpy as jnp

# Color weights of the best-known implementation of each.
_REC601 = (0.299, 0.587, 0.114)
_REC709 = (0.2125, 0.7154, 0.0721)


def laplacian_variance(image: jax.Array) -> jax.Array:
  """Variance of the Laplacian of the luma in [0, 255]; higher is sharper.

  Pech-Pacheco et al. 2000; as computed by OpenCV's `Laplacian` with its default 3x3 filter.
  """
  luma = 255 * _grey(image, _REC601)
  around = _padded(luma, 1, 'reflect')
  vertical = around[..., :-2, 1:-1] + around[..., 2:, 1:-1]
  horizontal = around[..., 1:-1, :-2] + around[..., 1:-1, 2:]
  return jnp.var(vertical + horizontal - 4 * luma, axis=(-2, -1))


def blur_effect(image: jax.Array, *, size: int = 11) -> jax.Array:
  """How much of a picture's variation survives another blur, from 0 (sharp) to 1 (blurred).

  Crete et al. 2007; the larger value of both directions, blurred by a mean over `size` pixels, as
  in scikit-image's `blur_effect`.
  """
  luma = _grey(image, _REC709)
  return jnp.maximum(_kept(luma, size), _kept(jnp.swapaxes(luma, -1, -2), size))


def _kept(luma: jax.Array, size: int) -> jax.Array:
  """The share of vertical variation that is left after a mean over `size` rows."""
  height = luma.shape[-2]
  padded = _padded(luma, size // 2, 'symmetric')[..., size // 2 : -(size // 2)]
  again = sum(padded[..., i : i + height, :] for i in range(size)) / size
  before, after = _change(luma), _change(again)
  lost = jnp.maximum(before - after, 0).sum((-2, -1))
  before = jnp.maximum(before.sum((-2, -1)), jnp.finfo(jnp.float32).tiny)
  return 1 - lost / before


def _change(luma: jax.Array) -> jax.Array:
  """Magnitude of the vertical Sobel gradient, without the first two rows and columns and the last.

  The published code crops it this way.
  """
  across = luma[..., 1:-2] + 2 * luma[..., 2:-1] + luma[..., 3:]
  return jnp.abs(across[..., 3:, :] - across[..., 1:-2, :])


def _grey(image: jax.Array, weights: tuple[float, ...]) -> jax.Array:
  return image.astype(jnp.float32) @ jnp.asarray(weights, jnp.float32)


def _padded(image: jax.Array, margin: int, mode: str) -> jax.Array:
  return jnp.pad(image, ((0, 0),) * (image.ndim - 2) + ((margin, margin),) * 2, mode)
