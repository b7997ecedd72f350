"""Every classical method on one picture, borders included: `python tools/solvers_gallery.py OUT`.

A scikit-image photograph as seen by a camera that moves 21 pixels, with noise of 0.01, including
light from beyond the border. OUT, a picture, shows the result of each method of
`deblur_jax.solvers` with the known PSF, and of scikit-image's; a table of PSNR and SSIM is printed
as Markdown.
"""

import argparse
import math
import pathlib
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont
import scipy.signal
from skimage import data, metrics, restoration

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax.blur import kernels
from deblur_jax.solvers import SOLVERS

SIDE, SIGMA, COLUMNS, GAP, CAPTION = 256, 0.01, 5, 8, 22
PSF = np.asarray(kernels.motion(21, 30, 25))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('out', type=pathlib.Path, metavar='OUT')
  arguments = parser.parse_args()
  half = len(PSF) // 2
  scene = data.astronaut()[: SIDE + 2 * half, 90 : 90 + SIDE + 2 * half] / 255
  sharp = scene[half:-half, half:-half]
  blurred = scipy.signal.fftconvolve(scene, PSF[..., None], 'valid', axes=(0, 1))
  blurred += SIGMA * np.random.default_rng(0).standard_normal(blurred.shape)
  blurred = blurred.astype(np.float32)
  panels = {'sharp': sharp, 'blurred': blurred}
  panels |= {
    name: np.asarray(solve(blurred, PSF))
    for name, solve in SOLVERS.items()
    if name != 'deep_image_prior'  # takes hours without an accelerator
  }
  planes = np.moveaxis(blurred, -1, 0)
  panels['scikit-image: wiener'] = np.stack(
    [restoration.wiener(plane, PSF, 0.02, clip=False) for plane in planes], axis=-1
  )
  panels['scikit-image: richardson_lucy'] = np.stack(
    [restoration.richardson_lucy(plane, PSF, 30) for plane in planes], axis=-1
  )
  panels = {name: np.clip(panel, 0, 1) for name, panel in panels.items()}
  scores = {name: score(panel, sharp) for name, panel in panels.items() if name != 'sharp'}
  print('| method | PSNR (dB) | SSIM |\n|---|---:|---:|')
  for name, (psnr, ssim) in scores.items():
    print(f'| {name} | {psnr:.2f} | {ssim:.3f} |')
  sheet(panels, scores).save(arguments.out, quality=80)


def score(panel: np.ndarray, sharp: np.ndarray) -> tuple[float, float]:
  """PSNR in dB, and SSIM with a Gaussian window."""
  ssim = metrics.structural_similarity(
    panel,
    sharp,
    channel_axis=-1,
    data_range=1,
    gaussian_weights=True,
    use_sample_covariance=False,
  )
  return metrics.peak_signal_noise_ratio(sharp, panel, data_range=1), ssim


def sheet(panels: dict[str, np.ndarray], scores: dict[str, tuple[float, float]]) -> Image.Image:
  """The panels in rows, captioned."""
  rows, across, down = math.ceil(len(panels) / COLUMNS), SIDE + GAP, SIDE + GAP + CAPTION
  image = Image.new('RGB', (COLUMNS * across + GAP, rows * down + GAP), 'white')
  draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
  for index, (name, panel) in enumerate(panels.items()):
    x, y = GAP + index % COLUMNS * across, GAP + index // COLUMNS * down
    caption = f'{name} {scores[name][0]:.1f} dB' if name in scores else name
    draw.text((x, y), caption, fill='black', font=font)
    image.paste(Image.fromarray(np.rint(255 * panel).astype(np.uint8)), (x, y + CAPTION))
  return image


if __name__ == '__main__':
  main()
