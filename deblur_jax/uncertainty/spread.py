"""How much a method disagrees with itself, without knowing the sharp picture."""

from collections.abc import Callable
from typing import Any

import numpy as np

from deblur_jax import tiling

FLOOR = 1 / 255
"""Added to every spread: where all turns agree, the picture is still rounded to 8 bits."""


def of_turns(restore: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
  """The standard deviation of `restore` over the eight orientations of an image, plus `FLOOR`.

  `[b h w c]` -> the same, in the units of the image. Costs eight times as much as `restore`.
  """

  def spread(images: np.ndarray) -> np.ndarray:
    total = squares = 0.0
    for restored in tiling.turned(restore, images):
      total, squares = total + restored, squares + np.square(restored, dtype=np.float64)
    variance = squares / 8 - np.square(total / 8, dtype=np.float64)
    return (np.sqrt(np.maximum(variance, 0)) + FLOOR).astype(np.float32)

  return spread
