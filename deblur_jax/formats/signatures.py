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
  b'v/1\x01': 'OpenEXR',
  b'#?RADIANCE': 'Radiance HDR',
  b'SIMPLE  =': 'FITS',
  **{f'P{number}'.encode() + space: 'PNM' for number in range(1, 8) for space in (b'\n', b' ')},
}


def unreadable(path: Path) -> tuple[str, bool]:
  """(why libvips cannot read the file at `path`, whether it is damaged).

  If it is not damaged, it is of an unsupported format or not a picture.
  """
  with open(path, 'rb') as file:
    head = file.read(16)
  for names, text in ((READ, DAMAGED), (OTHERS, UNSUPPORTED)):
    for start, name in names.items():
      if head.startswith(start):
        return text.format(name), text == DAMAGED
  if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
    return DAMAGED.format('WebP'), True
  if head[4:12] in (b'ftypavif', b'ftypavis'):
    return DAMAGED.format('AVIF'), True
  return 'not a JPEG, PNG, WebP, TIFF or AVIF picture', False


UNSUPPORTED = 'unsupported picture format ({}): convert it to PNG or TIFF first'
DAMAGED = 'damaged or truncated (a {} file)'
