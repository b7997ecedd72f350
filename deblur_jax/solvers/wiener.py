"""Deconvolution in one step, frequency by frequency."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, noise, planes

_LAPLACIAN = ((0.0, -1.0, 0.0), (-1.0, 4.0, -1.0), (0.0, -1.0, 0.0))
# Best within a factor of two for photographs under noise of 0.003 to 0.03, measured with the
# Laplacian on shaken and defocused ones.
_BALANCE = 150.0
_REFINEMENTS = 10


def wiener(
  image: jax.Array,
  psf: jax.Array,
  balance: float | None = None,
  *,
  reg: str | jax.Array = 'laplacian',
  noise_sigma: float | None = None,
  boundary: str = 'unknown',
) -> jax.Array:
  """The Wiener-Hunt estimate of what `psf` blurred: `conj(H) Y / (|H|^2 + balance |L|^2)`.

  With the same `balance` and `reg` on periodic data it equals `skimage.restoration.wiener`. Else
  what lies beyond the border is first guessed, then taken from the estimate itself, blurred again.

  Args:
    image: blurred, `[h w]` or `[... h w c]`.
    psf: `[kh kw]`, or one for each image.
    balance: weight of the regularizer; by default `150 noise_sigma^2`.
    reg: what should be small: 'laplacian', 'white' (the values themselves) or a filter `[kh kw]`.
    noise_sigma: the noise's standard deviation, for the default of `balance`; None to estimate it
      (at least `noise.LEAST`).
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.

  Raises ValueError as `planes.each` does, and for an unknown `reg`.
  """
  solve = functools.partial(
    _solve, balance=balance, reg=_filter(reg), noise_sigma=noise_sigma, boundary=boundary
  )
  return planes.each(solve, image, psf, boundary=boundary)


def _filter(reg: str | jax.Array) -> jax.Array:
  if not isinstance(reg, str):
    return jnp.asarray(reg, jnp.float32)
  if reg not in ('laplacian', 'white'):
    raise ValueError(f"reg is 'laplacian', 'white' or a filter [kh kw], not {reg!r}")
  return jnp.asarray(_LAPLACIAN if reg == 'laplacian' else ((1.0,),))


@functools.partial(jax.jit, static_argnames='boundary')
def _solve(plane, psf, *, balance, reg, noise_sigma, boundary):
  scene, surrounded = borders.surround(plane, psf, boundary)
  if balance is None:
    if noise_sigma is None:
      noise_sigma = jnp.maximum(noise.estimate(plane), noise.LEAST)
    balance = _BALANCE * noise_sigma**2
  regularizer = borders.scene(reg, scene.shape, 'wrap').transfer
  power = jnp.square(jnp.abs(scene.transfer)) + balance * jnp.square(jnp.abs(regularizer))
  inverse = jnp.conj(scene.transfer) / power

  def refine(_, surrounded):
    again = scene.blur(scene.filter(surrounded, inverse))
    return scene.seen * scene.place(plane) + (1 - scene.seen) * again

  if boundary == 'unknown':
    surrounded = jax.lax.fori_loop(0, _REFINEMENTS, refine, surrounded)
  return scene.crop(scene.filter(surrounded, inverse))
