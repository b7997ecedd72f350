"""Reads and writes the segments of JPEG files (ITU-T T.81, annex B; JFIF is ITU-T T.871)."""

from collections.abc import Iterator
import os
import pathlib
import struct
from typing import NamedTuple

import numpy as np

from deblur_jax.formats import exif
from deblur_jax.formats.metadata import Metadata

Path = str | os.PathLike[str]

JFIF, EXIF, XMP = b'JFIF\0', exif.PREFIX, b'http://ns.adobe.com/xap/1.0/\0'
PROFILE, MULTIPLE, ADOBE = b'ICC_PROFILE\0', b'MPF\0', b'Adobe\0'
GAIN_MAP = (b'http://ns.adobe.com/hdr-gain-map/', b'urn:iso:std:iso:ts:21496')

MOST = 65533
"""Most bytes in a segment."""

APP0, APP1, APP2, APP11, APP13, APP14 = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE
DQT, SOS, EOI, COM = 0xDB, 0xDA, 0xD9, 0xFE
ODD_QUANTIZER = 4.0
"""A quantizer further than this factor from the median of its neighbors is implausible; at most 2.6
in the tables of ITU-T T.81, annex K."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15."""


class Segment(NamedTuple):
  """A marker and its data."""

  at: int
  """Offset of its 0xFF."""
  marker: int
  body: bytes
  """Without the length field."""


def segments(data: bytes) -> Iterator[Segment]:
  """Yields the segments through the first SOS; stops early if `data` is malformed."""
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


def read(path: Path) -> Metadata:
  """The metadata in the segments."""
  block, xmp, notes = None, None, {}
  for marker, body in _described(pathlib.Path(path).read_bytes()):
    if marker == APP1 and body.startswith(EXIF):
      block = block or body.removeprefix(EXIF)
    elif marker == APP1 and body.startswith(XMP):
      xmp = xmp or body.removeprefix(XMP)
    if marker in (APP1, APP2) and any(name in body for name in GAIN_MAP):
      notes['gain map'] = 'not kept: the gain map for HDR screens'
    if marker == APP2 and body.startswith(MULTIPLE) and (views := _views(body[4:])) > 1:
      notes['views'] = f'only the first of the {views} pictures in this file is restored'
    if marker == APP11:
      notes['provenance'] = 'not kept: JPEG segment APP11 (such as content credentials)'
  if 'gain map' in notes:  # it is the second picture
    notes.pop('views', None)
  return Metadata(block, xmp, exif.orientation(block, xmp), notes=tuple(notes.values()))


def _views(index: bytes) -> int:
  """The number of pictures in a Multi-Picture Format index (CIPA DC-007, section 5.2)."""
  order = {b'II': '<', b'MM': '>'}.get(index[:2])
  if order and len(index) >= 8:
    (start,) = struct.unpack_from(order + 'I', index, 4)
    for at in range(start + 2, len(index) - 11, 12):
      tag, _, _, value = struct.unpack_from(order + 'HHII', index, at)
      if tag == 0xB001:
        return value
  return 1


def _described(data: bytes) -> list[tuple[int, bytes]]:
  """(marker, body) of the segments that decoding the picture does not need."""
  return [
    (part.marker, part.body)
    for part in segments(data)
    if (part.marker & 0xF0 == 0xE0 and part.marker != APP14) or part.marker == COM
  ]


def carry(
  source: Path | None, target: Path, metadata: Metadata, *, strip: bool = False
) -> list[str]:
  """Writes EXIF, XMP and the segments of `source`, if that is a JPEG, into `target`.

  Returns what was lost. `target` was written by libvips with a profile and IPTC. `metadata` holds
  EXIF and XMP as they should be written. `strip` keeps of the rest only what colors and density
  need.
  """
  data, lost, added = pathlib.Path(target).read_bytes(), [], []
  own = _described(data)
  pixels = b''.join(
    data[part.at : part.at + 4 + len(part.body)]
    for part in segments(data)
    if (part.marker, part.body) not in own and part.marker not in (SOS, EOI)
  )
  scan = next(part.at for part in segments(data) if part.marker == SOS)
  given = _described(pathlib.Path(source).read_bytes()) if source is not None else own
  added += [
    (marker, _turned(body[:12], metadata.orientation) + b'\0\0')
    for marker, body in given
    if marker == APP0 and body.startswith(JFIF) and len(body) >= 14
  ][:1]
  for prefix, block, name in ((EXIF, metadata.exif, 'EXIF'), (XMP, metadata.xmp, 'XMP')):
    if block and len(prefix) + len(block) > MOST:
      lost.append(f'not kept: {name} of {len(block):,} bytes, too large for a JPEG')
    elif block:
      added.append((APP1, prefix + block))
  added += [one for one in own if one[1].startswith(PROFILE)]
  added += [one for one in given if _is_kept(*one)] if not strip else []
  head = b''.join(struct.pack('>BBH', 255, marker, len(body) + 2) + body for marker, body in added)
  pathlib.Path(target).write_bytes(data[:2] + head + pixels + data[scan:])
  return lost


def _is_kept(marker: int, body: bytes) -> bool:
  """Whether a segment is copied unchanged; the rest are rewritten or do not fit."""
  rewritten = (JFIF, b'JFXX\0', EXIF, XMP, PROFILE, MULTIPLE, *GAIN_MAP)
  return marker != APP11 and not body.startswith(rewritten)


def _turned(header: bytes, orientation: int) -> bytes:
  """The first 12 bytes of a JFIF header, with the densities swapped if the picture was rotated."""
  return header[:8] + header[10:12] + header[8:10] if orientation >= 5 else header


def end(data: bytes) -> int | None:
  """The offset of the EOI marker of the first picture; None if it has none."""
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
  """The quantization tables, `[8 8]` each, converted from zigzag order."""
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
  """Whether an entry of a quantization table is far from the median of its neighbors."""
  for table in quantizers(data):
    padded = np.pad(np.log(np.maximum(table, 1.0)), 1, constant_values=np.nan)
    shifts = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    around = np.stack([padded[y : y + 8, x : x + 8] for y, x in shifts])
    far = np.abs(padded[1:9, 1:9] - np.nanmedian(around, 0)) > np.log(ODD_QUANTIZER)
    if table.min() < 1 or far.any():
      return True
  return False


class Frame(NamedTuple):
  """The frame header."""

  baseline: bool
  """Whether it is sequential and Huffman coded."""
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
  """`data` with the sampling factors of a single component, which have no meaning, set to 1."""
  for part in segments(data):
    if part.marker in FRAMES and len(part.body) == 9:
      at = part.at + 4 + 7
      return data[:at] + b'\x11' + data[at + 1 :]
  return data


def block(data: bytes) -> tuple[int, int]:
  """(height, width) in pixels of a coded unit (MCU): 8 times the largest sampling factors.

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
