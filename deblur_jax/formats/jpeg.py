"""JPEG files segment by segment (ITU-T T.81, annex B)."""

from collections.abc import Iterator
import struct
from typing import NamedTuple

import numpy as np

DQT, SOS, EOI, COM, APP0 = 0xDB, 0xDA, 0xD9, 0xFE, 0xE0
ODD_QUANTIZER = 4.0
"""Ratio of a quantizer to the median of its neighbors beyond which it is not plausible; at most
2.6 in the tables of ITU-T T.81, annex K."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15."""


class Segment(NamedTuple):
  """A marker and what belongs to it."""

  at: int
  """Where its 0xFF is."""
  marker: int
  body: bytes
  """Without the length."""


def segments(data: bytes) -> Iterator[Segment]:
  """The segments up to and with the first SOS; stops early if `data` makes no sense."""
  at = 2
  while at + 4 <= len(data) and data[at] == 0xFF:
    marker = data[at + 1]
    if marker == 0xFF:  # a fill byte
      at += 1
      continue
    (length,) = struct.unpack_from('>H', data, at + 2)
    yield Segment(at, marker, data[at + 4 : at + 2 + length])
    if marker in (SOS, EOI):
      return
    at += 2 + length


def end(data: bytes) -> int | None:
  """Where the EOI marker of the first picture is; None if it has none."""
  at = next((part.at for part in segments(data) if part.marker == SOS), len(data))
  while (at := data.find(b'\xff', at)) >= 0 and at + 1 < len(data):
    marker = data[at + 1]
    if marker == EOI:
      return at
    if marker in (0x00, 0xFF) or 0xD0 <= marker <= 0xD7:  # a stuffed byte, a fill byte, a restart
      at += 1 if marker == 0xFF else 2
    else:
      at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
  return None


def quantizers(data: bytes) -> list[np.ndarray]:
  """The quantization tables, `[8 8]` each, in zigzag order turned into rows and columns."""
  tables = []
  for part in segments(data):
    body = part.body if part.marker == DQT else b''
    while body:
      kind = '>u2' if body[0] >> 4 else 'u1'
      size = 64 * np.dtype(kind).itemsize
      if len(body) < 1 + size:
        break
      table = np.zeros(64)
      table[_ZIGZAG] = np.frombuffer(body[1 : 1 + size], kind)
      tables.append(table.reshape(8, 8))
      body = body[1 + size :]
  return tables


def odd_quantizer(data: bytes) -> bool:
  """Whether an entry of a quantization table is far from all of its neighbors."""
  for table in quantizers(data):
    padded = np.pad(np.log(np.maximum(table, 1.0)), 1, constant_values=np.nan)
    shifts = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    around = np.stack([padded[y : y + 8, x : x + 8] for y, x in shifts])
    far = np.abs(padded[1:9, 1:9] - np.nanmedian(around, 0)) > np.log(ODD_QUANTIZER)
    if table.min() < 1 or far.any():
      return True
  return False


class Frame(NamedTuple):
  """What the frame header says."""

  baseline: bool
  """Whether it is coded in one pass, by Huffman codes."""
  height: int
  width: int
  components: int
  sampling: tuple[tuple[int, int], ...]
  """(down, across) sampling factors of each component."""


def frame(data: bytes) -> Frame:
  """The frame header; ValueError if there is none."""
  for part in segments(data):
    if part.marker in FRAMES and len(part.body) >= 9:
      height, width, components = struct.unpack_from('>HHB', part.body, 1)
      sampling = tuple((one & 15, one >> 4) for one in part.body[7::3])
      return Frame(part.marker in (0xC0, 0xC1), height, width, components, sampling)
  raise ValueError('no frame header')


def without_grey_sampling(data: bytes) -> bytes:
  """`data` with the sampling factors of a single component, which mean nothing, set to 1."""
  for part in segments(data):
    if part.marker in FRAMES and len(part.body) == 9:
      at = part.at + 4 + 7
      return data[:at] + b'\x11' + data[at + 1 :]
  return data


def block(data: bytes) -> tuple[int, int]:
  """(height, width) in pixels of what is coded at a time: 8 times the largest sampling factor.

  A single component is coded in blocks of 8x8, whatever its factors.
  """
  sampling = frame(data).sampling
  if len(sampling) < 2:
    return 8, 8
  return 8 * max(down for down, _ in sampling), 8 * max(across for _, across in sampling)


def _zigzag() -> np.ndarray:
  order = sorted(np.ndindex(8, 8), key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1]))
  return np.array([8 * y + x for y, x in order])


_ZIGZAG = _zigzag()
