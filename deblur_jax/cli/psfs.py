"""Parses a PSF given on the command line."""

import math
import pathlib

import numpy as np

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
  kind, _, numbers = text.partition(':')
  if kind in FORMS:
    return _made(kind, numbers, text)
  path = pathlib.Path(text)
  if not path.is_file():
    raise ValueError(f'--psf {text}: not a file and not {", ".join(FORMS.values())}')
  try:
    psf = _array(path) if path.suffix == '.npy' else _picture(path)
  except ValueError as error:
    raise ValueError(f'--psf {text}: {error}') from error
  if psf.ndim != 2 or not np.isfinite(psf).all() or psf.min() < 0 or psf.sum() <= 0:
    raise ValueError(f'--psf {text}: a PSF must be 2-D, finite, nonnegative and not all 0')
  return (psf / psf.sum()).astype(np.float32)


def _made(kind: str, numbers: str, text: str) -> np.ndarray | int:
  from deblur_jax.blur import kernels

  if kind == 'auto':
    return _size(numbers, text)
  try:
    values = [float(number) for number in numbers.split(',')]
  except ValueError:
    values = []
  count = 2 if kind == 'motion' else 1
  if len(values) != count or not all(map(math.isfinite, values)) or values[0] <= 0:
    raise ValueError(f'--psf {text}: expected {FORMS[kind]}')
  reach = {'motion': (values[0] + 1) / 2, 'disk': values[0], 'gaussian': 4 * values[0]}[kind]
  size = 2 * math.ceil(reach) + 1
  if size > LARGEST:
    raise ValueError(f'--psf {text}: {size} pixels wide; the limit is {LARGEST}')
  if kind == 'motion':
    return np.asarray(kernels.motion(values[0], values[1], size))
  return np.asarray(getattr(kernels, kind)(values[0], size))


def _size(number: str, text: str) -> int:
  from deblur_jax.solvers import estimate_psf

  if text == 'auto':
    return estimate_psf.SIZE
  if not number.isdecimal() or int(number) % 2 == 0 or int(number) < estimate_psf.LEAST_SIZE:
    raise ValueError(
      f'--psf {text}: SIZE must be odd and at least {estimate_psf.LEAST_SIZE} pixels'
    )
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
  from deblur_jax.photos import pictures

  picture = pictures.read(path)
  rows = picture.rows(0, picture.shape[0]).astype(np.float64)
  return rows[..., : 1 if picture.shape[-1] < 3 else 3].mean(-1)
