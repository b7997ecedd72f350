"""Traces of deblurring, on pictures whose statistics are known."""

import json

import numpy as np
from PIL import Image, ImageFilter
import pytest
import scipy.ndimage

from deblur_jax import cli
from deblur_jax.photos import forensics


def windows(planes):
  return np.repeat(planes[..., None], 3, -1).astype(np.float32)


def test_traces_of_white_noise_are_the_textbook_ones():
  planes = np.random.default_rng(0).normal(0.5, 0.02, (4, 128, 128))
  found = forensics.traces(windows(planes))
  # Differences of white noise share a value with those of the next pixel, with opposite sign.
  assert found['gradients_1'] == pytest.approx(-0.5, abs=0.01)
  assert all(abs(found[f'gradients_{lag}']) < 0.02 for lag in forensics.LAGS[1:])
  assert found['tails'] == pytest.approx(np.log10(3), abs=0.01)
  assert all(abs(found[f'band_{i}']) < 0.05 for i in range(5))
  # The flattest quarter of the blocks has a little less noise, by chance.
  assert 10 ** found['noise'] == pytest.approx(0.02, rel=0.15)
  assert 0 < found['noise_at_texture'] < 0.2 and found['clipped'] == 0
  assert np.isfinite(list(forensics.traces(np.full((1, 128, 128, 3), 0.5, 'f')).values())).all()


def test_ringing_turns_the_sign_of_gradients_again():
  x = np.arange(128) - 64.0
  step = scipy.ndimage.gaussian_filter1d((x > 0).astype(float), 2)
  rings = np.where(x > 0, 1, 0.0) + 0.15 * np.sin(x) * np.exp(-np.abs(x) / 8)

  def correlations(profile):
    planes = np.broadcast_to(0.2 + 0.5 * profile, (2, 128, 128))
    found = forensics.traces(windows(planes))
    return [found[f'gradients_{lag}'] for lag in forensics.LAGS]

  assert min(correlations(step)) > 0
  assert min(correlations(rings)) < -0.05


def test_inspect_estimates_where_there_is_no_record(tmp_path, capsys):
  random = np.random.default_rng(0)
  plane = scipy.ndimage.gaussian_filter(random.random((200, 200)), 2)
  plane = (plane > np.median(plane)) * 120.0 + 60 + random.normal(0, 2, plane.shape)
  image = Image.fromarray(np.repeat(plane[..., None], 3, -1).clip(0, 255).astype(np.uint8))
  image.save(tmp_path / 'a.png')
  image.filter(ImageFilter.GaussianBlur(1.5)).save(tmp_path / 'b.png')
  for name in ('a.png', 'b.png'):
    assert 0 <= forensics.estimate(tmp_path / name) <= 1
    assert cli.main(['inspect', str(tmp_path / name)]) == 0
    shown = f'from the pixels: {forensics.estimate(tmp_path / name):.0%} likely to be deblurred'
    assert shown in capsys.readouterr().out
  assert json.loads(forensics.STORED.read_text())['auc'] >= 0.7
