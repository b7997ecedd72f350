"""How sharp and noisy a picture looks, and which amounts bring another one closest to that.

numpy only. Pictures are `[h w 3]`, uint8 or float in [0, 1].
"""

import itertools
import math
from typing import NamedTuple

import cv2
import numpy as np

FINE, COARSE = 0.8, 3.2
"""Sigmas in pixels of the two scales whose detail is compared."""

LEAST_NOISE = 1 / 255
"""Less noise cannot be seen, and counts as this much."""

MOST = 1.5
"""The most deblurring for an example: 1 is the network's result, beyond it the change is larger."""


class Look(NamedTuple):
  """How a picture looks, hardly depending on what it shows."""

  sharpness: float
  """Strength of fine detail over that of coarse detail, both without noise."""
  noise: float
  """Standard deviation of the noise, for values in [0, 1]."""

  def distance(self, other: 'Look') -> float:
    """How far two pictures look apart: the differences in doublings of sharpness and noise."""
    sharper = math.log2(max(self.sharpness, 1e-3) / max(other.sharpness, 1e-3))
    noisier = math.log2(max(self.noise, LEAST_NOISE) / max(other.noise, LEAST_NOISE))
    return math.hypot(sharper, noisier)


def look(image: np.ndarray) -> Look:
  """The sharpness and noise of a picture."""
  image = image[..., :3].astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
  luma, sigma = image.mean(-1), noise_of(image)
  fine, coarse = (
    max(np.var(_band(luma, scale)) - sigma**2 / 3 * _gain(scale), 1e-9) for scale in (FINE, COARSE)
  )
  return Look(math.sqrt(fine / coarse), sigma)


def match(
  wanted: Look, image: np.ndarray, clean: np.ndarray, sharper: np.ndarray
) -> tuple[float, float, float, float]:
  """(amount of deblurring, amount of denoising, distance to `wanted` before and after).

  `clean` is `image` without noise and `sharper` the deblurred `clean`, all `[h w 3]` in [0, 1].
  """
  best = (0.0, 0.0, wanted.distance(look(image)))
  before = best[2]
  for sharpen, denoise in itertools.product(np.linspace(0, MOST, 7), np.linspace(0, 1, 6)):
    result = clean + sharpen * (sharper - clean) + (1 - denoise) * (image - clean)
    distance = wanted.distance(look(result))
    if distance < best[2] - 1e-6:
      best = float(sharpen), float(denoise), distance
  return best[0], best[1], before, best[2]


def noise_of(image: np.ndarray) -> float:
  """Standard deviation of white noise in `[... h w 3]`: the median of its three channels."""
  planes = image.reshape(-1, *image.shape[-3:])[0]
  return float(np.median([noise(planes[..., channel]) for channel in range(3)]))


def noise(plane: np.ndarray) -> float:
  """Standard deviation of white noise in a plane `[h w]` (Donoho and Johnstone 1994)."""
  height, width = (side // 2 * 2 for side in plane.shape)
  top, bottom = plane[0:height:2], plane[1:height:2]
  diagonal = top[:, 0:width:2] - top[:, 1:width:2] - bottom[:, 0:width:2] + bottom[:, 1:width:2]
  return float(np.median(np.abs(diagonal)) / 2 / 0.6745) if diagonal.size else 0.0


def _band(plane: np.ndarray, scale: float) -> np.ndarray:
  """The detail of a plane between `scale` and twice that."""
  return cv2.GaussianBlur(plane, (0, 0), scale) - cv2.GaussianBlur(plane, (0, 0), 2 * scale)


def _gain(scale: float) -> float:
  """The variance of a band of white noise of variance 1: Gaussians s, t overlap by 1/2pi(s2+t2)."""
  one, two = scale**2, 4 * scale**2
  return (1 / (2 * one) + 1 / (2 * two) - 2 / (one + two)) / (2 * math.pi)
