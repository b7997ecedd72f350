"""Times the blurs: batches of shakes against a NumPy loop, varying PSFs, and ways to convolve.

  python tools/bench_blur.py [--repeats 9] [--kernel 31]

The functions of a row run alternately, so that background load affects all of them equally.
Milliseconds are 'minimum / median', compiled and warm; a ratio is the median over the rounds. NumPy
computes in float64 unless every step asks for float32, so both are shown.
"""

import argparse
import functools
import pathlib
import sys
import time

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
import scipy.signal

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax.blur import operators, trajectories
from deblur_jax.blur.operators import Convolution
from deblur_jax.blur.varying import SpatiallyVarying


def numpy_path(generator, steps, anxiety=0.005, length=60.0):
  """Boracchi and Foi's trajectory, literally as their recursion, with complex positions."""
  tremor, pull, rate = anxiety * generator.uniform(size=3) * [10.0, 0.7, 0.2]
  stride = length / (steps - 1)
  speed = stride * np.exp(2j * np.pi * generator.uniform())
  path = [0j]
  for _ in range(steps - 1):
    jolt = 0
    if generator.uniform() < rate:
      jolt = 2 * speed * np.exp(1j * (np.pi + generator.uniform() - 0.5))
    bend = tremor * (generator.normal() + 1j * generator.normal()) - pull * path[-1]
    speed = speed + jolt + bend * stride
    speed *= stride / abs(speed)
    path.append(path[-1] + speed)
  return np.array(path)


def numpy_kernel(path, extent, size):
  """The kernel of a path, by bilinear splatting of its points."""
  path = (path - path.mean()) * extent / max(np.ptp(path.real), np.ptp(path.imag))
  path = path * min(1, (size // 2) / max(abs(path.real).max(), abs(path.imag).max()))
  x, y = path.real + size // 2, path.imag + size // 2
  left, top = np.floor(x).astype(int), np.floor(y).astype(int)
  kernel = np.zeros((size + 1, size + 1))
  for i, high in ((0, 1 - y + top), (1, y - top)):
    for j, wide in ((0, 1 - x + left), (1, x - left)):
      np.add.at(kernel, (top + i, left + j), high * wide)
  return kernel[:size, :size] / len(path)


def numpy_batch(images, extent, size, steps, dtype):
  """Each image shaken at random, in a loop over images and channels, convolved in `dtype`."""
  generator, half = np.random.default_rng(0), size // 2
  result = np.empty_like(images)
  for image, blurred in zip(images, result, strict=True):
    kernel = numpy_kernel(numpy_path(generator, steps), extent, size).astype(dtype)
    padded = np.pad(image, [(half, half), (half, half), (0, 0)], mode='reflect')
    for channel in range(image.shape[-1]):
      blurred[..., channel] = scipy.signal.fftconvolve(padded[..., channel], kernel, mode='valid')
  return result


def shake_batch(size, steps):
  """The same on the accelerator, as a compiled function of (key, images)."""

  def batch(key, images):
    draw = jax.vmap(lambda key: trajectories.shake(key, size / 2, size, steps=steps))
    return Convolution(draw(jax.random.split(key, images.shape[0]))).apply(images)

  return jax.jit(batch)


def lax_convolve(image, psf):
  """Valid convolution by `lax.conv_general_dilated`, with channels and images as groups."""
  count = image.shape[0]
  psf = jnp.broadcast_to(psf[..., ::-1, ::-1], (count, *psf.shape[-2:]))
  planes = jnp.moveaxis(image, (3, 0), (0, 1))  # [c b h w]
  blurred = lax.conv_general_dilated(
    planes, psf[:, None], (1, 1), 'VALID', feature_group_count=count
  )
  return jnp.moveaxis(blurred, (0, 1), (3, 0))


def times(functions, repeats):
  """Milliseconds `[function, repeat]`; the functions alternate, after one untimed round."""
  taken = np.zeros((len(functions), repeats + 1))
  for i in range(repeats + 1):
    for j, function in enumerate(functions):
      start = time.perf_counter()
      jax.block_until_ready(function())
      taken[j, i] = 1e3 * (time.perf_counter() - start)
  return taken[:, 1:]


def show(taken):
  return f'{taken.min():.1f} / {np.median(taken):.1f}'


def table(title, *headings):
  made = Table(title=title)
  for heading in headings:
    made.add_column(heading, justify='right' if made.columns else 'left')
  return made


def shaken(size, repeats):
  """Batches of 16 random shakes, drawn and applied, against the NumPy loop."""
  key = jax.random.key(0)
  images = jax.random.uniform(key, (16, 256, 256, 3))
  plain = np.asarray(images)
  rows = table(
    f'16 shakes of 256x256x3, kernels {size}x{size}',
    *('steps', 'this', 'NumPy float64', 'ratio', 'NumPy float32', 'ratio'),
  )
  for steps in (500, 2000):
    ours = shake_batch(size, steps)
    rivals = [lambda: ours(key, images)] + [
      lambda dtype=dtype: numpy_batch(plain, size / 2, size, steps, dtype)
      for dtype in (np.float64, np.float32)
    ]
    taken = times(rivals, repeats)
    row = [str(steps), show(taken[0])]
    for other in taken[1:]:
      row += [show(other), f'{np.median(taken[0] / other):.2f}']
    rows.add_row(*row)
  return rows


def varying(size, repeats):
  """Spatially varying blur of a 1280x720 picture, against one PSF for the whole picture."""
  image = jax.random.uniform(jax.random.key(0), (720, 1280, 3))
  rows = table(f'1280x720x3, PSFs {size}x{size}', 'grid', 'apply', 'adjoint', 'one PSF')
  for grid in (4, 8):
    psfs = jax.random.dirichlet(jax.random.key(1), jnp.ones(size * size), (grid, grid))
    psfs = psfs.reshape(grid, grid, size, size)
    apply, adjoint = (
      jax.jit(lambda psfs, name=name: getattr(SpatiallyVarying(psfs), name)(image))
      for name in ('apply', 'adjoint')
    )
    uniform = jax.jit(lambda psf: Convolution(psf).apply(image))
    rivals = lambda: apply(psfs), lambda: adjoint(psfs), lambda: uniform(psfs[0, 0])
    rows.add_row(f'{grid}x{grid}', *map(show, times(rivals, repeats)))
  return rows


def ways(repeats):
  """Where multiply-adds and FFT cross over, and how long `lax.conv` takes."""
  rows = table('256x256x3, ways to convolve', 'PSF', 'images', 'direct', 'FFT', 'lax.conv')
  for count in (1, 16):
    for size in (5, 7, 9, 11, 15):
      image = jax.random.uniform(jax.random.key(0), (count, 256 + size - 1, 256 + size - 1, 3))
      psf = jax.random.uniform(jax.random.key(1), (count, size, size))
      by_fft = functools.partial(operators._by_fft, rows=(0, 0), columns=(0, 0), boundary='zero')
      forms = operators._direct, by_fft, lax_convolve
      made = [jax.jit(form) for form in forms]
      taken = times([lambda form=form: form(image, psf) for form in made], repeats)
      rows.add_row(f'{size}x{size}', str(count), *map(show, taken))
  return rows


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--repeats', type=int, default=9)
  parser.add_argument('--kernel', type=int, default=31, help='side of the kernels, odd')
  flags = parser.parse_args()
  console = Console()
  console.print(shaken(flags.kernel, flags.repeats))
  console.print(varying(flags.kernel, flags.repeats))
  console.print(ways(flags.repeats))


if __name__ == '__main__':
  main()
