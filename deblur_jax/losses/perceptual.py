"""How far apart two images are in what VGG-19 sees of them."""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from deblur_jax.nn import vgg


def perceptual(
  restored: jax.Array,
  sharp: jax.Array,
  *,
  params: Mapping[str, Any],
  layer: str = 'conv3_3',
  **options: str,
) -> jax.Array:
  """Mean squared difference of the features at `layer`, one value per image `[b]`.

  Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
  ECCV 2016, eq. 2. Images are `[b h w 3]` in [0, 1]; `params`, `layer` and `options` are those of
  `nn.vgg.features`. Unequal shapes raise.
  """
  chex.assert_equal_shape([restored, sharp])
  seen = (vgg.features(params, image, layer, **options) for image in (restored, sharp))
  return jnp.square(next(seen) - next(seen)).mean(axis=(1, 2, 3))
