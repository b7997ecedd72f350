"""LPIPS and DISTS: distances of two pictures in the features of recognition networks.

Both are `f(restored, sharp, *, weights)` for images `[... h w 3]` in [0, 1] of equal shape, compute
in float32 and return one value per image, 0 at equality, lower is better; unequal shapes raise.
`weights` is the state dict of the authors' own packages, with their names and layouts:

  torch.save(lpips.LPIPS(net='alex').state_dict(), 'lpips.pth')        # pip install lpips
  torch.save(DISTS_pytorch.DISTS().state_dict(), 'dists.pth')          # pip install dists-pytorch
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from deblur_jax.nn.conv import conv

Weights = Mapping[str, Any]


class Stage(NamedTuple):
  """Layers up to an output that is compared: pooling, then convolutions, each with ReLU."""

  pool: tuple[int, int] | None
  """Window and stride of the max pooling."""
  layers: tuple[tuple[int, int, int], ...]
  """(index in torchvision's sequence, stride, padding) of each convolution."""


ALEXNET = (
  Stage(None, ((0, 4, 2),)),
  Stage((3, 2), ((3, 1, 2),)),
  Stage((3, 2), ((6, 1, 1),)),
  Stage(None, ((8, 1, 1),)),
  Stage(None, ((10, 1, 1),)),
)
VGG16 = (
  Stage(None, ((0, 1, 1), (2, 1, 1))),
  Stage((2, 2), ((5, 1, 1), (7, 1, 1))),
  Stage((2, 2), ((10, 1, 1), (12, 1, 1), (14, 1, 1))),
  Stage((2, 2), ((17, 1, 1), (19, 1, 1), (21, 1, 1))),
  Stage((2, 2), ((24, 1, 1), (26, 1, 1), (28, 1, 1))),
)

# Mean and deviation of ImageNet's colors; LPIPS has them for [-1, 1].
_LPIPS_MEAN, _LPIPS_SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

DISTS_SIDE = 256


def lpips(restored: jax.Array, sharp: jax.Array, *, weights: Weights) -> jax.Array:
  """LPIPS 0.1 (Zhang et al. 2018) by AlexNet, or by VGG-16 if the weights are that network's."""
  first = _weight(weights, 'net.slice1.0.weight', 'lpips')
  stages = ALEXNET if np.shape(first)[-1] == 11 else VGG16

  def features(images: jax.Array) -> list[jax.Array]:
    scaled = _normalized(2 * images - 1, _LPIPS_MEAN, _LPIPS_SPREAD)
    outputs = _outputs(scaled, weights, stages, 'net.slice', _maximum, 'lpips')
    return [x / (jnp.sqrt((x * x).sum(-1, keepdims=True)) + 1e-10) for x in outputs]

  total = 0.0
  images, lead = _flat(restored, sharp)
  for index, pair in enumerate(zip(*map(features, images), strict=True)):
    linear = jnp.asarray(_weight(weights, f'lin{index}.model.1.weight', 'lpips')).reshape(-1)
    total = total + ((pair[0] - pair[1]) ** 2 @ linear).mean((1, 2))
  return total.reshape(lead)


def dists(restored: jax.Array, sharp: jax.Array, *, weights: Weights) -> jax.Array:
  """DISTS (Ding et al. 2020), with the shorter side of images reduced to 256, as in the paper."""

  def features(images: jax.Array) -> list[jax.Array]:
    scaled = _normalized(images, _MEAN, _SPREAD)
    return [images, *_outputs(scaled, weights, VGG16, 'stage', _energy, 'dists')]

  images, lead = _flat(restored, sharp)
  ours, theirs = (features(_smaller(image)) for image in images)
  alpha, beta = (
    jnp.asarray(_weight(weights, name, 'dists')).reshape(-1) for name in ('alpha', 'beta')
  )
  ends = np.cumsum([x.shape[-1] for x in ours])[:-1]
  likeness = 0.0
  for x, y, texture, structure in zip(
    ours, theirs, jnp.split(alpha, ends), jnp.split(beta, ends), strict=True
  ):
    x_mean, y_mean = x.mean((1, 2)), y.mean((1, 2))  # [b c]
    both = ((x - x_mean[:, None, None]) * (y - y_mean[:, None, None])).mean((1, 2))
    means = (2 * x_mean * y_mean + 1e-6) / (x_mean**2 + y_mean**2 + 1e-6)
    spreads = (2 * both + 1e-6) / (x.var((1, 2)) + y.var((1, 2)) + 1e-6)
    likeness = likeness + means @ texture + spreads @ structure
  return (1 - likeness / (alpha.sum() + beta.sum())).reshape(lead)


def _outputs(
  x: jax.Array, weights: Weights, stages: tuple[Stage, ...], prefix: str, pool: Callable, what: str
) -> list[jax.Array]:
  """The output of every stage of a network, `[b h w c]` each."""
  outputs = []
  for number, stage in enumerate(stages, start=1):
    x = pool(x, *stage.pool) if stage.pool else x
    for index, stride, padding in stage.layers:
      name = f'{prefix}{number}.{index}'
      kernel, bias = (_weight(weights, f'{name}.{part}', what) for part in ('weight', 'bias'))
      x = conv(x, jnp.transpose(kernel, (2, 3, 1, 0)), stride=stride, padding=padding)
      x = jax.nn.relu(x + jnp.reshape(bias, (1, 1, 1, -1)))
    outputs.append(x)
  return outputs


def _maximum(x: jax.Array, window: int, stride: int) -> jax.Array:
  return lax.reduce_window(
    x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), 'VALID'
  )


def _energy(x: jax.Array, window: int, stride: int) -> jax.Array:
  """Root mean square under a 3x3 Hann window, in place of max pooling."""
  del window
  padded = jnp.pad(x * x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  height, width = (-(-side // stride) * stride for side in x.shape[1:3])
  hann = (0.25, 0.5, 0.25)
  total = sum(
    hann[i] * hann[j] * padded[:, i : i + height : stride, j : j + width : stride]
    for i in range(3)
    for j in range(3)
  )
  return jnp.sqrt(total + 1e-12)


def _smaller(images: jax.Array) -> jax.Array:
  batch, height, width, channels = images.shape
  shorter = min(height, width)
  if shorter <= DISTS_SIDE:
    return images
  size = (DISTS_SIDE * height // shorter, DISTS_SIDE * width // shorter)
  return jax.image.resize(images, (batch, *size, channels), 'linear')


def _flat(restored: jax.Array, sharp: jax.Array) -> tuple[list[jax.Array], tuple[int, ...]]:
  chex.assert_equal_shape([restored, sharp])
  if min(restored.shape[-3:-1]) < 32:
    raise ValueError(f'LPIPS and DISTS require images of at least 32x32, not {restored.shape}')
  images = [image.astype(jnp.float32) for image in (restored, sharp)]
  return [image.reshape(-1, *image.shape[-3:]) for image in images], restored.shape[:-3]


def _normalized(images: jax.Array, mean: tuple, spread: tuple) -> jax.Array:
  mean, spread = (jnp.asarray(one, jnp.float32).reshape(1, 1, 1, 3) for one in (mean, spread))
  return (images - mean) / spread


def _weight(weights: Weights, name: str, what: str) -> Any:
  if name not in weights:
    raise ValueError(f'not the weights of {what}: no {name}; see deblur_jax/metrics/perceptual.py')
  return weights[name]
