"""Scores on GoPro reported by the authors of published networks, to compare with measured ones.

PSNR and SSIM are quoted; parameters and multiply-adds are counted in the authors' code, of
convolutions and matrix products at 256x256. SSIM is omitted if it is neither MATLAB's nor the 2-D
one.
"""

from typing import NamedTuple


class Quoted(NamedTuple):
  """A row of a paper's table."""

  psnr: float
  ssim: float | None
  parameters: int | None
  gmacs: float | None
  source: str
  ours: tuple[str, str] | None = None
  """(network, variant) in `models`; None if it has none."""


GOPRO = {
  'DeblurGAN': Quoted(
    28.7, None, 11_378_179, 49.55, 'paper; others got 25.2 to 28.3', ('deblurgan', 'default')
  ),
  'SRN': Quoted(30.26, 0.934, None, None, 'paper', ('srn', 'default')),
  'SRN lstm': Quoted(30.19, 0.9334, 8_056_609, 268.29, 'released weights', ('srn', 'lstm')),
  'DeblurGAN-v2 Mobile': Quoted(28.17, None, 3_312_707, 2.709, 'paper'),
  'DeblurGAN-v2': Quoted(29.55, None, 60_929_291, 17.52, 'paper; Inception'),
  'DeepDeblur': Quoted(
    30.40,
    0.9018,
    11_721_321,
    335.94,
    'PyTorch code; blur_gamma, 2-D SSIM',
    ('deepdeblur', 'default'),
  ),
  'DBGAN': Quoted(31.10, 0.942, 11_588_163, 758.83, 'paper', ('dbgan', 'default')),
  'MPRNet': Quoted(32.66, 0.959, 20_127_073, 759.41, 'paper', ('mprnet', 'default')),
  'HINet': Quoted(32.71, 0.959, 88_668_806, 157.60, 'paper; in tiles of 256', ('hinet', 'default')),
  'MIMO-UNet': Quoted(31.73, 0.951, 6_807_171, 63.73, 'paper; PSNR of floats'),
  'MIMO-UNet+': Quoted(32.45, 0.957, 16_107_651, 150.71, 'paper; PSNR of floats'),
  'Restormer': Quoted(32.92, 0.961, 26_126_644, 154.88, 'paper', ('restormer', 'default')),
  'MAXIM-3S': Quoted(32.86, 0.961, 22_212_795, 169.6, 'paper; PSNR of floats'),
  'NAFNet w32': Quoted(32.8705, 0.9606, 17_111_907, 15.96, 'code; with TLC', ('nafnet', 'default')),
  'NAFNet w64': Quoted(33.7103, 0.9668, 67_888_835, 63.06, 'code; with TLC', ('nafnet', 'w64')),
}
