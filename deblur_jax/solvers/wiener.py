"""The Wiener-Hunt filter: deconvolution in one step in the frequency domain."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.blur.operators import Convolution
from deblur_jax.solvers import borders, estimate_noise, planes

_FILTERS = {
  'laplacian': [[[0, -1, 0], [-1, 4, -1], [0, -1, 0]]],
  'gradient': [[[0, 0], [-1, 1]], [[0, -1], [0, 1]]],
  'white': [[[1]]],
}
# Within a factor of two of the best for photographs with noise of 0.003 to 0.03, measured with
# camera shake and defocus; a custom filter is treated like the Laplacian.
_BALANCE = {'laplacian': 150.0, 'gradient': 80.0, 'white': 60.0}
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
  """The Wiener-Hunt estimate of the sharp image: `conj(H) Y / (|H|^2 + balance |L|^2)`.

  With the same `balance` and `reg` on periodic data it equals `skimage.restoration.wiener`.
  Otherwise the region beyond the border is first extrapolated, then repeatedly replaced by the
  reblurred estimate.

  Args:
    image: blurred, `[h w]` or `[... h w c]`.
    psf: `[kh kw]`, or one for each image.
    balance: weight of the regularizer; by default `noise_sigma^2` times 150 for the Laplacian, 80
      for the gradient and 60 for 'white'.
    reg: what is penalized: 'laplacian', 'gradient', 'white' (the values themselves), a filter
      `[kh kw]` or several, `[n kh kw]`.
    noise_sigma: the noise's standard deviation, for the default of `balance`; None to estimate it
      (at least `estimate_noise.LEAST`).
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.

  Raises ValueError as `planes.each` does, and for an unknown `reg`.
  """
  named = isinstance(reg, str)
  if named and reg not in _FILTERS:
    raise ValueError(f'reg must be a filter or one of {", ".join(_FILTERS)}, got {reg!r}')
  solve = functools.partial(
    _solve,
    balance=balance,
    default=_BALANCE[reg if named else 'laplacian'],
    reg=jnp.asarray(_FILTERS[reg] if named else reg, jnp.float32),
    noise_sigma=noise_sigma,
    boundary=boundary,
  )
  return planes.each(solve, image, psf, boundary=boundary)


@functools.partial(jax.jit, static_argnames='boundary')
def _solve(plane, psf, *, balance, default, reg, noise_sigma, boundary):
  scene, surrounded = borders.surround(plane, psf, boundary)
  if balance is None:
    balance = default * estimate_noise.level(plane, noise_sigma) ** 2
  regularizers = Convolution(jnp.atleast_3d(reg.T).T, 'wrap').transfer(*scene.shape)
  roughness = borders.power(regularizers).sum(0)
  power = borders.power(scene.transfer) + balance * roughness
  inverse = jnp.conj(scene.transfer) / power

  def refine(_, surrounded):
    again = scene.filter(surrounded, inverse * scene.transfer)
    return scene.seen * scene.place(plane) + (1 - scene.seen) * again

  if boundary == 'unknown':
    surrounded = jax.lax.fori_loop(0, _REFINEMENTS, refine, surrounded)
  return scene.crop(scene.filter(surrounded, inverse))
