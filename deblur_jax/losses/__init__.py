"""(restored, sharp) -> a number to train on, one per image `[b]`."""

import functools

from deblur_jax.losses import pixel

LOSSES = {
  'l1': pixel.l1,
  'mse': pixel.mse,
  'charbonnier': pixel.charbonnier,
  'edge': pixel.edge,
  'fft': pixel.fft,
  'psnr': pixel.psnr,
  # Twice as good is worth less and less above 40 dB: pictures that are all but sharp would else
  # outweigh the blurred ones.
  'psnr_to_40': functools.partial(pixel.psnr, eps=1e-4),
}
