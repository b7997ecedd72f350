"""The evaluation protocols of the papers on each data set, by name.

Metrics of the same name from different protocols cannot be compared: published SSIM alone has two
definitions, which differ by several hundredths. Each set therefore has a named protocol, which is
reported with its scores.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import os

import jax
import numpy as np
import safetensors.numpy

from deblur_jax import convert
from deblur_jax.metrics import LEARNED, METRICS, SHARPNESS, realblur
from deblur_jax.types import as_float

Scores = dict[str, float]
Metric = Callable[[np.ndarray, np.ndarray], jax.Array]


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How a restored and a sharp picture are prepared and compared."""

  ssim: str = 'ssim'
  """The name of this protocol's SSIM among `METRICS`."""
  rounding: bool = True
  """Whether the restored picture is rounded to 8 bits before scoring; otherwise only clipped."""
  crop: int = 0
  """Pixels excluded on every side."""
  alignment: bool = False
  """Whether to align the two by a homography and a gain, and score only the overlap."""
  shift: int = 0
  """Largest shift in whole pixels between the two; the shift with the best PSNR is used."""
  accuracy: bool = False
  """Whether Keras's accuracy is included."""
  reference: bool = True
  """Whether there is an aligned sharp picture; without one only sharpness is measured."""


PROTOCOLS = {
  'plain': Protocol(),
  # MPRNet, HINet, NAFNet, Restormer; also on HIDE
  'gopro': Protocol(ssim='ssim_matlab_3d'),
  'hide': Protocol(ssim='ssim_matlab_3d'),
  # DeepDeblur in PyTorch, on `blur_gamma`
  'deepdeblur': Protocol(),
  # MIMO-UNet: PSNR of the network's floats, not of a file
  'float': Protocol(rounding=False),
  # without the border, where blur mixes in what lies outside the picture
  'interior': Protocol(crop=16),
  # GoPro pairs: the sharp frame is not always the middle of the blur
  'gopro_shifted': Protocol(ssim='ssim_matlab_3d', shift=3),
  # tutorials that train an autoencoder in Keras
  'keras': Protocol(rounding=False, accuracy=True),
  'realblur': Protocol(alignment=True),
  'sharpness': Protocol(reference=False),
}

_BY_SOURCE = {
  'gopro/blur': 'gopro',
  'gopro/blur_gamma': 'deepdeblur',
  'hide': 'hide',
  'realblur/j': 'realblur',
  'realblur/r': 'realblur',
  'kaggle/motion': 'sharpness',
  'kaggle/defocus': 'sharpness',
  'unpaired': 'sharpness',
}


def for_source(source: str) -> str:
  """The default protocol of a source of pictures."""
  return _BY_SOURCE.get(source, 'plain')


def find(name: str) -> Protocol:
  """The protocol of that name. Raises ValueError, listing all, if there is none."""
  if name not in PROTOCOLS:
    raise ValueError(f'no protocol {name!r} (known: {", ".join(PROTOCOLS)})')
  return PROTOCOLS[name]


def describe(name: str) -> str:
  """A protocol's name and what it does, in a few words for a table."""
  protocol = find(name)
  if not protocol.reference:
    return f'{name}: 8-bit, no reference'
  words = ['8-bit' if protocol.rounding else 'float']
  words += [f'without {protocol.crop} px at the border'] if protocol.crop else []
  words += [f'best shift within {protocol.shift} px'] if protocol.shift else []
  words += ['ECC-aligned, masked'] if protocol.alignment else []
  words += ["MATLAB's 3-D SSIM" if protocol.ssim == 'ssim_matlab_3d' else '2-D SSIM']
  return f'{name}: {", ".join(words)}'


def score(
  restored: np.ndarray,
  sharp: np.ndarray | None,
  protocol: Protocol,
  learned: Mapping[str, Metric] | None = None,
) -> Scores:
  """Every metric of `protocol` for one picture, by name.

  `restored` is uint8 or float `[h w 3]`; `sharp` is uint8 `[h w 3]`, or None if the protocol has no
  reference. `learned` are additional metrics, as from `load_learned`. Raises ValueError if shapes
  differ or pictures cannot be aligned.
  """
  restored = as_uint8(restored) if protocol.rounding else np.clip(as_float(restored), 0, 1)
  if not protocol.reference:
    return {name: float(_compiled(name)(as_float(restored))) for name in SHARPNESS}
  if restored.shape != sharp.shape:
    raise ValueError(f'restored {restored.shape} and sharp {sharp.shape} differ in size')
  if protocol.shift:
    restored, sharp = shifted(restored, sharp, protocol.shift)
  inside = (slice(protocol.crop, -protocol.crop or None),) * 2
  pair = as_float(restored[inside]), as_float(sharp[inside])
  if protocol.alignment:
    aligned = realblur.align(*pair)
    pair = aligned.restored, aligned.sharp
    scores = {'psnr': realblur.psnr_of(aligned), 'ssim': realblur.ssim_of(aligned)}
  else:
    names = {'psnr': 'psnr', 'ssim': protocol.ssim}
    names |= {'accuracy': 'accuracy'} if protocol.accuracy else {}
    scores = {key: float(_compiled(name)(*pair)) for key, name in names.items()}
  return scores | {name: float(metric(*pair)) for name, metric in (learned or {}).items()}


def shifted(restored: np.ndarray, sharp: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
  """`restored` and `sharp` `[h w c]` cropped at the best shift, `[h-2*most w-2*most c]`.

  Tries all shifts by up to `most` whole pixels in each direction and takes the one with the least
  mean squared error; the sharp crop is always central, so every shift is scored on the same pixels.
  Raises ValueError if the picture is too small.
  """
  height, width = (side - 2 * most for side in sharp.shape[:2])
  if height < 1 or width < 1:
    size = f'{sharp.shape[1]}x{sharp.shape[0]}'
    raise ValueError(f'a picture of {size} pixels cannot be shifted by {most}')
  middle = sharp[most : most + height, most : most + width]
  target = as_float(middle)

  def moved(place):
    return restored[place[0] : place[0] + height, place[1] : place[1] + width]

  places = [(i, j) for i in range(2 * most + 1) for j in range(2 * most + 1)]
  best = min(places, key=lambda place: float(np.mean((as_float(moved(place)) - target) ** 2)))
  return moved(best), middle


def load_learned(files: Mapping[str, str | os.PathLike[str]]) -> dict[str, Metric]:
  """LPIPS and DISTS from {'lpips': file, 'dists': file}; an empty file name skips one.

  The files hold the state dicts of `metrics.perceptual`, as torch or .safetensors files. Raises
  ValueError or OSError if one cannot be read, ImportError if torch is required and not installed.
  """
  return {name: _learned(name, os.fspath(file)) for name, file in files.items() if file}


@functools.cache
def _learned(name: str, file: str) -> Metric:
  safe = file.endswith('.safetensors')
  weights = safetensors.numpy.load_file(file) if safe else convert.open_torch(file)
  picture = jax.ShapeDtypeStruct((64, 64, 3), np.float32)
  # Weights of another network fail here, before any picture is restored.
  jax.eval_shape(LEARNED[name], picture, picture, weights=weights)
  weights, compiled = jax.device_put(weights), jax.jit(LEARNED[name])
  return lambda restored, sharp: compiled(restored, sharp, weights=weights)


def as_uint8(image: jax.Array) -> np.ndarray:
  """`image` as it would be saved with 8 bits: clipped and rounded; uint8 is returned unchanged."""
  image = np.asarray(image)
  if image.dtype == np.uint8:
    return image
  return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


@functools.cache
def _compiled(name: str) -> Callable[..., jax.Array]:
  return jax.jit({**METRICS, **SHARPNESS}[name])
