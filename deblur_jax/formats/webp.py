"""Reads and writes the chunks of WebP files (RFC 9649)."""

from collections.abc import Iterator
import os
import pathlib
import struct

from deblur_jax.formats import exif
from deblur_jax.formats.metadata import Metadata

Path = str | os.PathLike[str]

PROFILE_FLAG, ALPHA_FLAG, EXIF_FLAG, XMP_FLAG = 0x20, 0x10, 0x08, 0x04


def chunks(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
  """Yields (offset, name, body) of the chunks."""
  at = 12
  while at + 8 <= len(data):
    name, length = struct.unpack_from('<4sI', data, at)
    yield at, name, data[at + 8 : at + 8 + length]
    at += 8 + length + length % 2


def lossless(path: Path) -> bool:
  """Whether the picture is lossless; such pictures have their own chunk."""
  names = [name for _, name, _ in chunks(pathlib.Path(path).read_bytes())]
  return next((name == b'VP8L' for name in names if name in (b'VP8L', b'VP8 ')), False)


def read(path: Path) -> Metadata:
  """The metadata in the chunks."""
  found = {name: body for _, name, body in chunks(pathlib.Path(path).read_bytes())}
  block = found.get(b'EXIF', b'').removeprefix(exif.PREFIX) or None
  xmp = found.get(b'XMP ') or None
  return Metadata(block, xmp, exif.orientation(block, xmp))


def carry(
  source: Path | None, target: Path, metadata: Metadata, *, strip: bool = False
) -> list[str]:
  """Writes EXIF and XMP into `target`; returns what was lost, which is nothing.

  `target` was written by libvips with no metadata but a profile.
  """
  if not (metadata.exif or metadata.xmp):
    return []
  data = pathlib.Path(target).read_bytes()
  found = [(name, body) for _, name, body in chunks(data) if name not in (b'EXIF', b'XMP ')]
  if found[0][0] != b'VP8X':
    found.insert(0, (b'VP8X', _header(*found[0])))
  head = bytearray(found[0][1])
  for name, body, flag in ((b'EXIF', metadata.exif, EXIF_FLAG), (b'XMP ', metadata.xmp, XMP_FLAG)):
    if body:
      head[0] |= flag
      found.append((name, body))
  found[0] = (b'VP8X', bytes(head))
  whole = b'WEBP' + b''.join(
    name + struct.pack('<I', len(body)) + body + bytes(len(body) % 2) for name, body in found
  )
  pathlib.Path(target).write_bytes(b'RIFF' + struct.pack('<I', len(whole)) + whole)
  return []


def _header(name: bytes, body: bytes) -> bytes:
  """An extended header for a picture that has none, from its bitstream."""
  if name == b'VP8L':
    bits = int.from_bytes(body[1:5], 'little')
    width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
  else:
    width, height = (side & 0x3FFF for side in struct.unpack_from('<HH', body, 6))
    width, height, alpha = width - 1, height - 1, 0
  sides = width.to_bytes(3, 'little') + height.to_bytes(3, 'little')
  return bytes([ALPHA_FLAG * alpha, 0, 0, 0]) + sides
