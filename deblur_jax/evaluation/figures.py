"""Figures as PNG: a gallery of restored pictures, training curves, quality against time."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deblur_jax import atomic
from deblur_jax.evaluation import protocols
from deblur_jax.evaluation.restoration import Report
from deblur_jax.evaluation.tables import Line, ScoredSet
from deblur_jax.uncertainty import measures

_GAP, _CAPTION = 8, 22


def gallery(reports: Mapping[str, Report], *, detail: tuple[int, int] = (240, 320)) -> np.ndarray:
  """Rows of blurred, restored and sharp, uint8 `[h w 3]`: the most detailed crop at full size.

  Args:
    reports: their `shown` pictures become one row each.
    detail: height and width of the crop.
  """
  pictures = [picture for report in reports.values() for picture in report.shown]
  height = min(detail[0], *(picture.restored.shape[0] for picture in pictures))
  width = min(detail[1], *(picture.restored.shape[1] for picture in pictures))
  row_height = height + _CAPTION + _GAP
  sheet = Image.new(
    'RGB', (3 * width + 4 * _GAP, len(pictures) * row_height + _GAP), (255, 255, 255)
  )
  draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
  for row, picture in enumerate(pictures):
    best = picture.restored if picture.sharp is None else picture.sharp
    top, left = _most_detailed(best, height, width)
    (_, before), (method, after) = picture.scores.items()
    columns = [
      (picture.blurred, f'{picture.name}: blurred {_first_score(before)}'),
      (picture.restored, f'{method} {_first_score(after)}'),
      (picture.sharp, 'sharp'),
    ]
    y = _GAP + row * row_height
    for column, (image, caption) in enumerate(columns[: 2 if picture.sharp is None else 3]):
      x = _GAP + column * (width + _GAP)
      part = image[top : top + height, left : left + width]
      draw.text((x, y), _fit(caption, font, width), fill=(0, 0, 0), font=font)
      sheet.paste(Image.fromarray(part), (x, y + _CAPTION))
  return np.asarray(sheet)


def curves(metrics: Sequence[Mapping[str, float]]) -> np.ndarray:
  """Loss, its terms, and PSNR over the steps, uint8 `[h w 3]`, from the lines of metrics.jsonl.

  Also accuracy, if a protocol includes it.
  """
  names = list(dict.fromkeys(name for line in metrics for name in line))
  held_out = {
    what: [name for name in names if name.endswith(f'/{what}') and name != 'critic/accuracy']
    for what in ('psnr', 'accuracy')
  }
  count = 3 if held_out['accuracy'] else 2
  figure = _figure(5 * count, 4)
  loss_axes, psnr_axes, *more = figure.subplots(1, count)
  _plot(loss_axes, metrics, 'loss', 'training')
  terms = [name for name in names if name.startswith(('loss/', 'critic/'))]
  for name in terms:
    _plot(loss_axes, metrics, name, name.removeprefix('loss/'))
  if terms:
    loss_axes.legend()
  loss_axes.set(ylabel='loss')
  _plot(psnr_axes, metrics, 'psnr', 'training crops')
  for axes, (what, sets) in zip([psnr_axes, *more], held_out.items(), strict=False):
    for name in sets:
      _plot(axes, metrics, name, name.removesuffix(f'/{what}'), marker='o')
    axes.set(ylabel={'psnr': 'PSNR (dB)', 'accuracy': 'accuracy'}[what])
    axes.legend()
  for axes in figure.axes:
    axes.set(xlabel='step')
    axes.grid(alpha=0.3)
  return _pixels(figure)


def quality_and_time(lines: Sequence[Line], sets: Mapping[str, ScoredSet]) -> np.ndarray:
  """PSNR against milliseconds at 256x256, a panel for each set that has PSNR, uint8 `[h w 3]`.

  At least one set must have PSNR. Methods without times, such as 'blurred', are horizontal lines.
  """
  from matplotlib.ticker import LogLocator, NullFormatter

  shown = [name for name in sets if any('psnr' in line.scores.get(name, {}) for line in lines)]
  figure = _figure(6 * len(shown) + 2, 4.5)
  panels = figure.subplots(1, len(shown), squeeze=False)[0]
  marks = {}
  for name, axes in zip(shown, panels, strict=True):
    for index, line in enumerate(lines):
      psnr = line.scores.get(name, {}).get('psnr')
      if psnr is None:
        continue
      if 'ms_256x256' in line.costs:
        style = {'color': f'C{index % 10}', 'marker': 'osD^vP'[index // 10 % 6]}
        marks[line.method] = axes.plot(line.costs['ms_256x256'], psnr, ls='', ms=8, **style)[0]
      else:
        marks[line.method] = axes.axhline(psnr, color='grey', ls='--')
    axes.set_title(f'{name} ({protocols.describe(sets[name].protocol)})', fontsize='medium')
    axes.set(xscale='log', xlabel='milliseconds per 256x256 picture', ylabel='PSNR (dB)')
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.15)
    axes.grid(alpha=0.3, which='both')
  figure.legend(marks.values(), marks.keys(), loc='outside right upper')
  devices = dict.fromkeys(line.costs['device'] for line in lines if line.costs)
  figure.suptitle(', '.join(devices), fontsize='small')
  return _pixels(figure)


def reliability(scores: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = '') -> np.ndarray:
  """Shares of improved pictures against their scores, uint8 `[h w 3]`.

  `scores` are, by method, the scores of pictures and whether each was improved.
  """
  figure = _figure(5, 4.5)
  axes = figure.subplots()
  axes.plot([0, 1], [0, 1], color='grey', ls='--', label='as promised')
  for method, (score, better) in scores.items():
    found = measures.bins(score, better)
    axes.plot(*zip(*[one[:2] for one in found], strict=True), marker='o', label=method)
    for x, y, count in found:
      axes.annotate(str(count), (x, y), xytext=(4, -10), textcoords='offset points', fontsize=7)
  axes.set(xlabel='reliability', ylabel='share that is better than the input', title=title)
  return _drawn(figure)


def sparsification(curves: Mapping[str, measures.Sparsification], title: str = '') -> np.ndarray:
  """Error of what is left when the most uncertain values are removed, uint8 `[h w 3]`."""
  figure = _figure(5, 4.5)
  axes = figure.subplots()
  for index, (method, one) in enumerate(curves.items()):
    label = f'{method}, AUSE {one.ause:.3f}'
    axes.plot(one.removed, one.by_spread, color=f'C{index}', label=label)
    axes.plot(one.removed, one.by_error, color=f'C{index}', ls='--')
  axes.plot([], [], color='grey', ls='--', label='in the order of the errors themselves')
  axes.set(
    xlabel='share of the most uncertain values removed',
    ylabel='mean error of the rest',
    title=title,
  )
  return _drawn(figure)


def roc(curves: Mapping[str, measures.ROC]) -> np.ndarray:
  """True cases found against false alarms, uint8 `[h w 3]`."""
  figure = _figure(5, 4.5)
  axes = figure.subplots()
  axes.plot([0, 1], [0, 1], color='grey', ls='--', label='by chance')
  for name, one in curves.items():
    axes.plot(one.false, one.true, label=f'{name}, AUC {one.area:.2f}')
  axes.set(xlabel='share of false alarms', ylabel='share found')
  return _drawn(figure)


def _figure(width: float, height: float) -> Any:
  """Of a size in inches. Matplotlib is only imported here: it takes half a second."""
  from matplotlib.figure import Figure

  return Figure(figsize=(width, height), layout='constrained')


def _drawn(figure: Any) -> np.ndarray:
  for axes in figure.axes:
    axes.grid(alpha=0.3)
    axes.legend()
  return _pixels(figure)


def _pixels(figure: Any) -> np.ndarray:
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3]


def save(path: pathlib.Path, image: np.ndarray) -> None:
  """Writes a PNG atomically."""
  with atomic.replacing(path) as partial:
    Image.fromarray(image).save(partial, format='PNG')


def _plot(axes, metrics, name, label, **style) -> None:
  points = [(line['step'], line[name]) for line in metrics if line.get(name) is not None]
  if points:
    axes.plot(*zip(*points, strict=True), label=label, **style)


def _most_detailed(image: np.ndarray, height: int, width: int) -> tuple[int, int]:
  """Top left corner of the window with the largest differences between neighboring pixels."""
  luma = image.astype(np.float32).mean(-1)
  change = np.zeros_like(luma)
  change[1:, 1:] = abs(np.diff(luma, axis=0))[:, 1:] + abs(np.diff(luma, axis=1))[1:]
  total = np.pad(change.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
  inside = total[height:, width:] - total[:-height, width:] - total[height:, :-width]
  inside = inside + total[:-height, :-width]
  top, left = np.unravel_index(inside.argmax(), inside.shape)
  return int(top), int(left)


def _first_score(scores: Mapping[str, float]) -> str:
  """The first of the scores as text: PSNR, or sharpness if there is no reference."""
  metric, value = next(iter(scores.items()))
  return f'{value:.2f} dB' if metric == 'psnr' else f'{metric} {value:.4g}'


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
  while font.getlength(text) > width and len(text) > 1:
    text = text[:-2] + '…'
  return text
