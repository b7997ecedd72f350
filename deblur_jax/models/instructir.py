"""InstructIR: a NAFNet that removes what a prompt asks for; and PromptIR, which has no prompt.

M. V. Conde, G. Geigle, R. Timofte, "InstructIR: High-Quality Image Restoration Following Human
Instructions", ECCV 2024, arXiv:2401.16468; V. Potlapalli, S. W. Zamir, S. Khan, F. S. Khan,
"PromptIR: Prompting for All-in-One Blind Image Restoration", NeurIPS 2023, arXiv:2306.13090.

After every stage of encoder and decoder, an instruction block lets the words w choose channels:

  f = sigmoid(W w) * (gamma x + beta),   x <- x + NAFBlock(f)

The words are those of `guidance.encoder`, 64 numbers, in place of the authors' 384 of a language
model. PromptIR has no words: before every stage of its decoder, it mixes learned pictures by what
it sees, and adds what a block makes of both. (Its authors use the block's output alone; a sum
lets both begin as the NAFNet that they are built on.)

A picture may come with a mask of what to leave alone, which the first stage sees.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.guidance import encoder
from deblur_jax.models import nafnet
from deblur_jax.nn import local
from deblur_jax.nn.conv import Conv
from deblur_jax.nn.parameters import parameter

VARIANTS = {
  # 1,725,315 parameters: those of NAFNet's `mobile`, and 97,808 that see the words and the mask
  'default': nafnet.VARIANTS['mobile'],
  # 1,988,866: PromptIR on the same NAFNet
  'bank': {**nafnet.VARIANTS['mobile'], 'bank': 5},
  # for tests
  'smoke': nafnet.VARIANTS['smoke'],
}

BANK_SIDE = 16
"""Side of the learned pictures of PromptIR, in pixels of the features that they are added to."""


class Instruction(nn.Module):
  """The instruction block: `words` `[b 1 1 w]` choose channels of `x` `[b h w c]`."""

  dtype: Any

  @nn.compact
  def __call__(self, x, words):
    chosen = nn.sigmoid(Conv(x.shape[-1], 1, name='choose')(words)).astype(x.dtype)
    shape = (1, 1, 1, x.shape[-1])
    gamma, beta = (
      parameter(self, name, nn.initializers.zeros, shape[-1:]).astype(x.dtype).reshape(shape)
      for name in ('gamma', 'beta')
    )
    return x + nafnet.NAFBlock(local.mean, self.dtype, name='block')(chosen * (gamma * x + beta))


class Bank(nn.Module):
  """PromptIR's block: a mix of `count` learned pictures, by the mean of the features."""

  count: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    batch, height, width, c = x.shape
    shares = nn.softmax(Conv(self.count, 1, name='choose')(local.mean(x)))[:, 0, 0]
    shape = (self.count, BANK_SIDE, BANK_SIDE, c)
    pictures = parameter(self, 'pictures', nn.initializers.uniform(1.0), shape)
    mixed = jnp.einsum('bn,nhwc->bhwc', shares, pictures)
    mixed = jax.image.resize(mixed, (batch, height, width, c), 'bilinear').astype(x.dtype)
    mixed = Conv(c, 3, dtype=self.dtype, name='smooth')(mixed)
    both = jnp.concatenate([x, mixed], axis=-1)
    both = nafnet.NAFBlock(local.mean, self.dtype, name='block')(both)
    zeros = nn.initializers.zeros
    return x + Conv(c, 1, kernel_init=zeros, dtype=self.dtype, name='reduce')(both)


class InstructIR(nafnet.NAFNet):
  """Removes what the `prompt` says, or with a `bank` what it finds."""

  prompt: str = 'fix everything'
  """What to remove, in English, if no words are given with the pictures."""
  bank: int = 0
  """How many pictures PromptIR learns for each stage of the decoder; 0 is InstructIR."""

  reads_masks = True
  """`spared` `[b h w 1]` can be given with the pictures."""

  @property
  def reads_words(self) -> bool:
    """Whether the result depends on the prompt."""
    return not self.bank

  @nn.compact
  def __call__(
    self,
    blurred: jax.Array,
    words: jax.Array | None = None,
    spared: jax.Array | None = None,
    *,
    train: bool = False,
  ) -> dict[str, jax.Array]:
    """`words` are embeddings `[b 64]` by `guidance.encoder`, by default that of the prompt.

    `spared` `[b h w 1]` is 1 where the picture is to stay as it is, by default nowhere.
    """
    if words is None:
      words = jnp.broadcast_to(encoder.embed(self.prompt), (len(blurred), encoder.WIDTH))

    def modulate(features, name):
      if name == 'encoders_0_0' and (spared is not None or self.is_initializing()):
        shown = jnp.zeros_like(features[..., :1]) if spared is None else spared
        options = {'use_bias': False, 'kernel_init': nn.initializers.zeros, 'dtype': self.dtype}
        features = features + Conv(features.shape[-1], 3, name='mask', **options)(shown)
      if self.bank and name.startswith('decoders') and name.endswith('_0'):
        features = Bank(self.bank, self.dtype, name=f'{name}_bank')(features)
      return features

    def after(features, name):
      if self.bank or name == 'middle_blks':
        return features
      return Instruction(self.dtype, name=f'{name}_words')(features, words[:, None, None])

    return {'restored': blurred + self.residual(blurred, modulate, after)}


def Model(variant: str = 'default', **overrides: Any) -> InstructIR:
  """The `InstructIR` of a variant in `VARIANTS`, with `overrides`."""
  return InstructIR(**{**VARIANTS[variant], **overrides})
