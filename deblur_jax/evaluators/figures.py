"""What people would rather look at than read: a gallery and training curves, as PNG."""

from collections.abc import Mapping, Sequence
import pathlib

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deblur_jax import atomic
from deblur_jax.evaluators.restoration import Report

_GAP, _CAPTION = 8, 22


def gallery(reports: Mapping[str, Report], *, detail: tuple[int, int] = (240, 320)) -> np.ndarray:
  """Rows of blurred, restored and sharp, uint8 `[h w 3]`, each the most detailed part at full size.

  Args:
    reports: whose `shown` pictures come one a row.
    detail: height and width of the part.
  """
  pictures = [picture for report in reports.values() for picture in report.shown]
  height = min(detail[0], *(picture.sharp.shape[0] for picture in pictures))
  width = min(detail[1], *(picture.sharp.shape[1] for picture in pictures))
  row_height = height + _CAPTION + _GAP
  sheet = Image.new(
    'RGB', (3 * width + 4 * _GAP, len(pictures) * row_height + _GAP), (255, 255, 255)
  )
  draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
  for row, picture in enumerate(pictures):
    top, left = _most_detailed(picture.sharp, height, width)
    (_, before), (method, after) = picture.scores.items()
    columns = (
      (picture.blurred, f'{picture.name}: blurred {before["psnr"]:.2f} dB'),
      (picture.restored, f'{method} {after["psnr"]:.2f} dB'),
      (picture.sharp, 'sharp'),
    )
    y = _GAP + row * row_height
    for column, (image, caption) in enumerate(columns):
      x = _GAP + column * (width + _GAP)
      part = image[top : top + height, left : left + width]
      draw.text((x, y), _fit(caption, font, width), fill=(0, 0, 0), font=font)
      sheet.paste(Image.fromarray(part), (x, y + _CAPTION))
  return np.asarray(sheet)


def curves(metrics: Sequence[Mapping[str, float]]) -> np.ndarray:
  """Loss and PSNR over the steps, uint8 `[h w 3]`, from the lines of metrics.jsonl."""
  figure = Figure(figsize=(10, 4), layout='constrained')
  loss_axes, psnr_axes = figure.subplots(1, 2)
  _plot(loss_axes, metrics, 'loss', 'training')
  _plot(psnr_axes, metrics, 'psnr', 'training crops')
  held_out = [name for line in metrics for name in line if name.endswith('/psnr')]
  for name in dict.fromkeys(held_out):
    _plot(psnr_axes, metrics, name, name.removesuffix('/psnr'), marker='o')
  loss_axes.set(xlabel='step', ylabel='loss')
  psnr_axes.set(xlabel='step', ylabel='PSNR (dB)')
  psnr_axes.legend()
  for axes in (loss_axes, psnr_axes):
    axes.grid(alpha=0.3)
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3]


def save(path: pathlib.Path, image: np.ndarray) -> None:
  """Writes a PNG whole or not at all."""
  with atomic.replacing(path) as partial:
    Image.fromarray(image).save(partial, format='PNG')


def _plot(axes, metrics, name, label, **style) -> None:
  points = [(line['step'], line[name]) for line in metrics if name in line]
  if points:
    axes.plot(*zip(*points, strict=True), label=label, **style)


def _most_detailed(image: np.ndarray, height: int, width: int) -> tuple[int, int]:
  """Top left corner of the window whose luma varies most between neighbors."""
  luma = image.astype(np.float32).mean(-1)
  change = np.zeros_like(luma)
  change[1:, 1:] = abs(np.diff(luma, axis=0))[:, 1:] + abs(np.diff(luma, axis=1))[1:]
  total = np.pad(change.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
  inside = total[height:, width:] - total[:-height, width:] - total[height:, :-width]
  inside = inside + total[:-height, :-width]
  top, left = np.unravel_index(inside.argmax(), inside.shape)
  return int(top), int(left)


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
  while font.getlength(text) > width and len(text) > 1:
    text = text[:-2] + '…'
  return text
