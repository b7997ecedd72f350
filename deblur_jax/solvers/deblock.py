"""Removes JPEG artifacts by compressing shifted copies again, and finds the quality that was used.

On the host, with numpy and OpenCV; values are those of the file, not linear light.
"""

import cv2
import numpy as np

QUALITIES = range(5, 83)
"""Of libjpeg. Above 80, `deblock` gains nothing: on six Kodak crops 0.3 to 0.5 dB up to quality 50,
0.2 dB at 75 and -0.2 dB at 90."""

DIP = 0.5
"""A quality counts as found if recompression changes the picture less than this times as much as
at neighboring qualities."""

SHIFTS = [(down, across) for down in (0, 2, 4, 6) for across in (0, 2, 4, 6)]
"""Of the grid of blocks, in pixels."""


def deblock(image: np.ndarray, quality: int) -> np.ndarray:
  """`image` `[... h w 3]` float32 in [0, 1] without most of its JPEG artifacts.

  The mean of copies that are shifted, compressed with `quality` (1 to 100) and shifted again, so
  that the borders of blocks average out (Nosratinia, "Enhancement of JPEG-compressed images by
  re-application of JPEG", J. VLSI Signal Processing 2001).
  """
  image = np.asarray(image, np.float32)
  if image.ndim > 3:
    found = [deblock(one, quality) for one in image.reshape(-1, *image.shape[-3:])]
    return np.stack(found).reshape(image.shape)
  levels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
  height, width = image.shape[:2]
  total = np.zeros(image.shape, np.float32)
  for down, across in SHIFTS:
    shifted = cv2.copyMakeBorder(levels, down, 0, across, 0, cv2.BORDER_REPLICATE)
    total += _compressed(shifted, quality)[down : down + height, across : across + width]
  return total / (255 * len(SHIFTS))


def estimate_quality(image: np.ndarray) -> int | None:
  """The quality that a picture `[h w 3]` in [0, 1] was last saved with; None if no trace is found.

  Compressing a picture again hardly changes it if the quality is the same (Farid, "Exposing digital
  forgeries from JPEG ghosts", 2009). Needs at least 32 pixels on both sides; the grid of blocks may
  start anywhere, but the picture must not have been resized since.
  """
  if min(image.shape[:2]) < 32:
    return None
  levels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
  luma = cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY)
  luma = luma[_grid(luma) :, _grid(luma.T) :]
  height, width = (side // 8 * 8 for side in luma.shape)
  luma = luma[:height, :width]
  errors = np.array([
    np.square(_compressed(luma, quality).astype(np.float32) - luma).mean() for quality in QUALITIES
  ])  # fmt: skip
  around = (errors[:-4] + errors[4:]) / 2
  ratios = errors[2:-2] / np.maximum(around, 1e-6)
  best = int(np.argmin(ratios))
  return QUALITIES[best + 2] if ratios[best] < DIP else None


def _grid(luma: np.ndarray) -> int:
  """The first row, from 0 to 7, at which a block starts."""
  rows = luma.astype(np.float32)
  jumps = np.abs(rows[1:-2] - rows[2:-1] - (rows[:-3] - rows[1:-2] + rows[2:-1] - rows[3:]) / 2)
  jumps = jumps.mean(1)  # of row i, between rows i + 1 and i + 2
  return int(np.argmax([jumps[(start + 6) % 8 :: 8].mean() for start in range(8)]))


def _compressed(levels: np.ndarray, quality: int) -> np.ndarray:
  """Levels uint8 `[h w 3]` or `[h w]` after JPEG compression, with chroma at half resolution."""
  is_color = levels.ndim == 3
  options = [cv2.IMWRITE_JPEG_QUALITY, quality]
  data = cv2.imencode('.jpg', levels[..., ::-1] if is_color else levels, options)[1]
  mode = cv2.IMREAD_COLOR if is_color else cv2.IMREAD_GRAYSCALE
  found = np.asarray(cv2.imdecode(data, mode))
  return found[..., ::-1] if is_color else found
