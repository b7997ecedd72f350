"""Types that the parts of the package share.

Images are float32 in [0, 1], RGB, channels last, `[b h w c]`; on the host and on the way to the
device they are uint8. Functions on images do not clip.
"""

from collections.abc import Callable, Mapping
import dataclasses
import numbers
from typing import Any, NamedTuple, Protocol

from flax import struct
import jax
import jax.numpy as jnp

# {'sharp': [b h w 3], 'blurred': [b h w 3]}; 'blurred' is absent if the device makes the blur.
# In a mixture of both, 'paired' [b] says which 'blurred' to use.
Batch = Mapping[str, jax.Array]


class Restore(Protocol):
  """Anything that turns blurred images into sharper ones: a network, a solver, an ensemble."""

  def __call__(self, blurred: Any, **known: Any) -> Any:
    """Restored images `[b h w 3]`, like `blurred`; `known` may hold a PSF or a noise level."""
    ...


TILINGS = 'exact', 'approximate', 'none'


@dataclasses.dataclass(frozen=True)
class Needs:
  """What a method needs of an image; `tiling.py` provides it.

  Raises ValueError for an unknown `tiling`, and for sizes that are not integers or too small.
  """

  multiple: int = 1
  """Both sides are padded to a multiple of this."""
  tiling: str = 'exact'
  """'exact': a pixel depends only on its `halo`, so tiles give the same result as the whole image;
  'approximate': whole-image statistics matter, so tiles change the result slightly;
  'none': the method cannot be tiled."""
  halo: int = 0
  """Pixels of context that a tile needs on every side."""
  side: int = 0
  """The only side of the square images that the method takes; 0 if it takes any size."""
  reach: int | None = None
  """If tiling is 'approximate': how many pixels on every side a pixel depends on at most; None if
  it depends on all of them, as with statistics of the whole image."""
  borders: bool = False
  """Whether the method itself models what is beyond the border: if an image were padded, to share a
  compiled shape with others, it would treat the padding as pixels that the camera saw."""

  def __post_init__(self) -> None:
    if self.tiling not in TILINGS:
      raise ValueError(f'Needs: unknown tiling {self.tiling!r} (known: {", ".join(TILINGS)})')
    for name, least in (('multiple', 1), ('halo', 0), ('side', 0), ('reach', 0)):
      value = getattr(self, name)
      if value is None and name == 'reach':
        continue
      if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f'Needs: {name} must be an integer of at least {least}, got {value!r}')

  @property
  def field(self) -> int | None:
    """The receptive field: side of the square that a pixel depends on; None for the whole image."""
    reach = self.halo if self.tiling == 'exact' else self.reach
    return None if reach is None else 2 * reach + 1

  def square(self, least: int) -> int:
    """The side of a square image that the method takes, at least `least` if possible."""
    return self.side or -(-least // self.multiple) * self.multiple


class TrainState(struct.PyTreeNode):
  """Everything that training changes; arrays only, so that it can be saved, sharded and donated."""

  step: jax.Array
  params: Any
  opt_state: Any
  ema: Any = None
  critic: Any = None
  """(params, opt_state) of the critic, if there is one."""


class Trainer(NamedTuple):
  """A training method: three pure functions."""

  init: Callable[[jax.Array, Batch], TrainState]
  """(key, batch) -> state"""
  step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
  """(state, batch) -> (state, metrics)"""
  predict: Callable[[TrainState, jax.Array], jax.Array]
  """(state, blurred [b h w 3]) -> restored [b h w 3]"""


def as_float(images: Any) -> Any:
  """float32 in [0, 1] from uint8; float images are only converted to float32."""
  scale = 255 if images.dtype == jnp.uint8 else 1
  return images.astype(jnp.float32) / scale
