"""Boxes of AVIF and HEIF files (ISO/IEC 14496-12 and 23008-12)."""

from collections.abc import Iterator
import os
import pathlib
import struct

from deblur_jax.formats.metadata import Metadata

Path = str | os.PathLike[str]

CONTAINERS = {b'meta': 4, b'iprp': 0, b'ipco': 0}
"""Boxes that contain boxes, and the number of bytes before these."""

LIGHT = {
  b'clli': 'content light level',
  b'mdcv': 'mastering display',
  b'amve': 'ambient viewing environment',
  b'cclv': 'content color volume',
}


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
  """Yields (type, start of the body, end of the body) of boxes, each followed by its children."""
  end = len(data) if end is None else min(end, len(data))
  while start + 8 <= end:
    size, name = struct.unpack_from('>I4s', data, start)
    head = 8
    if size == 1 and start + 16 <= end:
      (size,), head = struct.unpack_from('>Q', data, start + 8), 16
    stop = start + size if size else end
    if size and size < head:
      return
    yield name, start + head, min(stop, end)
    if name in CONTAINERS:
      yield from boxes(data, start + head + CONTAINERS[name], stop)
    start = stop


def properties(data: bytes) -> list[tuple[bytes, int, int]]:
  """As `boxes`, for the properties of the primary picture; empty if the file is malformed."""
  found = {name: (at, end) for name, at, end in reversed(list(boxes(data)))}
  if not {b'ipco', b'ipma', b'pitm'} <= set(found):
    return []
  all_of_them = list(boxes(data, *found[b'ipco']))
  return [
    all_of_them[index - 1]
    for item, _, _, indices in _associations(data, *found[b'ipma'])
    if item == _primary(data, found[b'pitm'][0])
    for index in indices
    if 0 < index <= len(all_of_them)
  ]


def _primary(data: bytes, at: int) -> int:
  """The item number of the primary picture, from the body of `pitm`."""
  return int.from_bytes(data[at + 4 : at + (8 if data[at] else 6)], 'big')


def _associations(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, list[int]]]:
  """Yields (item, offset of its count, end of its entry, properties) from the body of `ipma`."""
  wide = 2 if data[at + 3] & 1 else 1
  (count,), place = struct.unpack_from('>I', data, at + 4), at + 8
  for _ in range(count):
    size = 4 if data[at] else 2
    if place + size >= end:
      return
    item, counted = int.from_bytes(data[place : place + size], 'big'), place + size
    place = counted + 1 + wide * data[counted]
    entries = (data[i : i + wide] for i in range(counted + 1, place, wide))
    mask = 0x7FFF if wide == 2 else 0x7F
    yield item, counted, place, [int.from_bytes(entry, 'big') & mask for entry in entries]


def _described(data: bytes, added: list[bytes]) -> bytes | None:
  """An AVIF file written by libheif, with property boxes added for its primary picture.

  None if its layout is not that of libheif.
  """
  found = {name: (at, end) for name, at, end in reversed(list(boxes(data)))}
  if not {b'meta', b'iprp', b'ipco', b'ipma', b'iloc', b'pitm', b'mdat'} <= set(found):
    return None
  first = 1 + sum(1 for _ in boxes(data, *found[b'ipco']))
  entries = _associations(data, *found[b'ipma'])
  item = _primary(data, found[b'pitm'][0])
  entry = next((one for one in entries if one[0] == item), None)
  places = _offsets(data, *found[b'iloc'])
  short = data[found[b'ipma'][0] + 3] & 1 == 0 and first + len(added) < 128
  if entry is None or places is None or not short or found[b'mdat'][0] < found[b'meta'][1]:
    return None
  boxes_added, numbers = b''.join(added), bytes(range(first, first + len(added)))
  grown, total = bytearray(data), len(boxes_added) + len(numbers)
  sizes = {b'ipco': len(boxes_added), b'ipma': len(numbers), b'iprp': total, b'meta': total}
  for name, more in sizes.items():
    at = found[name][0] - 8
    struct.pack_into('>I', grown, at, struct.unpack_from('>I', data, at)[0] + more)
  for at in places:
    struct.pack_into('>I', grown, at, struct.unpack_from('>I', data, at)[0] + total)
  grown[entry[1]] += len(added)
  for at, more in sorted(((entry[2], numbers), (found[b'ipco'][1], boxes_added)), reverse=True):
    grown[at:at] = more
  return bytes(grown)


def _offsets(data: bytes, at: int, end: int) -> list[int] | None:
  """Positions of the file offsets in the body of `iloc`; None if the layout is not libheif's."""
  version, sizes = data[at], data[at + 4 : at + 6]
  if version > 1 or sizes != b'\x44\x40':  # 4 bytes for offset, length and base
    return None
  (count,), place, found = struct.unpack_from('>H', data, at + 6), at + 8, []
  for _ in range(count):
    in_file = version == 0 or data[place + 3] & 15 == 0
    base = place + (6 if version else 4)
    found += [base] if in_file else []
    place = base + 6 + 8 * struct.unpack_from('>H', data, base + 4)[0]
  return found if place <= end else None


def _codes(data: bytes) -> int | None:
  """The position of the color codes of the primary picture; None if it has none."""
  for name, at, end in properties(data):
    if name == b'colr' and data[at : at + 4] == b'nclx' and end - at >= 11:
      return at + 4
  return None


def lossless(path: Path) -> bool:
  """Whether the picture is probably lossless.

  AVIF does not record it, but encoders skip the conversion to luma and chroma (matrix 0) only for
  lossless pictures.
  """
  data = pathlib.Path(path).read_bytes()
  at = _codes(data)
  return at is not None and data[at + 4 : at + 6] == b'\0\0'


def read(path: Path) -> Metadata:
  """The color codes, and a note if a gain map is lost.

  libvips handles EXIF and XMP. The orientation is 1: libheif turns the picture upright, and the
  standard ignores the orientation in EXIF and XMP.
  """
  data = pathlib.Path(path).read_bytes()
  at = _codes(data)
  codes = None if at is None else struct.unpack_from('>HHH', data, at)
  notes = []
  items = next((data[at:end] for name, at, end in boxes(data) if name == b'meta'), b'')
  if b'tmap' in items:
    notes.append('not kept: the gain map for HDR screens')
  return Metadata(cicp=codes, notes=tuple(notes))


def carry(
  source: Path | None, target: Path, metadata: Metadata, *, strip: bool = False
) -> list[str]:
  """Writes color codes, and the light levels of an AVIF `source`, into `target`.

  Returns what was lost. The matrix stays that of `target`, which libvips wrote.
  """
  given = b'' if source is None else pathlib.Path(source).read_bytes()
  added = [given[at - 8 : end] for name, at, end in properties(given) if name in LIGHT]
  data = pathlib.Path(target).read_bytes()
  at = _codes(data)
  if metadata.cicp and at is not None:
    data = data[:at] + struct.pack('>HH', *metadata.cicp[:2]) + data[at + 4 :]
  elif metadata.cicp:
    # Without codes, readers assume the BT.601 matrix, which libheif uses.
    body = b'nclx' + struct.pack('>HHHB', *metadata.cicp[:2], 6, 0x80)
    added.insert(0, struct.pack('>I4s', 8 + len(body), b'colr') + body)
  if added:
    described = _described(data, added)
    if described is None:
      names = ', '.join(LIGHT.get(box[4:8], 'color codes (nclx)') for box in added)
      return [f'not kept: {names}']
    data = described
  pathlib.Path(target).write_bytes(data)
  return []
