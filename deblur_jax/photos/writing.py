"""Writes restored pictures in the format, and with the metadata, of the pictures they came from.

Color descriptions and metadata are kept, by `formats` if libvips does not keep them; `write`
returns what was lost. The orientation becomes 1, and an embedded thumbnail is made again. Lossless
WebP and AVIF stay lossless, but a palette becomes RGB, as does grey AVIF.
"""

# pyvips' types know no bytes as file names and no names of options such as keep='none'.
# pyright: reportArgumentType=false

import dataclasses
import math
import os
import pathlib
import struct
import tempfile

import numpy as np
import pyvips

from deblur_jax import atomic, color
from deblur_jax.formats import exif, profiles
from deblur_jax.formats.metadata import Metadata
from deblur_jax.photos.pictures import FORMATS, Path, Picture, PictureError, header, libvips_reason
from deblur_jax.provenance import disclosure
from deblur_jax.provenance.disclosure import Record

IN_MEMORY = 100_000_000
"""Bytes; larger pictures are kept in a temporary file (libvips does the same when reading)."""

KEPT = ('exif', 'icc-', 'xmp', 'iptc', 'photoshop', 'resolution', 'image-desc', 'png-comment')
"""Prefixes of the header fields that are copied to the new picture."""

BY_LIBVIPS = {
  'jpeg': ('iptc',),
  'png': (),
  'webp': (),
  'tiff': ('xmp', 'iptc', 'other'),
  'heif': ('xmp', 'iptc', 'other'),
}
"""Metadata besides the profile that libvips writes; `FORMATS` writes the rest."""

THUMBNAIL_SIDE = 160


class Canvas:
  """Collects the rows of a new picture, from top to bottom."""

  def __init__(self, like: Picture):
    self._like, self._done = like, 0
    self._pixels, self._file = None, None
    if math.prod(like.shape) * like.dtype.itemsize <= IN_MEMORY:
      self._pixels = np.empty(like.shape, like.dtype)
    else:
      self._file = tempfile.NamedTemporaryFile(suffix='.raw')  # noqa: SIM115, closed by close()

  def append(self, rows: np.ndarray) -> None:
    """Adds rows `[n w c]`, of the dtype of the picture."""
    if self._pixels is not None:
      self._pixels[self._done : self._done + len(rows)] = rows
    elif self._file is not None:
      self._file.write(np.ascontiguousarray(rows).data)
    self._done += len(rows)

  def picture(self) -> Picture:
    """The picture, after all rows were added; valid until `close`."""
    height, width, channels = self._like.shape
    if self._pixels is not None:
      image = pyvips.Image.new_from_array(self._pixels)
    elif self._file is not None:
      self._file.flush()
      form = self._like.image.format
      image = pyvips.Image.rawload(self._file.name, width, height, channels, format=form)
    image = image.copy(interpretation=self._like.image.interpretation)
    return dataclasses.replace(self._like, image=image)

  def close(self) -> None:
    """Frees the memory or the temporary file."""
    self._pixels = None
    if self._file is not None:
      self._file.close()


def write(
  path: Path,
  picture: Picture,
  like: Picture,
  *,
  strip: bool = False,
  quality: int | None = None,
  record: Record | None = None,
) -> tuple[str, ...]:
  """Writes the pixels of `picture` in the format and with the metadata of `like`, or nothing.

  Returns what was lost. `strip` drops all metadata of `like` except what colors need. `quality`,
  from 1 to 100, is for JPEG, lossy WebP and AVIF. `record` is added to the XMP. Raises PictureError
  if libvips cannot write it, OSError if the folder is not writable.
  """
  metadata, unrecorded = _metadata(picture.image, like, strip, record)
  image, form = _labelled(picture.image, like.image, metadata.xmp), FORMATS[like.kind]
  image, not_kept = _profiled(image, like)
  source = like.source if like.stored == like.kind else None
  keep = ['icc', *BY_LIBVIPS[like.kind]]
  if strip:
    keep = ['icc', *({'xmp'} & {*keep} if metadata.xmp else ())]
  if like.kind == 'heif' and not strip and like.image.get_typeof('exif-data'):
    keep.append('exif')  # libvips makes one up otherwise
  try:
    with atomic.replacing(path) as partial:
      _save(image, os.fsencode(partial), like, '|'.join(keep), quality)
      lost = form.carry(source, partial, metadata, strip=strip)
      if like.kind == 'jpeg' and (strip or not metadata.exif):
        _add_density(partial, like.image)
  except pyvips.Error as error:
    raise PictureError(f'cannot be written ({libvips_reason(error)})') from None
  return (*not_kept, *unrecorded, *lost)


def write_side_by_side(path: Path, before: Picture, after: Picture) -> None:
  """Writes an 8-bit PNG with two pictures of the same size side by side, labeled.

  Raises as `write`.
  """
  height, width = before.shape[:2]
  halves = []
  for picture, name in ((before, 'before'), (after, 'after')):
    image = picture.image
    image = (image * 255).cast('uchar') if image.format == 'float' else image.colourspace('srgb')
    image = image.flatten(background=[255]) if image.hasalpha() else image
    strip = label(name, width, max(20, min(height, width) // 24))
    halves.append(strip.join(image, 'vertical'))
  shown = halves[0].join(halves[1], 'horizontal', shim=max(2, width // 200), background=255)
  if before.image.get_typeof('icc-profile-data') and before.image.bands >= 3:
    shown = shown.copy()
    profile = before.image.get('icc-profile-data')
    shown.set_type(pyvips.GValue.blob_type, 'icc-profile-data', profile)
  write_png(path, shown)


def write_png(path: Path, image: pyvips.Image) -> None:
  """Writes an image as PNG, with its ICC profile; raises as `write`."""
  try:
    with atomic.replacing(path) as partial:
      image.pngsave(os.fsencode(partial), keep='icc')
  except pyvips.Error as error:
    raise PictureError(f'cannot be written ({libvips_reason(error)})') from None


def write_plane(path: Path, plane: np.ndarray) -> None:
  """Writes nonnegative values `[h w]` as a 16-bit grey PNG in which the largest is white.

  Raises as `write`.
  """
  values = np.rint(plane / max(np.max(plane), 1e-12) * 65535).astype(np.uint16)
  try:
    with atomic.replacing(path) as partial:
      image = pyvips.Image.new_from_array(values)
      image.copy(interpretation='grey16').pngsave(os.fsencode(partial))
  except pyvips.Error as error:
    raise PictureError(f'cannot be written ({libvips_reason(error)})') from None


def _save(image: pyvips.Image, path: bytes, like: Picture, keep: str, quality: int | None) -> None:
  raw = math.prod(like.shape) * like.dtype.itemsize
  if like.kind == 'jpeg':
    # Optimal Huffman codes take a second pass, which needs all coefficients in memory.
    image.jpegsave(path, Q=quality or 95, optimize_coding=raw <= IN_MEMORY, keep=keep)
  elif like.kind == 'png':
    image.pngsave(path, keep=keep)
  elif like.kind == 'webp':
    image.webpsave(path, Q=quality or 95, lossless=like.lossless and not quality, keep=keep)
  elif like.kind == 'tiff':
    predictor = 'float' if image.format == 'float' else 'horizontal'
    options = {'compression': 'deflate', 'predictor': predictor, 'bigtiff': raw > 2**31}
    image.tiffsave(path, keep=keep, **options)
  else:
    depth = min(header(like.image, 'bits-per-sample', 12), 12) if image.format == 'ushort' else 8
    lossless = like.lossless and not quality
    options = {'compression': 'av1', 'lossless': lossless, 'bitdepth': depth}
    image.heifsave(path, Q=quality or 90, keep=keep, **options)


def _add_density(path: pathlib.Path, like: pyvips.Image) -> None:
  """Adds a JFIF header (ITU-T T.871) with the density of `like`, if that is known.

  libvips writes the density only into EXIF.
  """
  data = pathlib.Path(path).read_bytes()
  if like.get_typeof('resolution-unit') and data[2:4] != b'\xff\xe0':
    sides = [min(round(density * 25.4), 65535) or 1 for density in (like.xres, like.yres)]
    header = b'\xff\xe0\0\x10JFIF\0\1\2' + struct.pack('>BHHBB', 1, *sides, 0, 0)
    pathlib.Path(path).write_bytes(data[:2] + header + data[2:])


def _labelled(image: pyvips.Image, like: pyvips.Image, xmp: bytes | None) -> pyvips.Image:
  """`image` with those metadata of `like` that libvips writes, and with `xmp`."""
  image = image.copy(xres=like.xres, yres=like.yres)
  for field in like.get_fields():
    if field.startswith(KEPT):
      image.set_type(like.get_typeof(field), field, like.get(field))
  # The raw EXIF block still holds the old orientation and thumbnail.
  if like.get_typeof('exif-data'):
    image.set_type(pyvips.GValue.gint_type, 'orientation', 1)
  if xmp:
    image.set_type(pyvips.GValue.blob_type, 'xmp-data', xmp)
  if like.get_typeof('jpeg-thumbnail-data'):
    image.set_type(pyvips.GValue.blob_type, 'jpeg-thumbnail-data', _thumbnail(image))
  return image


def _profiled(image: pyvips.Image, like: Picture) -> tuple[pyvips.Image, list[str]]:
  """(`image` with an ICC profile if `like` describes its colors otherwise, what cannot be kept).

  Adds none if the format stays the same, or for CICP codes in PNG and AVIF: there `FORMATS` writes
  the description itself.
  """
  codes, gamma = like.metadata.cicp, like.metadata.gamma
  corners = like.metadata.chromaticities or profiles.PRIMARIES[1]
  has_profile = image.get_typeof('icc-profile-data') and not (like.stored == 'png' and codes)
  if like.stored == like.kind or has_profile:
    return image, []
  if codes:
    if codes[0] == 2 or codes[:2] == (1, 13) or like.kind in ('png', 'heif'):  # unknown, or sRGB
      return image, []
    name = f'primaries {codes[0]}, transfer {codes[1]} (ITU-T H.273)'
    corners = profiles.PRIMARIES.get(codes[0])
    if corners is None or codes[1] not in color.CICP:
      return image, [f'not kept: colors of {name}']
  elif gamma or like.metadata.chromaticities:
    name = f'gamma {gamma:.4g}' if gamma else 'sRGB curve'
  else:
    return image, []
  try:
    icc = profiles.profile(
      like.transfer, corners, name=name, grey=image.bands < 3, cicp=codes and codes[:2]
    )
  except ValueError:
    return image, [f'not kept: colors of {name}']
  image = image.copy()
  image.set_type(pyvips.GValue.blob_type, 'icc-profile-data', icc)
  return image, []


def _thumbnail(image: pyvips.Image) -> bytes:
  return image.thumbnail_image(THUMBNAIL_SIDE, size='down').jpegsave_buffer(keep='none')


def _metadata(
  image: pyvips.Image, like: Picture, strip: bool, record: Record | None
) -> tuple[Metadata, list[str]]:
  """(metadata of `like` for the restored `image`, which is upright; why there is no record)."""
  block, xmp = like.metadata.exif, like.xmp
  if block and not strip:
    small = _thumbnail(image) if like.image.get_typeof('jpeg-thumbnail-data') else None
    block = exif.upright(block, image.width, image.height, small)
  xmp, lost = xmp and exif.xmp_upright(xmp), []
  if strip:
    block, xmp = None, None
  if record:
    try:
      xmp = disclosure.add(xmp, record)
    except ValueError as error:
      lost = [f'no record of this restoration: {error}']
  return like.metadata._replace(exif=block, xmp=xmp), lost


def label(text: str, width: int, height: int) -> pyvips.Image:
  """Text on a white strip, RGB, as large as fits."""
  from PIL import Image, ImageDraw, ImageFont  # imported here because few runs need it

  strip = Image.new('RGB', (width, height), 'white')
  font = ImageFont.load_default(height * 0.7)
  if (needed := font.getlength(text) + 2 * (height // 3)) > width:
    font = ImageFont.load_default(max(height * 0.7 * width / needed, 6))
  ImageDraw.Draw(strip).text((height // 3, height // 2), text, 'black', font, anchor='lm')
  return pyvips.Image.new_from_array(np.asarray(strip)).copy(interpretation='srgb')
