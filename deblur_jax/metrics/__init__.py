"""(restored, sharp) -> a number to report, one per image `[b]`."""

from deblur_jax.metrics import fidelity

METRICS = {
  'psnr': fidelity.psnr,
  'ssim': fidelity.ssim,
}
