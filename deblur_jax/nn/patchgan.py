"""The patch discriminator used in all adversarial training.

P. Isola, J.-Y. Zhu, T. Zhou, A. A. Efros, "Image-to-Image Translation with Conditional Adversarial
Networks", CVPR 2017, arXiv:1611.07004, in the version of DeblurGAN's authors: unconditional, with
padding 2.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv
from deblur_jax.nn.norm import InstanceNorm


class PatchGAN(nn.Module):
  """Logits `[b h' w' 1]`, float32, high where a patch of `[b h w 3]` in [0, 1] looks real.

  With three layers a logit sees 70x70 pixels, and 256x256 pixels give 35x35 logits; 2,764,737
  parameters.
  """

  ndf: int = 64
  n_layers: int = 3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array) -> jax.Array:
    conv = functools.partial(
      Conv, kernel_size=4, padding=2, kernel_init=nn.initializers.normal(0.02), dtype=self.dtype
    )
    x = conv(self.ndf, stride=2, name='model_0')(2 * image - 1)
    x = nn.leaky_relu(x, 0.2)
    for i in range(1, self.n_layers + 1):
      stride = 2 if i < self.n_layers else 1
      x = conv(self.ndf * min(2**i, 8), stride=stride, name=f'model_{3 * i - 1}')(x)
      x = nn.leaky_relu(InstanceNorm()(x), 0.2)
    return conv(1, name=f'model_{3 * self.n_layers + 2}')(x).astype(jnp.float32)
