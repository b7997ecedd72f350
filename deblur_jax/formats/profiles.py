"""ICC profiles for colors that a file describes in another way: CICP codes, gamma, chromaticities.

PNG and AVIF can describe colors without a profile; JPEG, WebP and TIFF cannot. When such a picture
is written as one of those, a matrix/TRC profile (ICC.1:2022, section 8.4) says the same.
"""

import struct

import numpy as np

from deblur_jax import color

D50 = (0.9642, 1.0, 0.8249)
"""XYZ of the white of the profile connection space."""

D65, C, DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)

PRIMARIES = {
  1: (D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
  4: (C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
  5: (D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
  6: (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
  7: (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
  9: (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
  11: (DCI, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
  12: (D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
  22: (D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
"""Chromaticities (x, y) of white, red, green and blue, by codes of ITU-T H.273, table 2."""

BRADFORD = np.array(
  [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

SAMPLES = 4096
"""Of curves that have no parameters in ICC: PQ and HLG."""

Chromaticities = tuple[tuple[float, float], ...]


def profile(
  transfer: color.Transfer,
  chromaticities: Chromaticities,
  *,
  name: str,
  grey: bool = False,
  cicp: tuple[int, int] | None = None,
) -> bytes:
  """An ICC profile, version 4.4, of a display with these curves and primaries.

  `chromaticities` are those of white, red, green and blue, as in `PRIMARIES`. `name` is for people.
  A `grey` profile has only the curve. `cicp` also goes in as codes, for readers that know them.
  Raises ValueError if the chromaticities are not those of three colors and a white.
  """
  curve = _curve(transfer.channels[0])
  tags = {b'desc': _text(name), b'cprt': _text('No copyright, use freely'), b'wtpt': _xyz(D50)}
  if grey:
    tags[b'kTRC'] = curve
  else:
    matrix, adaptation = _matrices(chromaticities)
    tags |= {b'rTRC': curve, b'gTRC': curve, b'bTRC': curve}
    tags |= {key: _xyz(matrix[:, i]) for i, key in enumerate((b'rXYZ', b'gXYZ', b'bXYZ'))}
    tags[b'chad'] = b'sf32\0\0\0\0' + b''.join(map(_fixed, adaptation.ravel()))
    if cicp:
      tags[b'cicp'] = b'cicp\0\0\0\0' + bytes([*cicp, 0, 1])
  return _file(tags, b'GRAY' if grey else b'RGB ')


def _matrices(chromaticities: Chromaticities) -> tuple[np.ndarray, np.ndarray]:
  """(linear RGB to XYZ under D50, XYZ under the white given to XYZ under D50), both [3 3]."""
  if not all(y > 0 for _, y in chromaticities):
    raise ValueError('a chromaticity is zero')
  white, *colors = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in chromaticities]
  primaries = np.stack(colors, 1)
  try:
    matrix = primaries * np.linalg.solve(primaries, white)
  except np.linalg.LinAlgError:
    raise ValueError('the chromaticities are not those of three colors') from None
  cones = np.array(D50) @ BRADFORD.T / (BRADFORD @ white)
  adaptation = np.linalg.solve(BRADFORD, cones[:, None] * BRADFORD)
  return adaptation @ matrix, adaptation


def _curve(function: color.Function) -> bytes:
  if isinstance(function, color.Parametric):
    values = (getattr(function, one) for one in 'gabcdef')
    return b'para\0\0\0\0' + struct.pack('>HH', 4, 0) + b''.join(map(_fixed, values))
  light = function.to_linear(np.linspace(0, 1, SAMPLES))
  values = np.rint(np.clip(light, 0, 1) * 65535).astype('>u2')
  return b'curv\0\0\0\0' + struct.pack('>I', SAMPLES) + values.tobytes()


def _file(tags: dict[bytes, bytes], space: bytes) -> bytes:
  head, places, body = 128 + 4 + 12 * len(tags), {}, b''
  table = struct.pack('>I', len(tags))
  for name, data in tags.items():
    if data not in places:
      places[data] = head + len(body)
      body += data + bytes(-len(data) % 4)
    table += struct.pack('>4sII', name, places[data], len(data))
  header = bytearray(128)
  struct.pack_into('>I4xI4s4s4s', header, 0, head + len(body), 0x04400000, b'mntr', space, b'XYZ ')
  struct.pack_into('>6H4s', header, 24, 2026, 1, 1, 0, 0, 0, b'acsp')
  header[68:80] = b''.join(map(_fixed, D50))
  return bytes(header) + table + body


def _text(text: str) -> bytes:
  encoded = text.encode('utf-16-be')
  return b'mluc\0\0\0\0' + struct.pack('>II4sII', 1, 12, b'enUS', len(encoded), 28) + encoded


def _xyz(values: np.ndarray | tuple[float, ...]) -> bytes:
  return b'XYZ \0\0\0\0' + b''.join(map(_fixed, values))


def _fixed(value: float) -> bytes:
  return struct.pack('>i', round(float(value) * 65536))
