"""(restored, sharp) -> a number to report, one per image `[b]`.

`evaluation.protocols` says which of them belong to which data set, and how pictures are prepared.
"""

from collections.abc import Callable
from typing import Any

from deblur_jax import spec
from deblur_jax.metrics import fidelity, perceptual, realblur, sharpness

METRICS = {
  'psnr': fidelity.psnr,
  'psnr_uint8': fidelity.psnr_uint8,
  'ssim': fidelity.ssim,
  'ssim_matlab_3d': fidelity.ssim_matlab_3d,
  'accuracy': fidelity.accuracy,
  'realblur_psnr': realblur.psnr,
  'realblur_ssim': realblur.ssim,
}

SHARPNESS = {
  'laplacian': sharpness.laplacian_variance,
  'blur_effect': sharpness.blur_effect,
}
"""No-reference metrics: `f(image)`, one value per image."""

LEARNED = {
  'lpips': perceptual.lpips,
  'dists': perceptual.dists,
}
"""`f(restored, sharp, *, weights)`, lower is better; the weights are those of the authors."""


def parse(text: str) -> dict[str, Callable[..., Any]]:
  """The metrics in `ssim_matlab_3d | package.module:name`, by name; none is jitted here.

  Raises ValueError for one that is unknown or given twice.
  """
  return spec.functions('metric', text, METRICS)
