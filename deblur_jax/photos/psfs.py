"""Parses the description of a PSF, such as 'motion:15,30'."""

import math
import pathlib

import numpy as np

from deblur_jax.photos import pictures

FORMS = {
  'motion': 'motion:LENGTH,ANGLE (pixels, degrees)',
  'disk': 'disk:RADIUS',
  'gaussian': 'gaussian:SIGMA',
  'auto': 'auto or auto:SIZE (odd, in pixels)',
}

LARGEST = 1001
"""In pixels; a larger blur leaves nothing to restore."""


def read(text: str) -> np.ndarray | int:
  """The PSF `[kh kw]` that `text` describes, with sum 1; for 'auto' the side of one to estimate.

  `text` is one of `FORMS` or a file: a picture, converted to grey, or a `.npy` array. Raises
  ValueError if it is neither, or not a valid PSF.
  """
  if text.partition(':')[0] in FORMS:
    return described(text)
  path = pathlib.Path(text)
  if not path.is_file():
    raise ValueError(f'{text}: not a file and not {", ".join(FORMS.values())}')
  try:
    psf = _array(path) if path.suffix == '.npy' else _picture(path)
  except ValueError as error:
    raise ValueError(f'{text}: {error}') from error
  if psf.ndim != 2 or not np.isfinite(psf).all() or psf.min() < 0 or psf.sum() <= 0:
    raise ValueError(f'{text}: a PSF must be 2-D, finite, nonnegative and not all 0')
  return (psf / psf.sum()).astype(np.float32)


def described(text: str) -> np.ndarray | int:
  """As `read`, but opens no file: `text` must be one of `FORMS`."""
  kind, numbers, size = check(text)
  if kind == 'auto':
    return size
  from deblur_jax.blur import kernels

  if kind == 'motion':
    return np.asarray(kernels.motion(numbers[0], numbers[1], size))
  return np.asarray(getattr(kernels, kind)(numbers[0], size))


def check(text: str, largest: int = LARGEST) -> tuple[str, list[float], int]:
  """(kind, numbers, side in pixels) of a PSF in one of the `FORMS`; computes nothing.

  Raises ValueError if `text` has another form or the side exceeds `largest`.
  """
  kind, _, rest = text.partition(':')
  if kind not in FORMS:
    raise ValueError(f'{text}: expected {", ".join(FORMS.values())}')
  if kind == 'auto':
    numbers, size = [], _size(rest, text)
  else:
    numbers = _numbers(rest)
    count = 2 if kind == 'motion' else 1
    if len(numbers) != count or not all(map(math.isfinite, numbers)) or numbers[0] <= 0:
      raise ValueError(f'{text}: expected {FORMS[kind]}')
    reach = {'motion': (numbers[0] + 1) / 2, 'disk': numbers[0], 'gaussian': 4 * numbers[0]}[kind]
    size = 2 * math.ceil(reach) + 1
  if size > largest:
    raise ValueError(f'{text}: {size} pixels wide; the limit is {largest}')
  return kind, numbers, size


def _numbers(text: str) -> list[float]:
  try:
    return [float(number) for number in text.split(',')]
  except ValueError:
    return []


def _size(number: str, text: str) -> int:
  from deblur_jax.solvers import estimate_psf

  if text == 'auto':
    return estimate_psf.SIZE
  if not number.isdecimal() or int(number) % 2 == 0 or int(number) < estimate_psf.LEAST_SIZE:
    raise ValueError(f'{text}: SIZE must be odd and at least {estimate_psf.LEAST_SIZE} pixels')
  return int(number)


def _array(path: pathlib.Path) -> np.ndarray:
  try:
    psf = np.load(path, allow_pickle=False)
  except (ValueError, EOFError, OSError):
    raise ValueError('not a .npy array, or damaged') from None
  if psf.dtype.kind not in 'buif':
    raise ValueError(f'the array must hold numbers, not {psf.dtype}')
  return psf.astype(np.float64)


def _picture(path: pathlib.Path) -> np.ndarray:
  picture = pictures.read(path)
  rows = picture.rows(0, picture.shape[0]).astype(np.float64)
  return rows[..., : 1 if picture.shape[-1] < 3 else 3].mean(-1)
