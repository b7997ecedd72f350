"""Restores numpy arrays by any method.

A method gets RGB: grey is repeated into three channels, and the luma of the result (Rec. 601) is
kept; alpha is copied unchanged.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import os
from typing import Any
import warnings

import jax
import numpy as np

from deblur_jax import color, methods, tiling, zoo
from deblur_jax.photos import blind_check, interrupt
from deblur_jax.photos.pictures import as_float
from deblur_jax.solvers import WITHOUT_PSF, estimate_psf
from deblur_jax.types import Needs
from deblur_jax.uncertainty import spread

Path = str | os.PathLike[str]
Note = Callable[[str], None]

UNCHANGED = 'unchanged'
"""The name of the method that returns its input."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. 601; sums to 1, so a result with equal channels is unchanged."""

MOST_FLOAT = 16
"""A float image with larger values must be in [0, 255] or [0, 65535], and is refused."""

LOOKED_AT = 2048
"""Side in pixels of the central crop from which a PSF is estimated."""

TURNS = 'turns'
OF_NETWORK = {
  'stages': spread.of_stages,
  'samples': spread.of_samples,
  'dropout': spread.of_dropout,
  'head': spread.of_head,
}
"""What spreads can be taken over, besides other methods."""

FALLBACK_STRENGTH = 0.5
"""Strength of the default weights if no PSF was found. On 40 real shaken and defocused shots
(GoPro, phones, a camera) the mean gain is 0.6 dB and the worst loss 0.4 dB; at full strength the
worst loss is 1.2 dB."""


@dataclasses.dataclass(frozen=True)
class Restorer:
  """Applies a method to images of any layout and dtype; stateless, so threads can share it."""

  method: zoo.Method
  tile: int | None = None
  """Side of the tiles in pixels; None chooses it automatically."""
  self_ensemble: bool = False
  """Whether to average over rotated and mirrored copies, which takes eight times as long."""
  samples: int = 1
  """How many results to average, of a method that samples."""
  seed: int = 0
  """Which sample to draw, of a method that samples; the first one, if several are averaged."""
  strength: float = 1.0
  """Blends the input (0) and the result (1)."""
  precise: Callable[[], zoo.Method] | None = None
  """Returns the same method in float32, used for tiles whose result has NaN or infinity."""
  find: Callable[[Any], estimate_psf.Estimate] | None = None
  """Estimates the PSF of a picture `[h w c]` in linear light; None if the method needs none."""
  fallback: Callable[[], 'Restorer'] | None = None
  """Returns what restores a picture if the estimated PSF is rejected; None leaves it unchanged."""
  force: bool = False
  """Whether to use an estimated PSF even if it is likely wrong."""
  find_spread: spread.Spread | None = None
  """How `spreads` are computed; None means that of the eight turns of `method`."""

  def __call__(self, image: np.ndarray, *, mask: np.ndarray | None = None) -> np.ndarray:
    """The restored image, of the dtype and shape of `image`.

    `image` is `[h w]`, `[h w c]` or `[b h w c]` with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB,
    alpha) channels, uint8, uint16 or float in [0, 1]. Floats are not clipped. `mask` `[h w]`, of
    one of these types or bool, is white where to restore and black where not; grey blends. Raises
    ValueError for any other image or mask. Warns if an estimated PSF is likely wrong, and then uses
    `fallback` unless `force` is set.
    """
    given = np.asarray(image)
    image = given.astype(given.dtype.newbyteorder('='), copy=False)
    images = _batched(image)
    if mask is not None:
      mask = np.asarray(mask)
      mask = mask.astype(np.float32) if mask.dtype == bool else mask
      if mask.shape != images.shape[1:3]:
        raise ValueError(f'the mask must have shape {images.shape[1:3]}, not {mask.shape}')
      mask = _batched(mask)
    result = np.empty_like(images)
    for i in range(len(images)):  # One by one, so no result depends on the rest of the batch.
      one = images[i : i + 1]
      restorer, found, reason = self.checked(one)
      if reason:
        warnings.warn(f'{reason}; force=True uses it anyway', stacklevel=2)
      for rows, restored in restorer.parts(one, mask=mask, psf=found and found.psf):
        result[i, rows] = restored[0]
    return result.reshape(image.shape).astype(given.dtype, copy=False)

  def find_psf(
    self, images: tiling.Images, transfer: color.Transfer = color.SRGB
  ) -> estimate_psf.Estimate | None:
    """The estimated PSF of the single picture in `images` `[1 h w c]`; None if none is needed.

    Uses the middle of a large picture, in linear light.
    """
    if not self.find:
      return None
    found = self.find(transfer.to_linear(middle(images)))
    return estimate_psf.Estimate(np.asarray(found.psf), float(found.confidence))

  def checked(
    self, images: tiling.Images, transfer: color.Transfer = color.SRGB, *, force: bool = False
  ) -> tuple['Restorer', estimate_psf.Estimate | None, str]:
    """Checks the PSF estimated from the single picture in `images` `[1 h w c]`.

    Returns (restorer, PSF, reason). If the PSF is accepted, or none is needed, the restorer is
    `self` and the reason ''. If it is rejected, the restorer is the fallback, the PSF None, and the
    reason says why. `force` accepts any.
    """
    found = self.find_psf(images, transfer)
    if found is None or force or self.force:
      return self, found, ''
    reason = blind_check.objection(middle(images), found, transfer)
    if not reason:
      return self, found, ''
    restorer, instead = _fallback(self)
    hint = blind_check.cut_off(found)
    return restorer, None, f'no PSF found ({reason}): {instead}{"; " if hint else ""}{hint}'

  def parts(
    self,
    images: tiling.Images,
    *,
    mask: tiling.Images | None = None,
    psf: Any = None,
    transfer: color.Transfer = color.SRGB,
    note: Note = lambda text: None,
    tick: Callable[[], None] = lambda: None,
  ) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields `(rows, restored [1 r w c])` from top to bottom of the single image in `images`.

    `images` is `[1 h w c]`, `mask` `[1 h w 1]`, `psf` the estimated PSF if there is one, and
    `transfer` the transfer curve of the values, used by classical methods. `note` is called with a
    sentence about anything that did not go as planned, `tick` after every tile. The image is padded
    only to the method's own multiple, so its result does not depend on what else is restored.
    Raises MemoryError if not even the smallest tile fits, ValueError if the method returns values
    that are not finite.
    """
    needs = self.method.needs
    known = {} if psf is None else {'psf': psf}
    known |= {'transfer': transfer} if needs.borders else {}  # only classical methods have borders
    restore = functools.partial(self.method.restore, **known)
    if self.method.samples:
      restore = _mean_of_samples(restore, self.samples, self.seed)
    restore = tiling.smaller_when_out_of_memory(_finite(restore, self.precise, note), needs, note)
    if self.self_ensemble:
      restore = tiling.self_ensemble(restore)
    seen, on_seen = images, _on_colors(restore)
    if mask is not None and self.method.reads_masks:
      seen, on_seen = _Masked(images, mask), _on_masked(restore, grey=images.shape[-1] < 3)
    for (which, rows), colors in tiling.bands(_ticking(on_seen, tick), seen, needs, tile=self.tile):
      restored = np.array(images[which, rows])
      kept = restored[..., : _colors(restored)]
      if mask is not None or self.strength != 1:
        weight = self.strength * (1 if mask is None else as_float(mask[:, rows]))
        before = as_float(kept)
        colors = before + weight * (colors - before)
      kept[...] = _quantized(colors, kept.dtype)
      yield rows, restored

  def spreads(
    self,
    images: tiling.Images,
    *,
    note: Note = lambda text: None,
    tick: Callable[[], None] = lambda: None,
  ) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields `(rows, spread [1 r w c])` of the single image in `images`, as `parts` does results.

    See `uncertainty.spread`; each tile has its own.
    """
    needs, compute = self.method.needs, self.find_spread or spread.of_turns(self.method.restore)
    compute = tiling.smaller_when_out_of_memory(compute, needs, note)
    tiles = _ticking(_on_colors(compute), tick)
    for (_, rows), spreads in tiling.bands(tiles, images, needs, tile=self.tile):
      yield rows, spreads


def middle(images: tiling.Images) -> np.ndarray:
  """The colors `[h w c]`, in [0, 1], of the middle of the first of `images` `[b h w c]`."""
  _, height, width, _ = images.shape
  top, left = (max(0, side - LOOKED_AT) // 2 for side in (height, width))
  part = images[:1, top : min(height, top + LOOKED_AT)][0, :, left : left + LOOKED_AT]
  return as_float(part[..., : _colors(part)])


def load(
  name: Path = methods.DEFAULT,
  *,
  tile: int | None = None,
  self_ensemble: bool = False,
  samples: int = 1,
  seed: int = 0,
  strength: float = 1.0,
  psf: np.ndarray | int | None = None,
  settings: Mapping[str, Any] | None = None,
  force: bool = False,
  spread_of: str = TURNS,
) -> Restorer:
  """A function that restores numpy images with the method `name`.

  `name` is the name of shipped weights (`methods.shipped`), a run's folder, a `.safetensors` file
  or a classical method (`solvers.SOLVERS`). For a classical method, `psf` is the PSF `[kh kw]` that
  blurred the pictures, or the odd side in pixels of a PSF to estimate for each picture by
  `solvers.estimate_psf`. `tile`, `self_ensemble`, `samples`, `seed`, `strength` and `force` are
  those of `Restorer`, `settings` those of `zoo.load`. `spread_of` says what spreads are taken over:
  'turns', 'stages' of the network, its 'samples', 'dropout', the 'head' of the network, or names of
  other methods with commas between, that form an ensemble with this one. Raises FileNotFoundError
  if there is no such method, ValueError if the arguments do not fit the method.
  """
  if not 0 <= strength <= 1:
    raise ValueError(f'strength must be from 0 to 1, not {strength}')
  solver, find = methods.is_solver(name), None
  if solver and psf is None and name not in WITHOUT_PSF:
    raise ValueError(f'{name} requires psf, the PSF that blurred the pictures')
  if solver and self_ensemble:
    raise ValueError(f'{name} is a classical method: self_ensemble requires a network')
  if solver and isinstance(psf, int):
    find = functools.partial(estimate_psf.estimate, size=psf)
    method = zoo.load(name, settings=settings)
    method = method._replace(needs=dataclasses.replace(method.needs, halo=2 * psf))
  else:
    find = WITHOUT_PSF[str(name)] if solver and psf is None else None
    method = zoo.load(name, psf=psf, settings=settings)
  if (samples > 1 or seed) and not method.samples:
    raise ValueError(f'{name} restores a picture in one way only: there are no samples')
  if tile is not None:
    tiling.side(method.needs, tile)  # Raises ValueError now rather than at the first picture.
  # Cached because many tiles of a picture may overflow.
  again = functools.partial(zoo.load, name, dtype='float32', settings=settings)
  precise = None if solver else functools.cache(again)
  fallback = None
  if find and methods.DEFAULT in methods.shipped():
    fallback = functools.cache(functools.partial(load, strength=FALLBACK_STRENGTH * strength))
  compute = None if spread_of == TURNS else _spread(name, method, spread_of)
  return Restorer(
    method, tile, self_ensemble, samples, seed, strength, precise, find, fallback, force, compute
  )


def _spread(name: Path, method: zoo.Method, spread_of: str) -> spread.Spread:
  """What computes the spread over `spread_of`, see `load`."""
  if spread_of in OF_NETWORK:
    model, params, _ = zoo.network(name)
    return OF_NETWORK[spread_of](model, jax.device_put(params))
  others = [zoo.load(other) for other in spread_of.split(',')]

  def compute(images: np.ndarray) -> np.ndarray:
    # Tiled, because others may require other multiples.
    several = (tiling.tiled(other.restore, images, other.needs) for other in others)
    return spread.of_results((method.restore(images), *several))

  return compute


def _fallback(restorer: Restorer) -> tuple[Restorer, str]:
  """What restores a picture if no PSF was found, and a phrase that says so."""
  if restorer.fallback:
    instead = f'{methods.DEFAULT} at strength {FALLBACK_STRENGTH * restorer.strength:g}'
    return restorer.fallback(), f'restored with {instead} instead'
  unchanged = zoo.Method(UNCHANGED, lambda blurred, **known: blurred, Needs())
  return Restorer(unchanged), 'left unchanged'


def _batched(image: np.ndarray) -> np.ndarray:
  """`image` as `[b h w c]`, or ValueError."""
  if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != 'f':
    raise ValueError(f'images must be uint8, uint16 or float in [0, 1], not {image.dtype}')
  if not image.size:
    raise ValueError(f'the image has no pixels: shape {image.shape}')
  if image.dtype.kind == 'f' and not np.isfinite(image).all():
    raise ValueError('the image has values that are not finite (NaN or infinity)')
  if image.dtype.kind == 'f' and np.max(image) > MOST_FLOAT:
    raise ValueError(f'float images must be in [0, 1]; the largest value is {np.max(image):g}')
  if image.ndim == 2:
    return image[None, :, :, None]
  if image.ndim not in (3, 4) or image.shape[-1] > 4:
    raise ValueError(
      f'images must be [h w], [h w c] or [b h w c] with 1 to 4 channels, not {list(image.shape)}'
    )
  return image if image.ndim == 4 else image[None]


def _colors(images: np.ndarray) -> int:
  """The number of channels without alpha."""
  return images.shape[-1] - (images.shape[-1] in (2, 4))


def _finite(restore: Callable, precise: Callable[[], zoo.Method] | None, note: Note) -> Callable:
  """`restore`, with results that are not finite computed again by `precise`."""

  def run(images: np.ndarray) -> np.ndarray:
    restored = np.asarray(restore(images))
    if np.isfinite(restored).all():
      return restored
    if precise is not None:
      restored = np.asarray(precise().restore(images))
    if not np.isfinite(restored).all():
      raise ValueError('the method returned values that are not finite (NaN or infinity)')
    note('a tile had values that were not finite; it was recomputed in float32')
    return restored

  return run


def _mean_of_samples(
  restore: Callable, count: int, first: int
) -> Callable[[np.ndarray], np.ndarray]:
  """The mean of `count` results of a method that samples, with seeds from `first` on."""

  def mean(images: np.ndarray) -> np.ndarray:
    seeds = range(first, first + count)
    return np.asarray(sum(restore(images, seed=seed) for seed in seeds) / count)

  return mean


def _ticking(restore: Callable, tick: Callable[[], None]) -> Callable[[np.ndarray], np.ndarray]:
  """`restore`, calling `tick` after every tile; Ctrl-C stops it before the next one."""

  def run(images: np.ndarray) -> np.ndarray:
    interrupt.check()
    restored = restore(images)
    tick()
    return restored

  return run


def _on_colors(restore: Callable) -> Callable[[np.ndarray], np.ndarray]:
  """`restore` for images as stored: `[b h w 1..4]` of any dtype -> `[b h w 1 or 3]` float32."""

  def run(images: np.ndarray) -> np.ndarray:
    colors = as_float(images[..., : _colors(images)])
    if colors.shape[-1] == 3:
      return restore(colors)
    return (restore(np.repeat(colors, 3, -1)) @ LUMA)[..., None]

  return run


class _Masked:
  """Images as RGB in [0, 1], and as the fourth channel what is to stay as it is."""

  def __init__(self, images: tiling.Images, mask: tiling.Images):
    self._images, self._mask = images, mask
    self.shape = (*images.shape[:3], 4)

  def __getitem__(self, part: Any) -> np.ndarray:
    images = self._images[part]
    colors = as_float(images[..., : _colors(images)])
    colors = np.repeat(colors, 3, -1) if colors.shape[-1] == 1 else colors
    return np.concatenate([colors, 1 - as_float(self._mask[part])], axis=-1)


def _on_masked(restore: Callable, *, grey: bool) -> Callable[[np.ndarray], np.ndarray]:
  """`restore` for `_Masked` images: `[b h w 4]` -> `[b h w 1 or 3]`."""

  def run(images: np.ndarray) -> np.ndarray:
    restored = restore(images)[..., :3]
    return (restored @ LUMA)[..., None] if grey else restored

  return run


def _quantized(colors: np.ndarray, dtype: np.dtype) -> np.ndarray:
  if dtype.kind == 'f':
    return colors.astype(dtype)
  most = np.iinfo(dtype).max
  return np.rint(np.clip(colors, 0, 1) * most).astype(dtype)
