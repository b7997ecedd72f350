"""Recognizes file formats by their first bytes."""

import os

Path = str | os.PathLike[str]

READ = {
  b'\xff\xd8\xff': 'JPEG',
  b'\x89PNG\r\n\x1a\n': 'PNG',
  b'II*\0': 'TIFF',
  b'MM\0*': 'TIFF',
  b'II+\0': 'TIFF',
  b'MM\0+': 'TIFF',
}

OTHERS = {
  b'GIF8': 'GIF',
  b'BM': 'BMP',
  b'\0\0\0\x0cjP  ': 'JPEG 2000',
  b'\xff\x4f\xff\x51': 'JPEG 2000',
  b'\xff\x0a': 'JPEG XL',
  b'\0\0\0\x0cJXL ': 'JPEG XL',
  b'8BPS': 'Photoshop',
  b'%PDF': 'PDF',
  b'<svg': 'SVG',
  b'v/1\x01': 'OpenEXR',
  b'#?RADIANCE': 'Radiance HDR',
  b'SIMPLE  =': 'FITS',
  **{f'P{number}'.encode() + space: 'PNM' for number in range(1, 8) for space in (b'\n', b' ')},
}


def is_known(path: Path) -> bool:
  """Whether the file at `path` begins as one of the formats that libvips reads for us.

  libvips itself would try many more, some of which (SVG, PDF) are programs or have links.
  """
  head = _head(path)
  return head[4:8] == b'ftyp' or _name(READ, head) != ''  # libvips reads the brands of HEIF


def unreadable(path: Path) -> tuple[str, bool]:
  """(why libvips cannot read the file at `path`, whether it is damaged).

  If it is not damaged, it is of an unsupported format or not a picture.
  """
  head = _head(path)
  if name := _name(READ, head):
    return DAMAGED.format(name), True
  if name := _name(OTHERS, head):
    return UNSUPPORTED.format(name), False
  return 'not a JPEG, PNG, WebP, TIFF or AVIF picture', False


def _head(path: Path) -> bytes:
  with open(path, 'rb') as file:
    return file.read(16)


def _name(known: dict[bytes, str], head: bytes) -> str:
  """The name of the format whose files begin with `head`; '' if it is not known."""
  if known is READ and head[:4] == b'RIFF' and head[8:12] == b'WEBP':
    return 'WebP'
  if known is READ and head[4:12] in (b'ftypavif', b'ftypavis'):
    return 'AVIF'
  return next((name for start, name in known.items() if head.startswith(start)), '')


UNSUPPORTED = 'unsupported picture format ({}): convert it to PNG or TIFF first'
DAMAGED = 'damaged or truncated (a {} file)'
