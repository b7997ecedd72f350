"""(restored, sharp) -> a number to train on, one per image `[b]`."""

from deblur_jax.losses import pixel

LOSSES = {
  'l1': pixel.l1,
  'mse': pixel.mse,
  'charbonnier': pixel.charbonnier,
  'edge': pixel.edge,
  'psnr': pixel.psnr,
}
