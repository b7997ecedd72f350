"""Calibrates a lens: fits a PSF by gradient descent through the Wiener filter.

  python examples/differentiable_deconvolution.py [--steps 150]

Given a few pictures before and after an unknown blur, which PSF makes `solvers.wiener` restore them
best? Every solver can be differentiated, so `jax.grad` answers that. The fit starts from a wide
Gaussian, uses three photographs of scikit-image, and is tested on two others. Writes
differentiable_deconvolution.webp: blurred, restored with the PSF of the start, with the fitted PSF,
sharp; and below each of the two in the middle its PSF.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
import PIL.Image
from skimage import data

from deblur_jax import color
from deblur_jax.blur import kernels
from deblur_jax.blur.operators import Convolution
from deblur_jax.metrics import METRICS
from deblur_jax.solvers.wiener import wiener

SIZE = 15
NOISE = 0.01


def crop(image, side, top, left):
  """A square of an 8-bit picture, float32 in linear light `[side side 3]`."""
  square = np.atleast_3d(image)[top : top + side, left : left + side, :3]
  square = np.broadcast_to(square, (side, side, 3)).astype(np.float32) / 255
  return color.SRGB.to_linear(jnp.asarray(square))


def blur(key, sharp):
  """`sharp` `[b h w 3]` under the blur that is to be found, with noise."""
  blurred = Convolution(kernels.motion(11.0, 30.0, SIZE)).apply(sharp)
  return blurred + NOISE * jax.random.normal(key, blurred.shape)


def as_psf(logits):
  """Positive values that sum to 1."""
  return jax.nn.softmax(logits.ravel()).reshape(logits.shape)


def fit(blurred, sharp, logits, steps):
  """`logits` after `steps` of Adam on the squared error of the restored pictures."""
  optimizer = optax.adam(0.2)

  def loss(logits):
    restored = wiener(blurred, as_psf(logits), noise_sigma=NOISE)
    return jnp.square(restored - sharp).mean()

  @jax.jit
  def step(logits, state):
    value, gradient = jax.value_and_grad(loss)(logits)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(logits, updates), state, value

  state = optimizer.init(logits)
  for number in range(steps):
    logits, state, value = step(logits, state)
    if number % max(1, steps // 5) == 0:
      print(f'step {number:3}  squared error {value:.6f}')
  return logits


def picture(results, sharp, psfs):
  """Results side by side, the PSFs below theirs, uint8 `[h w 3]`."""
  columns = [jnp.concatenate(list(result), axis=0) for result in (*results.values(), sharp)]
  shown = color.SRGB.from_linear(jnp.clip(jnp.concatenate(columns, axis=1), 0, 1))
  shown = np.round(255 * np.asarray(shown)).astype(np.uint8)
  side = sharp.shape[2]
  strip = np.full((side, shown.shape[1], 3), 255, np.uint8)
  for column, psf in enumerate(psfs, start=1):
    square = PIL.Image.fromarray(np.uint8(255 * psf / psf.max())).resize((side - 16,) * 2, 0)
    strip[8:-8, side * column + 8 : side * (column + 1) - 8] = np.asarray(square)[..., None]
  return np.concatenate([shown, strip])


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--steps', type=int, default=150)
  parser.add_argument('--side', type=int, default=96)
  parser.add_argument('--output', default='differentiable_deconvolution.webp')
  arguments = parser.parse_args()

  side = arguments.side
  known = (data.chelsea(), 60, 140), (data.rocket(), 120, 280), (data.coins(), 100, 100)
  unseen = (data.astronaut(), 60, 180), (data.coffee(), 150, 220)
  train, test = (
    jnp.stack([crop(one[0], side, *one[1:]) for one in part]) for part in (known, unseen)
  )
  train_blurred, test_blurred = (blur(jax.random.key(0), sharp) for sharp in (train, test))

  start = jnp.log(kernels.gaussian(3.0, SIZE) + 1e-6)
  fitted = fit(train_blurred, train, start, arguments.steps)
  psfs = [np.asarray(as_psf(logits)) for logits in (start, fitted)]
  results = {'blurred': test_blurred}
  results |= {
    name: wiener(test_blurred, psf, noise_sigma=NOISE)
    for name, psf in zip(('start', 'fitted'), psfs, strict=True)
  }
  true = wiener(test_blurred, kernels.motion(11.0, 30.0, SIZE), noise_sigma=NOISE)
  for name, result in {**results, 'true PSF': true}.items():
    print(f'{name:10} {METRICS["psnr"](result, test).mean():.2f} dB')
  PIL.Image.fromarray(picture(results, test, psfs)).save(arguments.output, quality=85)


if __name__ == '__main__':
  main()
