"""Deconvolution with a sparse wavelet prior."""

import functools

import jax
import jax.numpy as jnp

from deblur_jax.solvers import borders, dwt, estimate_noise, planes

_WEIGHT = 1.5  # tuned like that of total variation


def wavelet(
  image: jax.Array,
  psf: jax.Array,
  weight: float | None = None,
  num_iter: int = 100,
  *,
  basis: str = 'haar',
  levels: int = 3,
  cycle_spin: bool = True,
  noise_sigma: float | None = None,
  boundary: str = 'unknown',
  history: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """Minimizes `|seen (K x - image)|^2 / 2 + weight |details of W x|_1` by FISTA.

  Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse
  problems", SIAM J. Imaging Sci. 2009, with the restarts of O'Donoghue and Candes, "Adaptive
  restart for accelerated gradient schemes", 2015.

  Args:
    image: blurred, `[h w]` or `[... h w c]`; channels are restored independently.
    psf: `[kh kw]`, or one for each image.
    weight: of the details; by default `1.5 noise_sigma^1.5`.
    num_iter: steps.
    basis: one of `dwt.FILTERS`.
    levels: of the transform.
    cycle_spin: whether to shift the wavelets' grid in each step, which avoids block artifacts
      (Coifman and Donoho 1995).
    noise_sigma: the noise's standard deviation; None: estimated, at least `estimate_noise.LEAST`.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.
    history: whether to also return the objective after each step: `(restored, [... c num_iter])`.

  Raises ValueError as `planes.each` does, for less than one step, for an unknown basis, and with
  'wrap' for sides that are not multiples of `2**levels`.
  """
  if num_iter < 1:
    raise ValueError(f'num_iter must be at least 1, got {num_iter}')
  if basis not in dwt.FILTERS:
    raise ValueError(f'no basis {basis!r} (known: {", ".join(dwt.FILTERS)})')
  solve = functools.partial(
    _solve,
    weight=weight,
    noise_sigma=noise_sigma,
    num_iter=num_iter,
    basis=basis,
    levels=levels,
    cycle_spin=cycle_spin,
    boundary=boundary,
    history=history,
  )
  return planes.each(solve, image, psf, boundary=boundary)


_STATIC = ('num_iter', 'basis', 'levels', 'cycle_spin', 'boundary', 'history')


@functools.partial(jax.jit, static_argnames=_STATIC)
def _solve(
  plane, psf, *, weight, noise_sigma, num_iter, basis, levels, cycle_spin, boundary, history
):
  if weight is None:
    weight = _WEIGHT * estimate_noise.level(plane, noise_sigma) ** 1.5
  scene = borders.scene(psf, plane.shape, boundary, multiple=2**levels)
  if any(side % 2**levels for side in scene.shape):
    raise ValueError(
      f"{levels} levels of wavelets with boundary 'wrap' require sides that are multiples of "
      f'{2**levels}, got {scene.shape[0]}x{scene.shape[1]}'
    )
  placed, details = scene.place(plane), dwt.details(scene.shape, levels)
  bound = borders.power(scene.transfer).max()  # on the misfit's curvature
  shifts = jax.random.randint(jax.random.key(0), (num_iter, 2), 0, 2**levels) * cycle_spin

  def shrink(x, shift):
    coefficients = dwt.forward(jnp.roll(x, shift, (0, 1)), basis, levels)
    kept = coefficients - jnp.clip(coefficients, -weight / bound, weight / bound) * details
    energy = weight * jnp.abs(kept * details).sum()
    return jnp.roll(dwt.inverse(kept, basis, levels), -shift, (0, 1)), energy

  def step(carry, shift):
    x, ahead, t = carry
    downhill = scene.correlate(scene.seen * (placed - scene.blur(ahead)))
    better, energy = shrink(ahead + downhill / bound, shift)
    t = jnp.where(jnp.vdot(ahead - better, better - x) > 0, 1.0, t)  # restarts after overshooting
    t_next = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
    ahead = better + (t - 1) / t_next * (better - x)
    energy = scene.misfit(scene.blur(better), placed) + energy if history else None
    return (better, ahead, t_next), energy

  (x, *_), energies = jax.lax.scan(step, (placed, placed, jnp.ones(())), shifts)
  return (scene.crop(x), energies) if history else scene.crop(x)
