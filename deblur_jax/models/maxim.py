"""MAXIM: a multi-stage MLP whose layers mix pixels near and far.

Z. Tu, H. Talebi, H. Zhang, F. Yang, P. Milanfar, A. Bovik, Y. Li, "MAXIM: Multi-Axis MLP for Image
Processing", CVPR 2022, arXiv:2201.02973. GoPro 32.86 dB / 0.961 with three stages (quoted).

Each stage is a U-Net. Its blocks mix pixels along two axes: within blocks of a fixed size, which
lie near each other, and across a grid of cells that spans the image, which lie far apart. The skip
connections of all levels are fused and gated by the features from below (cross gating). A stage
passes its features and, through supervised attention, its result to the next.

Computes what the authors' code computes, except that padding is left to the caller. The result
after an earlier stage needs only the parameters of the stages up to it: `stages=1` restores with
the first stage of a longer network.
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax.nn.attention import ChannelAttention
from deblur_jax.nn.conv import Conv, ConvTranspose
from deblur_jax.nn.norm import LayerNorm
from deblur_jax.nn.parameters import parameter
from deblur_jax.nn.resample import enlarge_bilinear, shrink_bilinear
from deblur_jax.nn.strips import in_strips
from deblur_jax.types import Needs

VARIANTS = {
  # 22,212,795 parameters, the paper's MAXIM-3S for deblurring
  'default': {'features': 32, 'stages': 3},
  # 14,176,178, MAXIM-2S
  's2': {'features': 32, 'stages': 2},
  # 6,139,561, MAXIM-1S
  's1': {'features': 32, 'stages': 1},
  # 66,991,707
  'm3': {'features': 64, 'stages': 3},
  # 43,227,986
  'm2': {'features': 64, 'stages': 2},
  # 19,464,265
  'm1': {'features': 64, 'stages': 1},
  # trains in minutes on a laptop
  'tiny': {
    'features': 8,
    'stages': 2,
    'groups': 1,
    'bottlenecks': 1,
    'block': (8, 8),
    'grid': (8, 8),
    'coarse_block': (4, 4),
  },
  # for tests
  'smoke': {
    'features': 4,
    'stages': 2,
    'depth': 2,
    'scales': 2,
    'groups': 1,
    'bottlenecks': 1,
    'high_resolution_levels': 1,
    'block': (4, 2),
    'grid': (2, 4),
    'coarse_block': (2, 2),
  },
}


class Axes(NamedTuple):
  """How a level of the U-Net is divided for mixing."""

  block: tuple[int, int]
  """Height and width of a block, in pixels of the level."""
  grid: tuple[int, int]
  """Cells of the grid from top to bottom and from left to right."""


class Carried(NamedTuple):
  """What a stage passes to the next, each a list of features by level, finest first."""

  encoded: list[jax.Array]
  decoded: list[jax.Array]
  attended: list[jax.Array]


class Block(nn.Module):
  """What all blocks share: the axes along which they mix, and the layers that they are made of."""

  axes: Axes
  reduction: int
  dtype: Any

  def dense(self, features, name, init=None, **options):
    return Conv(features, 1, kernel_init=init or _lecun, dtype=self.dtype, name=name, **options)

  def conv3x3(self, features, name):
    return Conv(features, 3, kernel_init=_lecun, dtype=self.dtype, name=name)

  def attend(self, name):
    return ChannelAttention(self.reduction, use_bias=True, dtype=self.dtype, name=name)

  def same(self, block, name, **options):
    """Another block with the same axes."""
    return block(self.axes, self.reduction, self.dtype, name=name, **options)

  def mixed(self, x, **options):
    """`x` mixed far away, along the grid, and mixed nearby, in blocks."""
    grid, block = (self.same(Mixer, axis, axis=axis, **options) for axis in ('grid', 'block'))
    far = in_strips(grid, x, self.axes.grid[0], across=True)
    near = in_strips(block, x, x.shape[1] // self.axes.block[0], across=False)
    return far, near


class SpatialDense(nn.Module):
  """A dense layer over pixels instead of channels: mixes `[p b r c]` along the first axis."""

  bias_init: Callable[..., jax.Array]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    size = x.shape[0]
    kernel = parameter(self, 'kernel', _small, (size, size)).astype(self.dtype)
    bias = parameter(self, 'bias', self.bias_init, (size,)).astype(self.dtype)
    return (kernel.T @ x.reshape(size, -1)).reshape(x.shape) + bias.reshape(size, 1, 1, 1)


class GatedMLP(Block):
  """Mixes `[p b r c]` along the first axis by a gate: half of the channels weighs the others."""

  @nn.compact
  def __call__(self, x):
    c = x.shape[-1]
    out = self.dense(2 * c, 'in_project', _small)(LayerNorm(name='norm')(x))
    left, gate = map(gelu, jnp.split(out, 2, axis=-1))
    gate = LayerNorm(name='gate_norm')(gate)
    gate = SpatialDense(nn.initializers.zeros, self.dtype, name='mix')(gate)
    return x + self.dense(c, 'out_project', _small)(left * (gate + 1))


class Mixer(Block):
  """Mixes pixels along one axis, between two dense layers over channels.

  Along 'block' it mixes the pixels of each block; along 'grid' those at the same place in
  all the cells of the grid.
  """

  axis: str = 'grid'
  gated: bool = True

  @nn.compact
  def __call__(self, x):
    c, use_bias = x.shape[-1], self.axis == 'grid'  # one bias does for the sum over both axes
    x, undivide = divide(x, self.axis, getattr(self.axes, self.axis))
    x = gelu(self.dense(c, 'in_project', _small)(x))
    if self.gated:
      x = self.same(GatedMLP, 'gated_mlp')(x)
    else:
      x = SpatialDense(nn.initializers.ones, self.dtype, name='mix')(x)
    return undivide(self.dense(c, 'out_project', _small, use_bias=use_bias)(x))


def divide(x, axis, shape):
  """`x` `[b h w c]` as `[p b r c]`, p the pixels that are mixed, and what brings it back.

  These are the pixels of a block of this shape, or one of each cell of a grid of this shape.
  """
  (b, h, w, c), (rows, columns) = x.shape, shape
  if axis == 'grid':  # [b, cell down, row, cell across, column, c]
    x = x.reshape(b, rows, h // rows, columns, w // columns, c)
    order = (1, 3, 0, 2, 4, 5)
  else:  # [b, block down, row, block across, column, c]
    x = x.reshape(b, h // rows, rows, w // columns, columns, c)
    order = (2, 4, 0, 1, 3, 5)
  divided = x.transpose(order)
  back = [order.index(i) for i in range(6)]

  def undivide(x):
    return x.reshape(divided.shape).transpose(back).reshape(b, h, w, c)

  return divided.reshape(rows * columns, b, -1, c), undivide


class MAB(Block):
  """Multi-axis gated MLP block: half of the channels mixed along the grid, half in blocks."""

  @nn.compact
  def __call__(self, x):
    out = LayerNorm(name='norm')(x)
    far, near = self.mixed(out)
    return x + far + near


class RCAB(Block):
  """Residual channel attention block: two convolutions and channel attention."""

  @nn.compact
  def __call__(self, x):
    out = self.conv3x3(x.shape[-1], 'conv1')(LayerNorm(name='norm')(x))
    out = self.conv3x3(x.shape[-1], 'conv2')(nn.leaky_relu(out, 0.2))
    return x + self.attend('channel_attention')(out)


class RDCAB(Block):
  """Residual dense channel attention block: dense layers in place of the convolutions."""

  @nn.compact
  def __call__(self, x):
    out = self.dense(x.shape[-1], 'dense1', _small)(LayerNorm(name='norm')(x))
    out = self.dense(x.shape[-1], 'dense2', _small)(gelu(out))
    return x + self.attend('channel_attention')(out)


class Gate(Block):
  """Weights for another signal, made by mixing this one along both axes."""

  @nn.compact
  def __call__(self, x):
    far, near = self.mixed(LayerNorm(name='norm')(x), gated=False)
    return far + near


class CGB(Block):
  """Cross gating block: two signals `[b h w *]`, each weighed by gates made of the other."""

  features: int = 32

  @nn.compact
  def __call__(self, x, y):
    x, y = (self.dense(self.features, f'in_{name}')(z) for name, z in (('x', x), ('y', y)))
    left, right = self.project(x, 'x'), self.project(y, 'y')
    y = y + self.dense(self.features, 'out_y')(right * self.same(Gate, 'gate_x')(left))
    x = x + self.dense(self.features, 'out_x')(left * self.same(Gate, 'gate_y')(right)) + y
    return x, y

  def project(self, x, name):
    return gelu(self.dense(self.features, f'project_{name}')(LayerNorm(name=f'norm_{name}')(x)))


class Body(Block):
  """The blocks of a level of the encoder or decoder, around them a shortcut."""

  features: int = 32
  groups: int = 2

  @nn.compact
  def __call__(self, x):
    x = shortcut = self.dense(self.features, 'merge')(x)
    for i in range(self.groups):
      x = self.same(MAB, f'mab{i}')(x)
      x = self.same(RCAB, f'rcab{i}')(x)
    return x + shortcut


class Bottleneck(Block):
  """The blocks below the last level, around them a shortcut."""

  groups: int = 2

  @nn.compact
  def __call__(self, x):
    x = shortcut = self.dense(x.shape[-1], 'in_project')(x)
    for i in range(self.groups):
      x = self.same(MAB, f'mab{i}')(x)
      x = self.same(RDCAB, f'rdcab{i}')(x)
    return x + shortcut


class SAM(Block):
  """Supervised attention module: features weighed by what a restored image shows."""

  @nn.compact
  def __call__(self, x, image):
    weight = nn.sigmoid(self.conv3x3(x.shape[-1], 'weight')(image))
    return self.conv3x3(x.shape[-1], 'features')(x) * weight + x


class MAXIM(nn.Module):
  """Stages, each a U-Net that takes the image at several scales and restores it at all of them."""

  features: int = 32
  """Channels at the finest level; twice as many at each further one."""
  stages: int = 3
  depth: int = 3
  """Levels of the U-Net."""
  scales: int = 3
  """Scales of the image that a stage takes and restores, at most `depth`."""
  groups: int = 2
  """Pairs of blocks in a row."""
  bottlenecks: int = 2
  high_resolution_levels: int = 2
  """Levels that are mixed along `block` and `grid`; the others along `coarse_block` for both."""
  block: tuple[int, int] = (16, 16)
  grid: tuple[int, int] = (16, 16)
  coarse_block: tuple[int, int] = (8, 8)
  reduction: int = 4
  """By how much channel attention narrows."""
  coarse_outputs: bool = True
  """Whether the last stage restores the coarser scales too, which only its training asks for."""
  channels: int = 3
  remat: bool = False
  """Whether training computes the insides of blocks again, instead of keeping them: less memory."""
  dtype: Any = jnp.float32

  @property
  def needs(self) -> Needs:
    # A pixel depends on all others through the grid, whose cells grow with the image, so a tile is
    # not what the whole would be; context does not help, large tiles do.
    sides = [
      side * 2**level
      for level in range(self.depth + 1)
      for shape in self.axes(level)
      for side in shape
    ]
    return Needs(multiple=math.lcm(*sides), tiling='approximate', halo=32)

  def axes(self, level: int) -> Axes:
    """How a level is divided; `depth` is that of the bottleneck."""
    if level < min(self.high_resolution_levels, self.depth):
      return Axes(self.block, self.grid)
    return Axes(self.coarse_block, self.coarse_block)

  def pyramid(self, sharp: jax.Array) -> list[jax.Array]:
    """What 'scales' should be: for each stage, the last first, the image from fine to coarse."""
    targets = shrunken(sharp, self.scales)
    last = targets if self.coarse_outputs else targets[:1]
    return last + targets * (self.stages - 1)

  @nn.compact
  def __call__(self, blurred: jax.Array, *, train: bool = False) -> dict[str, Any]:
    images, carried, stages = shrunken(blurred, self.scales), None, []
    for stage in range(1, self.stages + 1):
      last = stage == self.stages
      restored, carried = self.stage(f'stage{stage}', images, carried, last)
      stages.append(restored)
    scales = tuple(image for restored in reversed(stages) for image in restored)
    finest = tuple(restored[0] for restored in stages)
    return {'restored': finest[-1], 'stages': finest, 'scales': scales}

  def stage(self, name, images, before, last):
    """Restored images, fine to coarse, and what goes to the next stage."""
    levels = range(self.depth)

    def make(block, level, part, **options):
      wrapped = nn.remat(block) if self.remat else block
      axes = self.axes(level)
      return wrapped(axes, self.reduction, self.dtype, name=f'{name}_{part}', **options)

    def conv(features, size, stride, part):
      return Conv(
        features,
        size,
        stride,
        padding=1,
        kernel_init=_lecun,
        dtype=self.dtype,
        name=f'{name}_{part}',
      )

    def up(level, part):
      features = self.features << level
      return ConvTranspose(
        features, 2, 2, kernel_init=_lecun, dtype=self.dtype, name=f'{name}_{part}{level}'
      )

    def fused(signals, level, part):
      """Signals of all levels at one of them, finest or coarsest first, side by side."""
      features = self.features << level
      parts = []
      for source, signal in signals:
        dense = Conv(
          features,
          1,
          kernel_init=_lecun,
          dtype=self.dtype,
          name=f'{name}_{part}{source}_to{level}',
        )
        parts.append(resized(dense, signal, source - level))
      return jnp.concatenate(parts, axis=-1)

    inputs = []
    for level, image in enumerate(images):
      x = conv(self.features << level, 3, 1, f'input{level}')(image)
      if before:
        fuse = make(CGB, level, f'fuse_sam{level}', features=self.features << level)
        x, _ = fuse(x, before.attended[level])
      inputs.append(x)

    x, encoded = inputs[0], []
    for level in levels:
      features = self.features << level
      if level < len(inputs):
        x = jnp.concatenate([x, inputs[level]], axis=-1)
      x = make(Body, level, f'encoder{level}', features=features, groups=self.groups)(x)
      if before:
        gate = before.encoded[level] + before.decoded[level]
        x, _ = make(CGB, level, f'cross_stage{level}', features=features)(x, gate)
      encoded.append(x)
      x = conv(features, 4, 2, f'down{level}')(x)

    for i in range(self.bottlenecks):
      x = make(Bottleneck, self.depth, f'bottleneck{i}', groups=self.groups)(x)

    gate, skips = x, {}
    for level in reversed(levels):
      signal = fused(enumerate(encoded), level, 'encoded')
      cross = make(CGB, level, f'cross_gating{level}', features=self.features << level)
      skips[level], gate = cross(signal, up(level, 'gate_up')(gate))

    decoded, restored, attended = {}, [], []
    for level in reversed(levels):
      x = jnp.concatenate([up(level, 'up')(x), fused(skips.items(), level, 'skip')], axis=-1)
      body = make(
        Body, level, f'decoder{level}', features=self.features << level, groups=self.groups
      )
      decoded[level] = x = body(x)
    for level, image in enumerate(images):
      if last and level and not self.coarse_outputs:
        break
      output = conv(self.channels, 3, 1, f'output{level}')(decoded[level])
      restored.append(output.astype(jnp.float32) + image)
      if not last:
        attended.append(make(SAM, level, f'sam{level}')(decoded[level], restored[-1]))
    return restored, Carried(encoded, [decoded[level] for level in levels], attended)


def gelu(x):
  """GELU by its tanh approximation, as the authors compute it."""
  return nn.gelu(x, approximate=True)


def shrunken(image, scales):
  """The image at each scale, halved from one to the next by keeping every other pixel."""
  halves = [2**i // 2 for i in range(scales)]
  return [image] + [image[:, half :: 2 * half, half :: 2 * half] for half in halves[1:]]


def resized(dense, x, octaves):
  """A dense layer of `x` enlarged by 2^octaves, or shrunken where that is below 1.

  The layer goes before enlarging, where it has fewer pixels; both being linear, it is the same.
  """
  if octaves < 0:
    return dense(shrink_bilinear(x, 2**-octaves))
  return enlarge_bilinear(dense(x), 2**octaves)


_lecun = nn.initializers.lecun_normal()
_small = nn.initializers.normal(0.02)  # the authors' for layers that mix


def Model(variant: str = 'default', **overrides: Any) -> MAXIM:
  """A `MAXIM` as `VARIANTS` has it, with `overrides`."""
  return MAXIM(**{**VARIANTS[variant], **overrides})
