"""Boxes of AVIF and HEIF files (ISO/IEC 14496-12 and 23008-12)."""

from collections.abc import Iterator
import os
import pathlib
import struct

from deblur_jax.formats.metadata import Metadata

Path = str | os.PathLike[str]

CONTAINERS = {b'meta': 4, b'iprp': 0, b'ipco': 0}
"""Boxes that hold boxes, after so many bytes."""

LIGHT = {
  b'clli': 'content light level',
  b'mdcv': 'mastering display',
  b'amve': 'ambient viewing environment',
  b'cclv': 'content color volume',
}


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
  """(type, where its body begins, where it ends) of boxes, those inside of others after them."""
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


def _nclx(data: bytes) -> int | None:
  """Where the color codes of a file are, in the first `colr` box that has them."""
  for name, at, end in boxes(data):
    if name == b'colr' and data[at : at + 4] == b'nclx' and end - at >= 11:
      return at + 4
  return None


def lossless(path: Path) -> bool:
  """Whether the picture was likely written without loss.

  AVIF does not say; encoders leave out the turn to luma and chroma then, and only then (matrix 0).
  """
  data = pathlib.Path(path).read_bytes()
  at = _nclx(data)
  return at is not None and data[at + 4 : at + 6] == b'\0\0'


def read(path: Path) -> Metadata:
  """The color codes, and what cannot be kept.

  EXIF and XMP are left to libvips. The orientation is 1: libheif turns the picture, and by the
  standard neither EXIF nor XMP says how it lies.
  """
  data = pathlib.Path(path).read_bytes()
  at = _nclx(data)
  codes = None if at is None else struct.unpack_from('>HHH', data, at)
  found = dict.fromkeys(name for name, _, _ in boxes(data))
  lost = [text for name, text in LIGHT.items() if name in found]
  notes = [f'not kept: {", ".join(lost)} (HDR)'] if lost else []
  items = next((data[at:end] for name, at, end in boxes(data) if name == b'meta'), b'')
  if b'tmap' in items:
    notes.append('the gain map, for HDR screens, is not kept')
  return Metadata(cicp=codes, notes=tuple(notes))


def carry(
  source: Path | None, target: Path, metadata: Metadata, *, strip: bool = False
) -> list[str]:
  """Writes the color codes into `target`, an AVIF file from libvips; what was lost.

  The matrix stays: it is how the pixels of `target` were coded.
  """
  if metadata.cicp is None:
    return []
  data = bytearray(pathlib.Path(target).read_bytes())
  at = _nclx(bytes(data))
  if at is None:
    return ['not kept: the color codes (nclx)'] if metadata.cicp[:2] != (1, 13) else []
  struct.pack_into('>HH', data, at, *metadata.cicp[:2])
  pathlib.Path(target).write_bytes(data)
  return []
