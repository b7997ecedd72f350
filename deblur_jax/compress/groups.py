"""Groups of channels that can only be removed together, for the networks that can be pruned.

Channel i of a group is the same channel in all of its layers: an addition or a product makes its
operands one group. For each parameter, `Tied` lists which groups the channels on each of its axes
belong to; an axis without groups, such as the pixels of a kernel or the colors of the image, is
never cut.
"""

from collections.abc import Iterable, Mapping
import math
from typing import Any, NamedTuple

import numpy as np

Groups = tuple[str, ...]
Shapes = Mapping[str, tuple[int, ...]]
"""Name of a parameter, such as 'intro/kernel' -> its shape."""


class Axis(NamedTuple):
  """The groups of the channels on one axis of a parameter, one after another."""

  groups: Groups = ()
  """A group that occurs twice has both halves of a gate here."""
  repeat: int = 1
  """Neighbors on the axis that belong to one channel: four before a pixel shuffle by 2."""

  def indices(self, channels: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> np.ndarray:
    """Where the given channels of each group are on this axis."""
    found, start = [], 0
    for group in self.groups:
      first = (start + channels[group])[:, None] * self.repeat
      found.append((first + np.arange(self.repeat)).ravel())
      start += sizes[group]
    return np.concatenate(found)

  def sums(self, values: np.ndarray, sizes: Mapping[str, int]) -> Iterable[tuple[str, np.ndarray]]:
    """(group, sum for each of its channels) of the `values` along this axis."""
    each = values.reshape(-1, self.repeat).sum(1)
    ends = np.cumsum([sizes[group] for group in self.groups])
    return zip(self.groups, np.split(each, ends[:-1]), strict=True)


class Tied:
  """The axes of a network's parameters, by the names of the parameters that it has."""

  def __init__(self, shapes: Shapes):
    self._shapes = shapes
    self.axes: dict[str, tuple[Axis, ...]] = {}
    self.narrow: dict[str, tuple[str, int]] = {}
    """Group -> the group that it has a whole fraction of the channels of, and the divisor."""

  def sizes(self) -> dict[str, int]:
    """The number of channels of each group."""
    return {
      axis.groups[0]: length // (axis.repeat * len(axis.groups))
      for name, axes in self.axes.items()
      for axis, length in zip(axes, self._shapes[name], strict=True)
      if len(set(axis.groups)) == 1
    }

  def scaled(self, old: int, new: int) -> dict[str, int]:
    """`sizes` if the width of the network, to which they are proportional, goes from old to new."""
    sizes = {group: size * new // old for group, size in self.sizes().items()}
    return sizes | {group: sizes[wide] // by for group, (wide, by) in self.narrow.items()}

  def count(self, sizes: Mapping[str, int]) -> int:
    """The number of the network's parameters if the groups have these sizes."""
    return sum(math.prod(self.shape(name, sizes)) for name in self._shapes)

  def shape(self, name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a parameter if the groups have these sizes."""
    old = self._shapes[name]
    axes = self.axes.get(name, (Axis(),) * len(old))
    return tuple(
      sum(sizes[group] for group in axis.groups) * axis.repeat if axis.groups else length
      for axis, length in zip(axes, old, strict=True)
    )

  def conv(self, name: str, inputs: Groups, outputs: Groups, *, repeat: int = 1) -> None:
    """A convolution, pointwise or transposed included."""
    self._add(f'{name}/kernel', Axis(), Axis(), Axis(inputs), Axis(outputs, repeat))
    self.vector(f'{name}/bias', outputs)

  def depthwise(self, name: str, channels: Groups) -> None:
    """A depthwise convolution."""
    self.conv(name, (), channels)

  def norm(self, name: str, channels: Groups) -> None:
    """Scale and bias of a normalization."""
    self.vector(f'{name}/scale', channels)
    self.vector(f'{name}/bias', channels)

  def vector(self, name: str, channels: Groups) -> None:
    """A parameter with one value for each channel."""
    self._add(name, Axis(channels))

  def _add(self, name: str, *axes: Axis) -> None:
    if name in self._shapes:
      self.axes[name] = axes


def nafnet(model: Any, tied: Tied) -> None:
  """Adds the parameters of a NAFNet: one group for the sums of each level, two for each block."""
  depth = len(model.enc_blk_nums)
  streams = [(f'level_{level}',) for level in range(depth + 1)]

  def blocks(name: str, count: int, stream: Groups) -> None:
    for i in range(count):
      _naf_block(tied, f'{name}_{i}', stream)

  tied.conv('intro', (), streams[0])
  for level, count in enumerate(model.enc_blk_nums):
    blocks(f'encoders_{level}', count, streams[level])
    tied.conv(f'downs_{level}', streams[level], streams[level + 1])
  blocks('middle_blks', model.middle_blk_num, streams[depth])
  for i, count in enumerate(model.dec_blk_nums):
    level = depth - 1 - i
    tied.conv(f'ups_{i}', streams[level + 1], streams[level], repeat=4)
    blocks(f'decoders_{i}', count, streams[level])
  tied.conv('ending', streams[0], ())


def _naf_block(tied: Tied, name: str, stream: Groups) -> None:
  gate, hidden = (f'{name}/gate',), (f'{name}/hidden',)
  tied.norm(f'{name}/norm1', stream)
  tied.conv(f'{name}/conv1', stream, gate * 2)
  tied.depthwise(f'{name}/conv2', gate * 2)
  tied.conv(f'{name}/sca', gate, gate)
  tied.conv(f'{name}/conv3', gate, stream)
  tied.vector(f'{name}/beta', stream)
  tied.norm(f'{name}/norm2', stream)
  tied.conv(f'{name}/conv4', stream, hidden * 2)
  tied.conv(f'{name}/conv5', hidden, stream)
  tied.vector(f'{name}/gamma', stream)


def maxim(model: Any, tied: Tied) -> None:
  """Adds the parameters of a MAXIM, stage by stage."""
  before: list[Groups] = []
  for stage in range(1, model.stages + 1):
    before = _Stage(model, tied, f'stage{stage}', stage == model.stages).add(before)


class _Stage:
  """A stage of MAXIM; its methods follow those of the network."""

  def __init__(self, model: Any, tied: Tied, name: str, last: bool):
    self.model, self.tied, self.name, self.last = model, tied, name, last

  def add(self, before: list[Groups]) -> list[Groups]:
    """Adds its parameters; returns the groups of what it passes on, by level.

    `before` is that of the stage before it. What the encoder and the decoder of a level make is
    one group if the next stage adds them.
    """
    levels, conv = range(self.model.depth), self.conv
    encoded = [(f'{self.name}_encoded{level}',) for level in levels]
    decoded = [(f'{self.name}_decoded{level}',) for level in levels] if self.last else encoded

    inputs = []
    for level in range(self.model.scales):
      x = conv(f'input{level}', ())
      inputs.append(self.cgb(f'fuse_sam{level}', x, before[level]) if before else x)
    x = inputs[0]
    for level in levels:
      merged = x + inputs[level] if level < len(inputs) else x
      if before:
        x = self.body(f'encoder{level}', merged, (f'{self.name}_encoder{level}',))
        self.cgb(f'cross_stage{level}', x, before[level], encoded[level])
      else:
        self.body(f'encoder{level}', merged, encoded[level])
      x = conv(f'down{level}', encoded[level])

    for i in range(self.model.bottlenecks):
      x = self.bottleneck(f'bottleneck{i}', x)

    gate, skips = x, {}
    for level in reversed(levels):
      signal = self.fused(enumerate(encoded), level, 'encoded')
      gate = self.cgb(f'cross_gating{level}', signal, conv(f'gate_up{level}', gate))
      skips[level] = gate
    for level in reversed(levels):
      merged = conv(f'up{level}', x) + self.fused(skips.items(), level, 'skip')
      x = self.body(f'decoder{level}', merged, decoded[level])
      conv(f'output{level}', x, ())
      conv(f'sam{level}/weight', (), x)
      conv(f'sam{level}/features', x, x)
    return decoded

  def conv(self, part: str, inputs: Groups, outputs: Groups | None = None) -> Groups:
    """A convolution to `outputs`, by default a group of its own."""
    name = f'{self.name}_{part}'
    outputs = (name,) if outputs is None else outputs
    self.tied.conv(name, inputs, outputs)
    return outputs

  def norm(self, part: str, x: Groups) -> None:
    self.tied.norm(f'{self.name}_{part}', x)

  def fused(self, signals: Iterable[tuple[int, Groups]], level: int, part: str) -> Groups:
    return sum((self.conv(f'{part}{source}_to{level}', x) for source, x in signals), ())

  def mixed(self, part: str, inputs: Groups, outputs: Groups) -> None:
    """Mixing along the grid and in blocks, and the normalization before."""
    self.norm(f'{part}/norm', inputs)
    for axis in ('grid', 'block'):
      mixer = f'{part}/{axis}'
      x = self.conv(f'{mixer}/in_project', inputs)
      mlp = f'{mixer}/gated_mlp'
      gate = (f'{self.name}_{mlp}',)
      self.norm(f'{mlp}/norm', x)
      self.conv(f'{mlp}/in_project', x, gate * 2)
      self.norm(f'{mlp}/gate_norm', gate)
      self.conv(f'{mlp}/out_project', gate, x)
      self.conv(f'{mixer}/out_project', x, outputs)

  def attended(self, part: str, x: Groups, layers: tuple[str, str]) -> None:
    """A residual block of two convolutions or dense layers, with channel attention."""
    self.norm(f'{part}/norm', x)
    self.conv(f'{part}/{layers[1]}', self.conv(f'{part}/{layers[0]}', x), x)
    narrow = self.conv(f'{part}/channel_attention/conv_du_0', x)
    self.tied.narrow[narrow[0]] = (x[0], self.model.reduction)
    self.conv(f'{part}/channel_attention/conv_du_2', narrow, x)

  def body(self, part: str, inputs: Groups, x: Groups) -> Groups:
    self.conv(f'{part}/merge', inputs, x)
    for i in range(self.model.groups):
      self.mixed(f'{part}/mab{i}', x, x)
      self.attended(f'{part}/rcab{i}', x, ('conv1', 'conv2'))
    return x

  def bottleneck(self, part: str, inputs: Groups) -> Groups:
    x = self.conv(f'{part}/in_project', inputs)
    for i in range(self.model.groups):
      self.mixed(f'{part}/mab{i}', x, x)
      self.attended(f'{part}/rdcab{i}', x, ('dense1', 'dense2'))
    return x

  def cgb(self, part: str, x: Groups, y: Groups, outputs: Groups | None = None) -> Groups:
    """Cross gating; both of its outputs are one group, as the second is added to the first."""
    both = outputs or (f'{self.name}_{part}',)
    ends = {}
    for name, inputs in (('x', x), ('y', y)):
      self.conv(f'{part}/in_{name}', inputs, both)
      self.norm(f'{part}/norm_{name}', both)
      ends[name] = self.conv(f'{part}/project_{name}', both)
      self.conv(f'{part}/out_{name}', ends[name], both)
    self.mixed(f'{part}/gate_x', ends['x'], ends['y'])
    self.mixed(f'{part}/gate_y', ends['y'], ends['x'])
    return both
