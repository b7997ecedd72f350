"""Users' photographs: files to pixels and back, with all that is not pixels kept.

Reads and writes JPEG, PNG, WebP, TIFF and AVIF through libvips, 8 and 16 bit, grey and color, with
and without alpha. Pixels are upright: an orientation tag is applied and taken off. ICC profile,
EXIF, XMP and IPTC stay, as far as libvips carries them (not the EXIF tags of a TIFF); a thumbnail
inside is drawn anew. CMYK is turned into sRGB by its own profile, or a generic one where it has
none.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np
import pyvips

from deblur_jax import atomic

Path = str | os.PathLike[str]

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.tif', '.tiff', '.avif')
"""Names of files that are looked for in folders."""

SAVE = {
  'jpeg': lambda image, path: image.jpegsave(path, Q=95, optimize_coding=True),
  'png': lambda image, path: image.pngsave(path),
  'webp': lambda image, path: image.webpsave(path, Q=95),
  'tiff': lambda image, path: image.tiffsave(path, compression='deflate', predictor='horizontal'),
  'heif': lambda image, path: image.heifsave(path, Q=90, compression='av1'),
}
"""How each kind of file is written; a picture leaves as the kind that it came."""

MOST_PIXELS = 300_000_000
"""Beyond this a file is taken for a decompression bomb."""

KEPT = ('exif', 'icc-', 'xmp', 'iptc', 'photoshop', 'resolution', 'image-desc', 'png-comment')
"""Beginnings of the names of the header fields that go from the old picture to the new."""

THUMBNAIL_SIDE = 160

DEPTHS = {'uchar': np.uint8, 'ushort': np.uint16}


class PictureError(ValueError):
  """A file that cannot be read or written as a picture; the message says why, in one line."""


class Picture(NamedTuple):
  """A photograph in memory."""

  pixels: np.ndarray
  """`[h w c]` uint8 or uint16, upright; c is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha);
  alpha is not multiplied into the color."""
  kind: str
  """A key of `SAVE`."""
  header: pyvips.Image
  """Carries the metadata."""


def size(path: Path) -> tuple[int, int]:
  """(height, width) of the upright picture at `path`, from its header alone."""
  image = _open(path)
  turned = image.get_typeof('orientation') and image.get('orientation') in (5, 6, 7, 8)
  return (image.width, image.height) if turned else (image.height, image.width)


def read(path: Path) -> Picture:
  """The picture at `path`.

  Raises PictureError where the file is empty, damaged, cut short, of an unknown kind or of several
  pages, OSError where it cannot be opened.
  """
  image = _open(path)
  kind = _kind(image)
  try:
    image = image.autorot()
    if image.interpretation == 'cmyk':
      image = image.icc_transform('srgb', embedded=True, input_profile='cmyk')
    pixels = np.atleast_3d(image.numpy())
  except pyvips.Error as error:
    raise PictureError(f'damaged or cut short ({_reason(error)})') from None
  return Picture(pixels, kind, image)


def write(path: Path, pixels: np.ndarray, like: Picture) -> None:
  """Writes `pixels`, shaped as `like.pixels`, with the kind and metadata of `like`, or nothing.

  Raises PictureError where libvips cannot, OSError where the folder cannot be written to.
  """
  header = like.header
  image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels)).copy(
    interpretation=header.interpretation, xres=header.xres, yres=header.yres
  )
  for field in header.get_fields():
    if field.startswith(KEPT):
      image.set_type(header.get_typeof(field), field, header.get(field))
  # The raw EXIF block still holds the old orientation and thumbnail unless they are set anew.
  if header.get_typeof('exif-data'):
    image.set_type(pyvips.GValue.gint_type, 'orientation', 1)
  if header.get_typeof('jpeg-thumbnail-data'):
    thumbnail = image.thumbnail_image(THUMBNAIL_SIDE, size='down').jpegsave_buffer(keep='none')
    image.set_type(pyvips.GValue.blob_type, 'jpeg-thumbnail-data', thumbnail)
  try:
    with atomic.replacing(path) as partial:
      SAVE[like.kind](image, str(partial))
  except pyvips.Error as error:
    raise PictureError(f'cannot be written ({_reason(error)})') from None


def _open(path: Path) -> pyvips.Image:
  """The picture with only its header read, checked."""
  if not pathlib.Path(path).stat().st_size:
    raise PictureError('an empty file')
  try:
    source = pyvips.Source.new_from_file(str(path))
    image = pyvips.Image.new_from_source(source, '', fail_on='truncated')
  except pyvips.Error as error:
    if 'not in a known format' in str(error):
      raise PictureError('not a picture') from None
    raise PictureError(f'damaged or cut short ({_reason(error)})') from None
  _kind(image)
  if image.format not in DEPTHS or image.interpretation in ('lab', 'labs', 'xyz', 'scrgb'):
    raise PictureError(f'pixels of a kind not supported ({image.format}, {image.interpretation})')
  if image.width * image.height > MOST_PIXELS:
    raise PictureError(f'{image.width}x{image.height} pixels; at most {MOST_PIXELS:,} are taken')
  if image.get_typeof('n-pages') and image.get('n-pages') > 1:
    raise PictureError(f'{image.get("n-pages")} pages or frames; single pictures only')
  return image


def _kind(image: pyvips.Image) -> str:
  kind = image.get('vips-loader').partition('load')[0]
  compression = image.get('heif-compression') if image.get_typeof('heif-compression') else 'av1'
  if kind not in SAVE or compression != 'av1':
    raise PictureError(f'a picture of a kind that cannot be written ({kind})')
  return kind


def _reason(error: pyvips.Error) -> str:
  """The line of libvips' several that says what is wrong; others may be left from other calls."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return next((line for line in reversed(lines) if line.startswith('Vips')), lines[-1])
