"""BGAN: blurs sharp images the way cameras do; a noise map selects the blur.

K. Zhang, W. Luo, Y. Zhong, L. Ma, B. Stenger, W. Liu, H. Li, "Deblurring by Realistic Blurring",
CVPR 2020, arXiv:2004.01860: learns from unpaired sharp and blurred photographs, and generates
training pairs for DBGAN or any other network (`config.bgan`). The only network here that takes
sharp images and returns blurred ones.

The authors published neither its code nor its weights; this is a residual network with as many
channels as their DBGAN, and the other sizes are our choice. `cycle` requires, like CycleGAN, that
the sharp image can be recovered from the blurred one (Zhu et al. 2017, arXiv:1703.10593), instead
of requiring that the two are similar.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.conv import Conv
from deblur_jax.types import Needs

VARIANTS = {
  'default': {'width': 64, 'blocks': 9},  # 670,531 parameters
  'tiny': {'width': 16, 'blocks': 6},  # 29,299, for laptops
  'smoke': {'width': 4, 'blocks': 1},  # 663, for tests
}


def noise_map(key: jax.Array, sharp: jax.Array, *, channels: int) -> jax.Array:
  """Normal noise `[b h w channels]` for images `[b h w c]`, the same at all pixels of an image.

  It represents what is constant over a picture, such as the camera's path; what varies within the
  picture, such as depth, the generator must infer from the picture itself.
  """
  b, h, w, _ = sharp.shape
  return jnp.broadcast_to(jax.random.normal(key, (b, 1, 1, channels)), (b, h, w, channels))


class Residual(nn.Module):
  """Residual blocks at full resolution; their output is added to the image."""

  width: int
  blocks: int
  dtype: Any

  @nn.compact
  def __call__(self, image, *also):
    def conv(features, name):
      return Conv(features, dtype=self.dtype, name=name)

    x = nn.relu(conv(self.width, 'first')(jnp.concatenate([image, *also], axis=-1)))
    for i in range(self.blocks):
      out = nn.relu(conv(self.width, f'block{i}_conv1')(x))
      x = x + conv(self.width, f'block{i}_conv2')(out)
    return image + conv(image.shape[-1], 'last')(x).astype(jnp.float32)


class BGAN(nn.Module):
  """The generator, and with `cycle` a second one that turns blurred images into sharp ones.

  Draws the noise map from the RNG stream 'noise'; without that stream the map is 0, its mean.
  """

  width: int = 64
  blocks: int = 9
  noise: int = 4
  cycle: bool = False
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    return Needs(multiple=1, tiling='exact', halo=2 * self.blocks + 2)

  @nn.compact
  def __call__(self, sharp: jax.Array, *, train: bool = False) -> dict[str, Any]:
    noise = jnp.zeros((*sharp.shape[:-1], self.noise))
    if self.has_rng('noise'):
      noise = noise_map(self.make_rng('noise'), sharp, channels=self.noise)
    blurred = Residual(self.width, self.blocks, self.dtype, name='blur')(sharp, noise)
    out = {'restored': blurred}
    if self.cycle:
      out['stages'] = (Residual(self.width, self.blocks, self.dtype, name='deblur')(blurred),)
    return out


def Model(variant: str = 'default', **overrides: Any) -> BGAN:
  """The `BGAN` of a variant in `VARIANTS`, with `overrides`."""
  return BGAN(**{**VARIANTS[variant], **overrides})
