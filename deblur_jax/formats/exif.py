"""Edits EXIF blocks in place, so that other offsets in them, such as in maker notes, stay valid.

EXIF 2.32, section 4.5: a TIFF structure with two directories, for the picture and its thumbnail.
"""

from collections.abc import Iterator
import re
import struct

PREFIX = b'Exif\0\0'
"""Precedes the block in JPEG and, against the standard, in other files."""

ORIENTATION, EXIF_DIRECTORY = 0x0112, 0x8769
WIDTHS, HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
THUMBNAIL, THUMBNAIL_LENGTH = 0x0201, 0x0202
DENSITIES = (0x011A, 0x011B)
SHORT, LONG = 3, 4

XMP_ORIENTATION = re.compile(rb'(tiff:Orientation\s*(?:>|=\s*["\']))\s*([1-8])')


def orientation(block: bytes | None, xmp: bytes | None) -> int:
  """The orientation, 1 (upright) to 8, in EXIF, or else in XMP.

  This is the precedence of the Metadata Working Group's guidelines (2.0, section 5), and Pillow's.
  """
  block = block or b''
  for directory, tag, at, _ in _entries(block):
    if directory == 0 and tag == ORIENTATION:
      found = _number(block, at)
      if found in range(1, 9):
        return found
  found = XMP_ORIENTATION.search(xmp or b'')
  return int(found[2]) if found else 1


def density(block: bytes | None) -> bool:
  """Whether an EXIF block gives the picture's density."""
  return any(
    directory == 0 and tag == DENSITIES[0] for directory, tag, *_ in _entries(block or b'')
  )


def upright(block: bytes, width: int, height: int, thumbnail: bytes | None) -> bytes:
  """`block` for a picture that was turned upright, with its new size and thumbnail.

  The old thumbnail is zeroed. A thumbnail is added only if one is given and the block had one.
  """
  changed = bytearray(block)
  place = {}
  for directory, tag, at, kind in _entries(block):
    if tag == ORIENTATION:
      _set(changed, at, 1)
    elif (directory == 0 and tag in WIDTHS) or tag == WIDTHS[1]:
      _set(changed, at, width)
    elif (directory == 0 and tag in HEIGHTS) or tag == HEIGHTS[1]:
      _set(changed, at, height)
    elif directory == 1 and tag in (THUMBNAIL, THUMBNAIL_LENGTH) and kind == LONG:
      place[tag] = at
  if len(place) == 2:
    start, length = (_number(block, place[tag]) for tag in (THUMBNAIL, THUMBNAIL_LENGTH))
    end = min(len(changed), start + length)
    new = thumbnail or b''
    if len(new) <= length and start + length <= len(changed):
      changed[start:end] = new.ljust(end - start, b'\0')
    else:
      changed[start:end] = bytes(max(0, end - start))
      start = len(changed)
      changed += new
    _set(changed, place[THUMBNAIL], start)
    _set(changed, place[THUMBNAIL_LENGTH], len(new))
  return bytes(changed)


def xmp_upright(xmp: bytes) -> bytes:
  """`xmp` for a picture that was turned upright, of unchanged length."""
  return XMP_ORIENTATION.sub(lambda found: found[0][:-1] + b'1', xmp)


def _order(block: bytes) -> str:
  return {b'II': '<', b'MM': '>'}.get(block[:2], '')


def _entries(block: bytes) -> Iterator[tuple[int, int, int, int]]:
  """Yields (directory, tag, offset of the entry, type) of single SHORTs, LONGs and fractions.

  Directory 0 is that of the picture, 1 of the thumbnail, 2 of EXIF. Empty if `block` is malformed.
  """
  order = _order(block)
  if not order or len(block) < 8:
    return
  waiting = [(0, struct.unpack_from(order + 'I', block, 4)[0])]
  while waiting:
    directory, start = waiting.pop(0)
    if start + 2 > len(block):
      continue
    (count,) = struct.unpack_from(order + 'H', block, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
      tag, kind, number = struct.unpack_from(order + 'HHI', block, at)
      if tag == EXIF_DIRECTORY and directory == 0 and kind == LONG:
        waiting.append((2, _number(block, at)))
      elif number == 1 and kind in (SHORT, LONG, 5):
        yield directory, tag, at, kind
    after = start + 2 + 12 * count
    if directory == 0 and after + 4 <= len(block):
      (following,) = struct.unpack_from(order + 'I', block, after)
      waiting += [(1, following)] if following else []


def _number(block: bytes, at: int) -> int:
  form = 'H' if struct.unpack_from(_order(block) + 'H', block, at + 2)[0] == SHORT else 'I'
  return struct.unpack_from(_order(block) + form, block, at + 8)[0]


def _set(block: bytearray, at: int, value: int) -> None:
  order = _order(bytes(block[:2]))
  form = 'H' if struct.unpack_from(order + 'H', block, at + 2)[0] == SHORT else 'I'
  struct.pack_into(order + form, block, at + 8, value & (0xFFFF if form == 'H' else 0xFFFFFFFF))
