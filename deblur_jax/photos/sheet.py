"""A contact sheet: the same part of several pictures, side by side, labeled."""

from collections.abc import Mapping
import math

import cv2
import numpy as np
import pyvips

from deblur_jax.photos import guided, writing
from deblur_jax.photos.pictures import Path

SIDE = 360
"""Longer side of the part that is shown, in pixels of the picture."""


def write(path: Path, shown: Mapping[str, Path]) -> None:
  """Writes a PNG with the part with the most detail of each picture, under its label.

  All pictures have the same size. Raises as `writing.write`.
  """
  pictures = {label: guided.read_rgb(one) for label, one in shown.items()}
  rows, columns = _part(next(iter(pictures.values())))
  cells = []
  for label, picture in pictures.items():
    part = picture[rows, columns]
    strip = writing.label(label, part.shape[1], 24).numpy()
    cells.append(np.concatenate([strip, part]))
  across = math.ceil(math.sqrt(len(cells)))
  cells += [np.full_like(cells[0], 255)] * (-len(cells) % across)
  bands = [np.concatenate(cells[i : i + across], axis=1) for i in range(0, len(cells), across)]
  image = pyvips.Image.new_from_array(np.concatenate(bands)).copy(interpretation='srgb')
  writing.write_png(path, image)


def _part(picture: np.ndarray) -> tuple[slice, slice]:
  """The rows and columns of the part with the strongest gradients."""
  height, width = picture.shape[:2]
  tall, wide = min(SIDE, height), min(SIDE, width)
  luma = picture.astype(np.float32).mean(-1)
  slope = np.hypot(cv2.Sobel(luma, -1, 1, 0), cv2.Sobel(luma, -1, 0, 1))
  sums = cv2.integral(slope)
  found = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
  top, left = np.unravel_index(np.argmax(found), found.shape)
  return slice(int(top), int(top) + tall), slice(int(left), int(left) + wide)
