"""Removes what words or an example ask for: blur, noise, JPEG artifacts, darkness, each in its way.

Blur is removed by `general`, noise by non-local means at the estimated level, JPEG artifacts by
shifted recompression at the estimated quality, and dark pictures are brightened by a power of their
values. Noise that nobody asked to remove is put back after deblurring.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from deblur_jax import methods, tiling, zoo
from deblur_jax.guidance import example, regions, scribble, words
from deblur_jax.guidance.words import Request
from deblur_jax.photos import pictures, restorer
from deblur_jax.photos.pictures import Path, Picture
from deblur_jax.photos.restorer import Note, Restorer
from deblur_jax.solvers import deblock
from deblur_jax.solvers.non_local_means import non_local_means
from deblur_jax.types import Needs

DENOISER, DEBLOCKER, BRIGHTENER = 'non_local_means', 'deblock', 'gamma'

REACH = 10
"""How far non-local means looks, in pixels."""

LEAST_NOISE = 1 / 255
"""Less noise is neither removed nor kept apart."""

DARK, BRIGHT = 0.25, 0.4
"""Pictures whose encoded values have a mean below the first are brightened to the second."""

PROBE = 512
"""Side in pixels of the part from the middle whose noise and sharpness are measured."""


@dataclasses.dataclass(frozen=True)
class Guided(Restorer):
  """Removes given amounts of each fault, or as much as makes a picture look like an example."""

  amounts: Mapping[str, float] = dataclasses.field(default_factory=dict)
  """As in `words.Request`."""
  like: example.Look | None = None
  """Sharpness and noise to come close to; the amounts are then chosen for each picture."""
  deblur: zoo.Method | None = None
  """The network; None if blur stays."""

  def parts(
    self,
    images: tiling.Images,
    *,
    note: Note = lambda text: None,
    **rest: Any,
  ) -> Iterator[tuple[slice, np.ndarray]]:
    """As `Restorer.parts`; `note` is called with what was measured and chosen."""
    probe = _probe(images)
    sigma = example.noise_of(probe)
    quality = deblock.estimate_quality(_middle(images)) if 'jpeg' in self.amounts else None
    gamma = gamma_for(_middle(images)) if 'dark' in self.amounts else 1.0
    amounts = dict(self.amounts)
    if self.like:
      amounts = self._matched(probe, sigma, note)
    else:
      _tell(amounts, sigma, quality, gamma, note)
    apply = _Steps(amounts, sigma, quality, gamma)
    precise = self.precise
    yield from Restorer(
      self.method._replace(restore=apply.by(self.deblur)),
      tile=self.tile,
      self_ensemble=self.self_ensemble,
      strength=self.strength,
      precise=None
      if precise is None
      else lambda: self.method._replace(restore=apply.by(precise())),
    ).parts(images, note=note, **rest)

  def _matched(self, probe: np.ndarray, sigma: float, note: Note) -> dict[str, float]:
    """The amounts that make a picture, by its middle, look most like the example."""
    assert self.like and self.deblur
    clean = denoised(probe, sigma)
    sharper = np.asarray(self.deblur.restore(_padded(clean, self.deblur.needs)))
    sharper = sharper[:, : probe.shape[1], : probe.shape[2]]
    sharpen, denoise, before, after = example.match(self.like, probe[0], clean[0], sharper[0])
    note(
      f'chosen for the example: deblurring {sharpen:.0%}, denoising {denoise:.0%}; the distance in '
      f'sharpness and noise falls from {before:.2f} to {after:.2f}'
    )
    return {'motion': sharpen, 'noise': denoise}


class _Steps:
  """What is done to a tile, in order: JPEG artifacts, noise, blur, darkness."""

  def __init__(self, amounts: Mapping[str, float], sigma: float, quality: int | None, gamma: float):
    self._amounts, self._sigma, self._quality, self._gamma = amounts, sigma, quality, gamma

  def by(self, method: zoo.Method | None):
    """The function that restores `[b h w 3]`, with a network or without."""
    amounts = self._amounts
    sharpen = max(amounts.get('motion', 0), amounts.get('defocus', 0)) if method else 0

    def restore(images: np.ndarray, **known: Any) -> np.ndarray:
      del known
      images = np.asarray(images, np.float32)
      if self._quality:
        share = min(amounts['jpeg'], 1)
        images = images + share * (deblock.deblock(images, self._quality) - images)
      clean, denoise = images, amounts.get('noise', 0)
      if self._sigma >= LEAST_NOISE:
        clean = denoised(images, self._sigma * max(denoise, 1))
      grain = (1 - min(denoise, 1)) * (images - clean)
      if method and sharpen:
        sharper = np.asarray(method.restore(clean))
        clean = clean + min(sharpen, example.MOST) * (sharper - clean)
      restored = clean + grain
      if self._gamma != 1:
        restored = np.maximum(restored, 0) ** (self._gamma ** min(amounts['dark'], 1))
      return restored

    return restore


def load(
  request: Request | None = None,
  *,
  like: Path | None = None,
  weights: Path | None = None,
  tile: int | None = None,
  self_ensemble: bool = False,
  strength: float = 1.0,
  settings: Mapping[str, Any] | None = None,
  load_network: Callable[..., Restorer] = restorer.load,
) -> Restorer:
  """What restores pictures as a `request` or the picture file `like` says.

  `weights` replaces the network that would be chosen; one that reads words (models/instructir.py)
  does all of it, fault by fault. The rest is as in `restorer.load`,
  which `load_network` replaces. `strength` multiplies the amounts of the request. Raises ValueError
  if the arguments conflict.
  """
  amounts = {} if request is None else request.amounts
  name = words.network(amounts) if like is None else methods.DEFAULT
  if weights is not None:
    if methods.is_solver(weights):
      raise ValueError(f'{weights} is a classical method: words and examples require a network')
    if zoo.reads_words(weights):
      if request is None:
        raise ValueError(f'{weights} needs a --prompt, not an example')
      steps = [
        (load_network(weights, settings={**(settings or {}), 'prompt': prompt}).method, amount)
        for prompt, amount in request.steps()
      ]
      return Restorer(_in_sequence(steps), tile, self_ensemble, strength=strength)
    if name is None:
      raise ValueError(f'{weights} would not be used: no blur is to be removed')
    name = weights
  look = None if like is None else example.look(read_rgb(like))
  names = [DEBLOCKER] * ('jpeg' in amounts) + [DENOISER] * ('noise' in amounts or like is not None)
  names += [BRIGHTENER] * ('dark' in amounts)
  inner, needs = None, Needs(tiling='approximate', halo=16)
  if name is not None:
    inner = load_network(name, tile=tile, self_ensemble=self_ensemble, settings=settings)
    needs = dataclasses.replace(inner.method.needs, halo=inner.method.needs.halo + REACH)
    names += [inner.method.name]
  # The sum of steps is done by one function, so that tiles are cut and blended once.
  method = zoo.Method(' + '.join(names), lambda blurred, **known: blurred, needs)
  return Guided(
    method,
    tile=tile,
    self_ensemble=self_ensemble,
    strength=strength,
    precise=inner and inner.precise,
    amounts=amounts,
    like=look,
    deblur=inner and inner.method,
  )


def _in_sequence(steps: Sequence[tuple[zoo.Method, float]]) -> zoo.Method:
  """A method that applies others one after the other, each by an amount of at most 1."""
  first = steps[0][0]

  def restore(images: np.ndarray, **known: Any) -> np.ndarray:
    for method, amount in steps:
      images = images + min(amount, 1) * (np.asarray(method.restore(images)) - images)
    return images

  needs = dataclasses.replace(first.needs, halo=first.needs.halo * len(steps))
  return first._replace(restore=restore, needs=needs)


def where(region: str = '', strokes: Path | None = None):
  """A function from a `Picture` to its mask, uint8 `[h w]`; None if all is restored.

  `region` is one of `words.Request.region`, `strokes` a picture file for `scribble`; of both, the
  smaller value counts.
  """
  if not region and strokes is None:
    return None

  def mask(picture: Picture) -> np.ndarray:
    shape = picture.shape[:2]
    found = np.full(shape, 255, np.uint8)
    if region:
      found = regions.mask(region, regions.reduced(rgb(picture)), shape)
    if strokes is not None:
      found = np.minimum(found, scribble.mask_from_strokes(rgb(picture), read_rgb(strokes, True)))
    return found

  return mask


def rgb(picture: Picture) -> np.ndarray:
  """The colors of a picture, uint8 `[h w 3]` in sRGB or its own profile."""
  found = picture.rows(0, picture.shape[0])
  found = found[..., : found.shape[-1] - (found.shape[-1] in (2, 4))]
  levels = np.rint(255 * np.clip(pictures.as_float(found), 0, 1)).astype(np.uint8)
  return np.repeat(levels, 3, -1) if levels.shape[-1] == 1 else levels


def read_rgb(path: Path, alpha: bool = False) -> np.ndarray:
  """The picture at `path`, uint8 `[h w 3]`, or `[h w 4]` if it has transparency and `alpha` is set.

  Raises ValueError, with the name of the file, if it is no picture.
  """
  try:
    picture = pictures.read(path)
    colors = rgb(picture)
    if alpha and picture.shape[-1] in (2, 4):
      opaque = pictures.as_float(picture.rows(0, picture.shape[0])[..., -1:])
      colors = np.concatenate([colors, np.rint(255 * opaque).astype(np.uint8)], axis=-1)
  except (OSError, ValueError) as error:
    raise ValueError(f'{path}: {getattr(error, "strerror", None) or error}') from None
  return colors


def gamma_for(colors: np.ndarray) -> float:
  """The power of the encoded values that brightens `[h w 3]`; 1 if the picture is not dark."""
  mean = max(float(colors.mean()), 1 / 255)
  return float(np.log(BRIGHT) / np.log(mean)) if mean < DARK else 1.0


def denoised(images: np.ndarray, sigma: float) -> np.ndarray:
  """`images` `[b h w 3]` after non-local means for noise of `sigma`."""
  return np.asarray(non_local_means(images, np.float32(sigma)))


def _middle(images: tiling.Images) -> np.ndarray:
  """The middle of a picture, `[h w 3]` in [0, 1]."""
  colors = restorer.middle(images)
  return np.repeat(colors, 3, -1) if colors.shape[-1] == 1 else colors


def _probe(images: tiling.Images) -> np.ndarray:
  """`[1 h w 3]`, at most `PROBE` pixels a side, from the middle of a picture."""
  part = _middle(images)
  top, left = (max(0, side - PROBE) // 2 for side in part.shape[:2])
  return part[None, top : top + PROBE, left : left + PROBE]


def _padded(images: np.ndarray, needs: Needs) -> np.ndarray:
  height, width = (tiling.round_up(side, needs.multiple) for side in images.shape[1:3])
  return tiling.pad(images, height, width)


def _tell(
  amounts: Mapping[str, float], sigma: float, quality: int | None, gamma: float, note: Note
) -> None:
  """Notes what was measured of the faults that are to be removed."""
  if 'jpeg' in amounts:
    found = f'JPEG quality {quality}' if quality else 'no trace of strong JPEG compression'
    note(f'found: {found}')
  if 'noise' in amounts:
    less = sigma < LEAST_NOISE
    note('found: hardly any noise' if less else f'found: noise of {255 * sigma:.1f} of 255 levels')
  if 'dark' in amounts:
    found = 'the picture is not dark' if gamma == 1 else f'a dark picture, gamma {gamma:.2f}'
    note(f'found: {found}')
