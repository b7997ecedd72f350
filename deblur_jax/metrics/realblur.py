"""PSNR and SSIM as RealBlur's authors measure them: aligned, at equal exposure, on the overlap.

J. Rim, H. Lee, J. Won, S. Cho, "Real-World Blur Dataset for Learning and Benchmarking Deblurring
Algorithms", ECCV 2020. The sharp half of a pair was taken through another camera, so it matches
only up to a homography and a gain. These run on the host, with OpenCV, and take seconds per
picture. The authors' script asks for OpenCV 4.2; 4.14 and 5.0 differed by 0.002 dB when
both were tried.
"""

from typing import Any, NamedTuple

import chex
import cv2
import numpy as np
import skimage.metrics

STEPS = 100
MARGIN = 5
"""The reach of the SSIM window, left out on every side."""


class Aligned(NamedTuple):
  """A pair that can be compared, `[h w 3]`; both are 0 where `mask` is 0."""

  restored: np.ndarray
  sharp: np.ndarray
  mask: np.ndarray
  """1 where the restored picture covers the sharp one, else 0; `[h w 3]`."""
  homography: np.ndarray
  """Maps (x, y, 1) of the sharp picture to the restored one; `[3 3]`."""
  gain: float
  """What the restored picture was multiplied by."""


def align(restored: Any, sharp: Any) -> Aligned:
  """One pair `[h w 3]` in [0, 1], `restored` brought to the exposure and position of `sharp`.

  The gain is the least-squares one; the homography maximizes the correlation (ECC: Evangelidis and
  Psarakis 2008), starting from the identity, in 100 steps. Raises ValueError if none is found.
  """
  chex.assert_equal_shape([restored, sharp])
  restored, sharp = (np.array(image, np.float32) for image in (restored, sharp))
  gain = float((sharp * restored).sum() / max((restored * restored).sum(), 1e-12))
  restored = np.float32(gain) * restored
  greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (sharp, restored)]
  criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, STEPS, 0)
  start = np.eye(3, dtype=np.float32)
  try:
    _, homography = cv2.findTransformECC(
      *greys, start, cv2.MOTION_HOMOGRAPHY, criteria, inputMask=None, gaussFiltSize=5
    )
  except cv2.error:
    raise ValueError(
      'the restored picture cannot be aligned with the sharp one: they have nothing in common'
    ) from None
  size = sharp.shape[1::-1]
  moved = cv2.warpPerspective(
    restored,
    homography,
    size,
    flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_REFLECT,
  )
  mask = cv2.warpPerspective(
    np.ones_like(restored), homography, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
  )
  return Aligned(moved * mask, sharp * mask, mask, homography, gain)


def psnr_of(pair: Aligned) -> float:
  """PSNR in dB over the mask; infinite at equality."""
  error = np.sum((pair.sharp - pair.restored) ** 2, dtype=np.float64) / pair.mask.sum()
  return float(10 * np.log10(1 / error)) if error else np.inf


def ssim_of(pair: Aligned) -> float:
  """SSIM (Gaussian 11x11, as scikit-image) over the mask, the mean over channels."""
  _, similarity = skimage.metrics.structural_similarity(
    pair.sharp,
    pair.restored,
    channel_axis=-1,
    gaussian_weights=True,
    use_sample_covariance=False,
    data_range=1.0,
    full=True,
  )
  inside = (slice(MARGIN, -MARGIN),) * 2
  total, count = (
    image[inside].sum((0, 1), dtype=np.float64) for image in (similarity * pair.mask, pair.mask)
  )
  return float(np.mean(total / count))


def psnr(restored: Any, sharp: Any) -> np.ndarray:
  """RealBlur's PSNR in dB of images `[... h w 3]` in [0, 1], float32 `[...]`; not for `jit`."""
  return _each(psnr_of, restored, sharp)


def ssim(restored: Any, sharp: Any) -> np.ndarray:
  """RealBlur's SSIM of images `[... h w 3]` in [0, 1], float32 `[...]`; not for `jit`."""
  return _each(ssim_of, restored, sharp)


def _each(measure, restored, sharp) -> np.ndarray:
  chex.assert_equal_shape([restored, sharp])
  lead, size = restored.shape[:-3], restored.shape[-3:]
  pairs = zip(np.reshape(restored, (-1, *size)), np.reshape(sharp, (-1, *size)), strict=True)
  return np.array([measure(align(*pair)) for pair in pairs], np.float32).reshape(lead)
