"""Whether the pixels of a picture look as if it had been deblurred, without any record.

Three kinds of traces: ringing, as the correlation of gradients with those a few pixels away; noise,
as there is more of it beside edges than in flat parts, or none; and the spectrum, whose highest
frequencies are amplified or missing. A logistic regression (`uncertainty.reliability`) turns them
into a probability. tools/forensics.py fits it, and docs/provenance.md says how far it can be
trusted.
"""

import functools
import itertools
import json
import os

import numpy as np

from deblur_jax import methods
from deblur_jax.photos import diagnosis, pictures
from deblur_jax.uncertainty.reliability import Reliability

STORED = methods.SHIPPED / 'forensics.json'

BLOCK = 8
"""Side of the blocks that are flat or textured."""

LAGS = (1, 2, 3, 4, 6)
BANDS = (0.05, 0.12, 0.2, 0.28, 0.36, 0.44, 0.5)
"""Limits of frequencies, in cycles per pixel."""

_LEAST = 1e-4


def estimate(path: str | os.PathLike[str]) -> float:
  """The probability that the picture in a file was deblurred, if half of all pictures were.

  Raises as `pictures.read`.
  """
  picture = pictures.read(path)
  return _stored()(traces(diagnosis.windows(picture.shape, picture.rows)))


def traces(samples: np.ndarray) -> dict[str, float]:
  """Numbers that deblurring changes, by name, from `diagnosis.windows` `[n h w c]`."""
  planes = samples.mean(-1).astype(np.float64)
  across, down = np.diff(planes, axis=2), np.diff(planes, axis=1)
  found = {f'gradients_{lag}': _correlation(across, down, lag) for lag in LAGS}
  bands = _bands(planes)
  found |= {f'band_{i}': bands[i + 1] - bands[i] for i in range(len(bands) - 1)}
  diagonal = (planes[:, 1:, 1:] - planes[:, 1:, :-1] - planes[:, :-1, 1:] + planes[:, :-1, :-1]) / 2
  found['tails'] = float(np.log10(_kurtosis(diagonal)))
  found['diagonal_1'] = _correlation(diagonal, diagonal, 1)
  flat, textured, steep = _noise(diagonal, across, down)
  found['noise'] = float(np.log10(flat))
  found['noise_at_texture'] = float(np.log10(textured / flat))
  found['steepness'] = float(np.log10(steep))
  found['clipped'] = float(np.sqrt(np.mean((samples <= 0) | (samples >= 1))))
  return found


def _correlation(across: np.ndarray, down: np.ndarray, lag: int) -> float:
  """Of differences along rows and columns with those `lag` pixels further on."""
  products = (across[:, :, :-lag] * across[:, :, lag:]).mean()
  products += (down[:, :-lag] * down[:, lag:]).mean()
  return float(products / max(np.square(across).mean() + np.square(down).mean(), 1e-12))


def _bands(planes: np.ndarray) -> list[float]:
  """Logarithm of the mean power in each of `BANDS`."""
  side = planes.shape[-1]
  window = np.hanning(side)
  centered = planes - planes.mean((1, 2), keepdims=True)
  spectra = np.square(np.abs(np.fft.rfft2(centered * np.outer(window, window)))).mean(0)
  radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
  pairs = itertools.pairwise(BANDS)
  return [
    float(np.log10(spectra[(radius >= low) & (radius < high)].mean() + 1e-9)) for low, high in pairs
  ]


def _noise(
  diagonal: np.ndarray, across: np.ndarray, down: np.ndarray
) -> tuple[float, float, float]:
  """Noise in the flattest and the most textured quarter of all blocks, and a steep gradient."""
  edges = np.abs(across[:, 1:]) + np.abs(down[:, :, 1:])

  def blocks(plane):
    n, height, width = (side // BLOCK * BLOCK if i else side for i, side in enumerate(plane.shape))
    cut = plane[:, :height, :width]
    cut = cut.reshape(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return np.moveaxis(cut, 2, 3).reshape(-1, BLOCK * BLOCK)

  texture = blocks(edges).mean(1)
  noise = np.median(np.abs(blocks(diagonal)), axis=1) / 0.6745
  order = np.argsort(texture)
  quarter = max(len(order) // 4, 1)
  flat, textured = np.mean(noise[order[:quarter]]), np.mean(noise[order[-quarter:]])
  steep = np.quantile(edges, 0.98)
  return max(float(flat), _LEAST), max(float(textured), _LEAST), max(float(steep), _LEAST)


def _kurtosis(values: np.ndarray) -> float:
  """At least 1, as of any values; that also for a picture of one color."""
  return max(float(np.mean(values**4) / max(np.mean(values**2) ** 2, 1e-18)), 1.0)


@functools.cache
def _stored() -> Reliability:
  return Reliability(**json.loads(STORED.read_text())['found'])
