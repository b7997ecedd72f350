"""The transfer curve of a photograph, by what its file says about its colors."""

import pathlib
import struct

from deblur_jax import color, pictures


def of(picture: pictures.Picture) -> tuple[color.Transfer, str]:
  """The curve that turns code values into light, and a note if sRGB had to be assumed.

  Read from the ICC profile, or from cICP or gAMA of a PNG; sRGB if the file says nothing.
  """
  said = {}
  if picture.image.get_typeof('icc-profile-data'):
    said['icc'] = bytes(picture.image.get('icc-profile-data'))
  if picture.kind == 'png':
    said |= _png(picture.source)
  try:
    return color.transfer(**said), ''
  except ValueError as error:
    return color.SRGB, f'{error}: taken for sRGB'


def _png(path: pathlib.Path) -> dict[str, float]:
  """What the chunks before the pixels say: 'cicp' and 'gamma' (PNG, third edition, 11.3.2)."""
  found = {}
  with open(path, 'rb') as file:
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b'IDAT':
      length, name = struct.unpack('>I4s', head)
      data = file.read(length if name in (b'cICP', b'gAMA', b'sRGB') else 0)
      file.seek(length - len(data) + 4, 1)
      if name == b'cICP' and length == 4:
        found['cicp'] = data[1]
      elif name == b'gAMA' and length == 4 and any(data):
        found['gamma'] = 100000 / struct.unpack('>I', data)[0]
      elif name == b'sRGB':
        return {}  # counts before gAMA, which repeats it roughly
  return found
