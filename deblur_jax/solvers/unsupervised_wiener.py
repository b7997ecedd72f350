"""The Wiener filter with estimated strengths of noise and detail."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, gradients, planes
from deblur_jax.solvers.wiener import wiener

_TINY = 1e-12


def unsupervised_wiener(
  image: jax.Array,
  psf: jax.Array,
  *,
  key: jax.Array | None = None,
  threshold: float = 1e-4,
  burnin: int = 15,
  min_num_iter: int = 30,
  max_num_iter: int = 200,
  boundary: str = 'unknown',
) -> jax.Array:
  """The `wiener` estimate with the mean balance over samples of picture, noise and smoothness.

  Orieux, Giovannelli and Rodet, "Bayesian estimation of regularization and point spread function
  parameters for Wiener-Hunt deconvolution", JOSA A 2010, with the Laplacian. Theirs is the mean of
  the sampled pictures; the filter is used instead because it handles the border.

  Args:
    image: blurred, `[h w]` or `[... h w c]`; channels are restored independently.
    psf: `[kh kw]`, or one for each image.
    key: of the random draws, the same for every plane; a constant by default.
    threshold: relative change of the mean balance below which sampling stops.
    burnin: number of first samples that are excluded from the mean.
    min_num_iter: least number of samples.
    max_num_iter: greatest number of samples, more than `burnin`.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.

  Raises ValueError as `planes.each` does, and if all samples would be excluded.
  """
  if not 0 <= burnin < max_num_iter:
    raise ValueError(
      f'burnin must be at least 0 and less than max_num_iter {max_num_iter}, got {burnin}'
    )
  solve = functools.partial(
    _solve,
    key=jax.random.key(0) if key is None else key,
    threshold=threshold,
    burnin=burnin,
    min_num_iter=min_num_iter,
    max_num_iter=max_num_iter,
    boundary=boundary,
  )
  return planes.each(solve, image, psf, boundary=boundary)


@functools.partial(jax.jit, static_argnames=('max_num_iter', 'boundary'))
def _solve(plane, psf, *, key, threshold, burnin, min_num_iter, max_num_iter, boundary):
  scene, surrounded = borders.surround(plane, psf, boundary)
  seen, (_, width) = jnp.fft.rfft2(surrounded), scene.shape
  gain = borders.power(scene.transfer)
  roughness = jnp.square(gradients.laplacian(*scene.shape))
  # How often each column of `rfft2` occurs in `fft2`, over the number of pixels (Parseval).
  column = jnp.arange(seen.shape[1])
  count = jnp.where((column == 0) | (2 * column == width), 1.0, 2.0)[None] / surrounded.size

  def precision(key, number, energies):
    """A sample of the precision of `number` Gaussian values, given their power spectrum."""
    # An approximation to chi-squared that is nearly exact here (Wilson and Hilferty 1931).
    spread = 2 / (9 * number)
    drawn = number * (1 - spread + jnp.sqrt(spread) * jax.random.normal(key)) ** 3
    return drawn / ((count * energies).sum() + _TINY)

  def sweep(carry, i):
    _, mean, noise, detail = carry
    for_picture, for_noise, for_detail = jax.random.split(jax.random.fold_in(key, i), 3)
    total = noise * gain + detail * roughness
    drawn = jnp.fft.rfft2(jax.random.normal(for_picture, scene.shape))
    x = borders.times(seen, noise * jnp.conj(scene.transfer) / total)
    x += borders.times(drawn, 1 / jnp.sqrt(total))
    left = borders.times(x, scene.transfer) - seen
    noise = precision(for_noise, surrounded.size, borders.power(left))
    rough = roughness * borders.power(x)  # does not see the mean
    detail = precision(for_detail, surrounded.size - 1, rough)
    better = mean + (detail / noise - mean) / jnp.maximum(i - burnin + 1, 1)
    done = (i + 1 >= min_num_iter) & (i > burnin) & (jnp.abs(better - mean) < threshold * better)
    return done, better, noise, detail

  def step(carry, i):  # Unlike a while loop, a scan is differentiable.
    return jax.lax.cond(carry[0], lambda carry, _: carry, sweep, carry, i), None

  one = jnp.ones(())
  (_, balance, *_), _ = jax.lax.scan(
    step, (jnp.zeros((), bool), one, one, one), jnp.arange(max_num_iter)
  )
  return wiener(plane, psf, balance, boundary=boundary)
