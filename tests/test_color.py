"""Transfer curves: values by hand, round trips, ICC profiles as libraries write them."""

import struct

import jax
import jax.numpy as jnp
import numpy as np
import PIL.ImageCms
import pytest

from deblur_jax import color


def profile(curves, names=(b'rTRC', b'gTRC', b'bTRC')):
  """An ICC profile that holds nothing but tone curves."""
  table, data = struct.pack('>I', len(names)), b''
  start = 128 + 4 + 12 * len(names)
  for name, curve in zip(names, curves, strict=True):
    table += struct.pack('>4sII', name, start + len(data), len(curve))
    data += curve
  return bytes(128) + table + data


def curv(*samples):
  return b'curv' + bytes(4) + struct.pack(f'>I{len(samples)}H', len(samples), *samples)


def para(form, *values):
  numbers = [round(value * 65536) for value in values]
  return b'para' + bytes(4) + struct.pack(f'>HH{len(numbers)}i', form, 0, *numbers)


@pytest.mark.parametrize(
  'given, value, light',
  [
    ({}, 0.5, 0.21404114),  # sRGB by IEC 61966-2-1
    ({}, 0.02, 0.02 / 12.92),
    ({'gamma': 1.0}, 0.3, 0.3),
    ({'gamma': 1.8}, 0.5, 0.5**1.8),
    ({'gamma': 2.2}, 0.5, 0.5**2.2),
    ({'cicp': 1}, 0.5, 0.25971882),  # ((0.5 + 0.0992968) / 1.0992968)^(1 / 0.45)
    ({'cicp': 8}, 0.25, 0.25),
    ({'cicp': 13}, 0.5, 0.21404114),
    ({'cicp': 16}, 0.50807842, 0.01),  # BT.2408: 100 cd/m2 is at 50.8 %
    ({'cicp': 18}, 0.75, 0.26496256),  # BT.2408: graphics white, 26.5 % of the scene's range
    ({'cicp': 18}, 0.5, 1 / 12),
    ({'cicp': 17}, 0.5, 0.5**2.6),
    ({'cicp': 8, 'gamma': 2.2}, 0.5, 0.5),
    ({'icc': profile([curv()] * 3), 'gamma': 2.2}, 0.5, 0.5),
    ({'icc': profile([curv(563)] * 3)}, 0.5, 0.5 ** (563 / 256)),
    ({'icc': profile([curv(0, 16384, 65535)] * 3)}, 0.5, 16384 / 65535),
    ({'icc': profile([curv(0, 16384, 65535)] * 3)}, 0.25, 8192 / 65535),
    ({'icc': profile([para(0, 1.5)] * 3)}, 0.25, 0.125),
    ({'icc': profile([para(1, 2.0, 1.25, -0.25)] * 3)}, 0.6, 0.25),
    ({'icc': profile([para(2, 2.0, 0.75, 0.0, 0.25)] * 3)}, 1.0, 0.8125),
    (
      {'icc': profile([para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)] * 3)},
      0.5,
      0.214041,
    ),
    ({'icc': profile([para(4, 2.0, 0.5, 0.5, 0.5, 0.25, 0.0, 0.125)] * 3)}, 0.2, 0.225),
    ({'icc': profile([curv(512)], [b'kTRC'])}, 0.5, 0.25),
  ],
)
def test_values_and_back(given, value, light):
  curve = color.transfer(**given)
  assert curve.to_linear(np.float64(value)) == pytest.approx(light, rel=2e-5)
  assert curve.from_linear(np.float64(light)) == pytest.approx(value, rel=2e-5)


@pytest.mark.parametrize('name', range(16))
def test_round_trip_of_every_curve_in_numpy_and_jax(name):
  curves = [*color.CICP.values(), color.power(1.8)]
  curves += [
    color.transfer(icc=profile(curves))
    for curves in (
      [curv(*(round(65535 * (i / 255) ** 2.2) for i in range(256)))] * 3,
      [curv(461), curv(512), curv(563)],
      [para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)] * 3,
    )
  ]
  assert len(curves) == 16
  curve = curves[name]
  values = np.linspace(0, 1, 3 * 4096, dtype=np.float32).reshape(-1, 3)
  light = curve.to_linear(values)
  assert light.dtype == np.float32 and (np.diff(light[:, 1]) >= 0).all()
  assert light.min() >= 0 and light.max() == pytest.approx(1, abs=2e-5)
  # In float32 the darkest PQ codes, below a 10,000th of a candela, are lost.
  tolerance = 5e-3 if curve.name == 'PQ' else 2e-4
  np.testing.assert_allclose(curve.from_linear(light), values, atol=tolerance)
  on_device = jax.jit(curve.to_linear)(jnp.asarray(values))
  np.testing.assert_allclose(on_device, light, rtol=1e-4, atol=2e-5)
  np.testing.assert_allclose(jax.jit(curve.from_linear)(on_device), values, atol=tolerance)


@pytest.mark.parametrize('gamma', [1.0, 1.8, 2.2])
def test_nothing_is_clipped_beyond_the_range(gamma):
  values = np.array([-0.1, -0.01, 1.02, 1.3], np.float64)
  table = color.transfer(
    icc=profile([curv(*(round(65535 * (i / 99) ** 2.2) for i in range(100)))] * 3)
  )
  for curve in (color.power(gamma), color.SRGB, color.BT709, table):
    np.testing.assert_allclose(curve.from_linear(curve.to_linear(values)), values, atol=3e-3)


def test_channels_may_differ_and_grey_takes_green():
  curve = color.transfer(icc=profile([curv(256), curv(512), curv(768)]))
  half = np.full((2, 2, 3), 0.5)
  np.testing.assert_allclose(curve.to_linear(half)[0, 0], [0.5, 0.25, 0.125])
  np.testing.assert_allclose(curve.to_linear(half[..., :1])[0, 0], [0.25])


def test_the_srgb_profile_that_pillow_makes_is_srgb():
  made = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes()
  values = np.linspace(-0.1, 1.1, 1000)
  expected = color.SRGB.to_linear(values)
  np.testing.assert_allclose(color.transfer(icc=made).to_linear(values), expected, atol=1e-4)


@pytest.mark.parametrize(
  'given, message',
  [
    ({'icc': b'short'}, 'damaged'),
    ({'icc': profile([b'mft2'], [b'A2B0'])}, 'no tone curves'),
    ({'icc': profile([curv(1, 2, 3)[:-2]] * 3)}, 'cut short'),
    ({'icc': profile([para(3, 2.4)] * 3)}, 'cut short'),
    ({'icc': profile([para(9, 2.4)] * 3)}, 'cut short'),
    ({'icc': profile([curv(9, 0, 3)] * 3)}, 'does not increase'),
    ({'icc': profile([para(0, -1)] * 3)}, 'does not increase'),
    ({'cicp': 9}, 'unsupported transfer characteristics 9'),
    ({'gamma': 0.0}, 'positive'),
  ],
)
def test_descriptions_that_have_no_curve(given, message):
  with pytest.raises(ValueError, match=message):
    color.transfer(**given)
