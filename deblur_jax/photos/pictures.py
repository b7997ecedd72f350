"""Users' photographs: files to pixels and back, with all that is not pixels kept.

Reads and writes JPEG, PNG, WebP, TIFF and AVIF through libvips, 8 and 16 bit and, in TIFF, float,
grey and color, with and without alpha; reads HEIC and camera raw files by other packages. Pixels
are upright: the orientation, of EXIF or, if EXIF has none, of XMP, is applied and set to 1 (in AVIF
and HEIC that of the container, which alone counts there). Color descriptions and metadata are kept,
by `formats` if libvips does not, and what cannot be kept is in `Picture.notes`; an embedded
thumbnail is drawn anew. A picture is written in the format that it came in, and lossless WebP and
AVIF stay so, but a palette becomes RGB, AVIF in grey becomes RGB, and CMYK is converted to sRGB by
its own profile, or a generic one if it has none.

Large pictures are never in memory as a whole: libvips keeps them decoded in a temporary file, and
rows are taken as they are asked for.
"""

import dataclasses
import math
import os
import pathlib
import struct
import tempfile
from typing import Any

import numpy as np
import pyvips

from deblur_jax import atomic, color
from deblur_jax.formats import (
  avif,
  conversion,
  exif,
  foreign,
  jpeg,
  png,
  profiles,
  signatures,
  soundness,
  tiff,
  webp,
)
from deblur_jax.formats.kinds import SUFFIXES
from deblur_jax.formats.metadata import Metadata

Path = str | os.PathLike[str]

MOST_PIXELS = 300_000_000
"""Beyond this a file is taken for a decompression bomb."""

MOST_FLOAT = 16
"""Floats are beyond 1 only in highlights; larger ones are of another scale."""

UNSUPPORTED = ('data precision', 'whole number of bytes', 'out of range', 'not configured')
"""What libvips says of sound files that it cannot read."""

IN_MEMORY = 100_000_000
"""Bytes; rows of larger pictures lie in a temporary file, those that libvips decodes as well."""

KEPT = ('exif', 'icc-', 'xmp', 'iptc', 'photoshop', 'resolution', 'image-desc', 'png-comment')
"""Beginnings of the names of the header fields that go from the old picture to the new."""

BY_LIBVIPS = {
  'jpeg': ('iptc',),
  'png': (),
  'webp': (),
  'tiff': ('xmp', 'iptc', 'other'),
  'heif': ('xmp', 'iptc', 'other'),
}
"""What libvips writes of the metadata beside the profile, and `FORMATS` does not."""

FORMATS = {'jpeg': jpeg, 'png': png, 'webp': webp, 'tiff': tiff, 'heif': avif}

THUMBNAIL_SIDE = 160

DEPTHS = {'uchar': np.uint8, 'ushort': np.uint16, 'float': np.float32}

# "Ultra HDR" is a JPEG with a gain map; libvips would else take it for a kind of its own.
pyvips.operation_block_set('VipsForeignLoadUhdr', True)


class PictureError(ValueError):
  """A file that cannot be read or written as a picture; the message says why, in one line."""


@dataclasses.dataclass(frozen=True)
class Picture:
  """A photograph whose rows are read when they are asked for."""

  image: pyvips.Image
  """Upright, grey or RGB, perhaps with alpha; carries the metadata."""
  kind: str
  """A value of `SUFFIXES`."""
  source: pathlib.Path
  lossless: bool = False
  """Whether a file of a kind that may lose something does not."""
  stored: str = ''
  """The kind of the file that it was read from."""
  metadata: Metadata = dataclasses.field(default_factory=Metadata)
  """What the file says that libvips does not tell."""

  @property
  def shape(self) -> tuple[int, int, int]:
    """(height, width, channels); 1 channel is grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
    return self.image.height, self.image.width, self.image.bands

  @property
  def dtype(self) -> np.dtype:
    """uint8, uint16 or float32, whose values are in [0, 1] for the most part."""
    return np.dtype(DEPTHS[self.image.format])

  @property
  def notes(self) -> tuple[str, ...]:
    """What of the file is not kept, a sentence each."""
    return self.metadata.notes

  @property
  def transfer(self) -> color.Transfer:
    """How its code values stand for light; ValueError if that is damaged or has no curve.

    ICC profile, CICP codes and gamma count as in the standards: in PNG the codes before the
    profile, in AVIF after it.
    """
    named = 'icc-profile-data'
    profile = self.image.get(named) if self.image.get_typeof(named) else None
    codes = self.metadata.cicp if profile is None or self.stored == 'png' else None
    return color.transfer(icc=profile, cicp=codes and codes[1], gamma=self.metadata.gamma)

  def rows(self, start: int, stop: int) -> np.ndarray:
    """Pixels `[stop - start w c]`, alpha not multiplied into the color.

    Raises PictureError where the file is damaged or cut short; the first call decodes it.
    """
    try:
      strip = self.image.crop(0, start, self.image.width, stop - start).numpy()
    except pyvips.Error as error:
      raise PictureError(_damage(error)) from None
    return strip.reshape(stop - start, *self.shape[1:])


class Canvas:
  """Takes the rows of a picture like another one, from top to bottom."""

  def __init__(self, like: Picture):
    self._like, self._done = like, 0
    self._pixels, self._file = None, None
    if math.prod(like.shape) * like.dtype.itemsize <= IN_MEMORY:
      self._pixels = np.empty(like.shape, like.dtype)
    else:
      self._file = tempfile.NamedTemporaryFile(suffix='.raw')  # noqa: SIM115, closed by close()

  def append(self, rows: np.ndarray) -> None:
    """Adds rows `[n w c]`, of the dtype of the picture."""
    if self._file is None:
      self._pixels[self._done : self._done + len(rows)] = rows
    else:
      self._file.write(np.ascontiguousarray(rows))
    self._done += len(rows)

  def picture(self) -> Picture:
    """The picture, once all rows are there; lasts as long as this object."""
    height, width, channels = self._like.shape
    if self._file is None:
      image = pyvips.Image.new_from_array(self._pixels)
    else:
      self._file.flush()
      form = self._like.image.format
      image = pyvips.Image.rawload(self._file.name, width, height, channels, format=form)
    image = image.copy(interpretation=self._like.image.interpretation)
    return dataclasses.replace(self._like, image=image)

  def close(self) -> None:
    """Gives the memory or the temporary file back."""
    self._pixels = None
    if self._file is not None:
      self._file.close()


def size(path: Path) -> tuple[int, int]:
  """(height, width) of the upright picture at `path`, from its header alone."""
  path = pathlib.Path(path)
  if foreign.is_foreign(path):
    try:
      return foreign.size(path)
    except ValueError as error:
      raise PictureError(str(error)) from None
  image = _open(path)
  kind = _kind(image)
  turned = kind != 'heif' and FORMATS[kind].read(path).orientation >= 5
  return (image.width, image.height) if turned else (image.height, image.width)


def read(path: Path) -> Picture:
  """The picture at `path`, its header read and its pixels not yet.

  Raises PictureError where the file is empty, damaged, of an unknown kind or of several pages,
  OSError where it cannot be opened.
  """
  path = pathlib.Path(path)
  if foreign.is_foreign(path):
    return _developed(path)
  image = _open(path)
  kind = _kind(image)
  if image.format == 'float':
    image = _checked(image)
  if image.interpretation == 'cmyk':
    depth = 16 if image.format == 'ushort' else 8
    image = image.icc_transform('srgb', embedded=True, input_profile='cmyk', depth=depth)
  form = FORMATS[kind]
  lossless = form.lossless(path) if kind in ('webp', 'heif') else False
  metadata = form.read(path)
  return Picture(_turned(image, kind, metadata), kind, path, lossless, kind, metadata)


def _developed(path: pathlib.Path) -> Picture:
  """A picture that another library decodes."""
  try:
    pixels, kind, profile, metadata = foreign.read(path)
  except ValueError as error:
    raise PictureError(str(error)) from None
  deep = pixels.dtype == np.uint16
  colors = ('rgb16' if deep else 'srgb') if pixels.shape[-1] > 2 else ('grey16' if deep else 'b-w')
  image = pyvips.Image.new_from_array(pixels).copy(interpretation=colors)
  if profile:
    image.set_type(pyvips.GValue.blob_type, 'icc-profile-data', profile)
  return Picture(image, kind, path, stored='foreign', metadata=metadata)


def _turned(image: pyvips.Image, kind: str, metadata: Metadata) -> pyvips.Image:
  """The upright picture; libvips knows but some of the places where an orientation stands."""
  if kind != 'heif':
    image = image.copy()
    image.set_type(pyvips.GValue.gint_type, 'orientation', metadata.orientation)
  return image.autorot()


def read_mask(path: Path, shape: tuple[int, int]) -> Picture:
  """The grey picture at `path`, which must be of `shape` (height, width); color is made grey.

  Raises ValueError for another size, else as `read`.
  """
  mask = read(path)
  if mask.shape[:2] != tuple(shape):
    (height, width), (tall, wide) = mask.shape[:2], shape
    raise ValueError(f'the mask {path} is {width}x{height} and the picture {wide}x{tall}')
  image, _ = conversion.suited(mask.image, 'png')  # libvips takes floats for values up to 255
  image = image.flatten() if image.hasalpha() else image
  grey = image.colourspace('grey16' if image.format == 'ushort' else 'b-w')
  return dataclasses.replace(mask, image=grey)


def write(
  path: Path, picture: Picture, like: Picture, *, strip: bool = False, quality: int | None = None
) -> tuple[str, ...]:
  """Writes the pixels of `picture` with the kind and metadata of `like`, or nothing; what was lost.

  `strip` leaves out all metadata but what colors need. `quality`, from 1 to 100, is for JPEG, lossy
  WebP and AVIF. Raises PictureError where libvips cannot,
  OSError where the folder cannot be written to.
  """
  image, form = _labelled(picture.image, like.image), FORMATS[like.kind]
  image, not_kept = _profiled(image, like)
  source = like.source if like.stored == like.kind else None
  keep = ['icc'] if strip else ['icc', *BY_LIBVIPS[like.kind]]
  if like.kind == 'heif' and not strip and like.image.get_typeof('exif-data'):
    keep.append('exif')  # libvips makes one up otherwise
  try:
    with atomic.replacing(path) as partial:
      _save(image, os.fsencode(partial), like, '|'.join(keep), quality)
      metadata = _upright(like, image)
      lost = form.carry(source, partial, metadata, strip=strip)
      if like.kind == 'jpeg' and (strip or not metadata.exif):
        _add_density(partial, like.image)
  except pyvips.Error as error:
    raise PictureError(f'cannot be written ({_reason(error)})') from None
  return (*not_kept, *lost)


def write_side_by_side(path: Path, before: Picture, after: Picture) -> None:
  """Writes a PNG of 8 bits with two pictures of one size beside each other, labelled.

  Raises as `write`.
  """
  height, width = before.shape[:2]
  halves = []
  for picture, label in ((before, 'before'), (after, 'after')):
    image = picture.image
    image = (image * 255).cast('uchar') if image.format == 'float' else image.colourspace('srgb')
    image = image.flatten(background=255) if image.hasalpha() else image
    strip = _label(label, width, max(20, min(height, width) // 24))
    halves.append(strip.join(image, 'vertical'))
  shown = halves[0].join(halves[1], 'horizontal', shim=max(2, width // 200), background=255)
  if before.image.get_typeof('icc-profile-data') and before.image.bands >= 3:
    shown = shown.copy()
    profile = before.image.get('icc-profile-data')
    shown.set_type(pyvips.GValue.blob_type, 'icc-profile-data', profile)
  try:
    with atomic.replacing(path) as partial:
      shown.pngsave(os.fsencode(partial), keep='icc')
  except pyvips.Error as error:
    raise PictureError(f'cannot be written ({_reason(error)})') from None


def write_plane(path: Path, plane: np.ndarray) -> None:
  """Writes values `[h w]` from 0 up as a grey PNG of 16 bits, the largest of them white.

  Raises as `write`.
  """
  values = np.rint(plane / max(np.max(plane), 1e-12) * 65535).astype(np.uint16)
  try:
    with atomic.replacing(path) as partial:
      image = pyvips.Image.new_from_array(values)
      image.copy(interpretation='grey16').pngsave(os.fsencode(partial))
  except pyvips.Error as error:
    raise PictureError(f'cannot be written ({_reason(error)})') from None


def as_float(pixels: np.ndarray) -> np.ndarray:
  """float32: integers as parts of their range, floats as they are."""
  scale = np.iinfo(pixels.dtype).max if pixels.dtype.kind == 'u' else 1
  return pixels.astype(np.float32) / np.float32(scale)


def _save(image: pyvips.Image, path: bytes, like: Picture, keep: str, quality: int | None) -> None:
  raw = math.prod(like.shape) * like.dtype.itemsize
  if like.kind == 'jpeg':
    # Better codes take a second pass, for which all coefficients must stay in memory.
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
    depth = min(_field(like.image, 'bits-per-sample', 12), 12) if image.format == 'ushort' else 8
    lossless = like.lossless and not quality
    options = {'compression': 'av1', 'lossless': lossless, 'bitdepth': depth}
    image.heifsave(path, Q=quality or 90, keep=keep, **options)


def _add_density(path: pathlib.Path, like: pyvips.Image) -> None:
  """Adds a JFIF header (ITU-T T.871) with the density of `like`, if that is known.

  libvips writes it into EXIF alone.
  """
  data = pathlib.Path(path).read_bytes()
  if like.get_typeof('resolution-unit') and data[2:4] != b'\xff\xe0':
    sides = [min(round(density * 25.4), 65535) or 1 for density in (like.xres, like.yres)]
    header = b'\xff\xe0\0\x10JFIF\0\1\2' + struct.pack('>BHHBB', 1, *sides, 0, 0)
    pathlib.Path(path).write_bytes(data[:2] + header + data[2:])


def _labelled(image: pyvips.Image, like: pyvips.Image) -> pyvips.Image:
  """`image` with the metadata of `like` that libvips keeps."""
  image = image.copy(xres=like.xres, yres=like.yres)
  for field in like.get_fields():
    if field.startswith(KEPT):
      image.set_type(like.get_typeof(field), field, like.get(field))
  # The raw EXIF and XMP blocks still hold the old orientation, and EXIF the old thumbnail.
  if like.get_typeof('exif-data'):
    image.set_type(pyvips.GValue.gint_type, 'orientation', 1)
  if like.get_typeof('xmp-data'):
    upright = exif.xmp_upright(like.get('xmp-data'))
    image.set_type(pyvips.GValue.blob_type, 'xmp-data', upright)
  if like.get_typeof('jpeg-thumbnail-data'):
    image.set_type(pyvips.GValue.blob_type, 'jpeg-thumbnail-data', _thumbnail(image))
  return image


def _profiled(image: pyvips.Image, like: Picture) -> tuple[pyvips.Image, list[str]]:
  """`image` with a profile for colors that `like` describes without one; what cannot be kept.

  In the format that it came in, and CICP codes in PNG and AVIF, they stay as they are.
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


def _upright(like: Picture, image: pyvips.Image) -> Metadata:
  """The metadata of `like` for the restored `image`, which is upright."""
  block, xmp = like.metadata.exif, like.metadata.xmp
  if block:
    small = _thumbnail(image) if like.image.get_typeof('jpeg-thumbnail-data') else None
    block = exif.upright(block, image.width, image.height, small)
  return like.metadata._replace(exif=block, xmp=xmp and exif.xmp_upright(xmp))


def _label(text: str, width: int, height: int) -> pyvips.Image:
  """Text on a white strip."""
  from PIL import Image, ImageDraw, ImageFont  # Only here: most people want no comparison.

  strip = Image.new('RGB', (width, height), 'white')
  font = ImageFont.load_default(height * 0.7)
  ImageDraw.Draw(strip).text((height // 3, height // 2), text, 'black', font, anchor='lm')
  return pyvips.Image.new_from_array(np.asarray(strip)).copy(interpretation='srgb')


def _open(path: pathlib.Path) -> pyvips.Image:
  """The picture with only its header read, checked."""
  if not path.stat().st_size:
    raise PictureError('an empty file' if path.is_file() else 'not a file')
  try:
    source = pyvips.Source.new_from_file(os.fsencode(path))
    image = pyvips.Image.new_from_source(source, '', fail_on='warning')
  except pyvips.Error as error:
    if 'not in a known format' in str(error):
      raise PictureError(signatures.unreadable(path)) from None
    raise PictureError(_damage(error)) from None
  _kind(image)
  unknown = image.interpretation in ('lab', 'labs', 'xyz') or image.format not in DEPTHS
  if unknown or image.bands > (5 if image.interpretation == 'cmyk' else 4):
    found = f'{image.bands} x {image.format}, {image.interpretation}'
    raise PictureError(f'unsupported pixel type ({found})')
  if image.width * image.height > MOST_PIXELS:
    raise PictureError(f'{image.width}x{image.height} pixels; the limit is {MOST_PIXELS:,}')
  if _field(image, 'n-pages', 1) > 1:
    raise PictureError(f'{image.get("n-pages")} pages or frames; only single pictures are read')
  return image


def _checked(image: pyvips.Image) -> pyvips.Image:
  """A picture of floats, whose values must be those of a picture."""
  try:
    # Extremes pass over NaN, which alone differs from itself.
    least, most, same = image.min(), image.max(), image.relational(image, 'equal').min()
  except pyvips.Error as error:
    raise PictureError(_damage(error)) from None
  if not same:
    raise PictureError('floats that are not numbers (NaN)')
  if not -MOST_FLOAT < least <= most < MOST_FLOAT:
    raise PictureError(f'floats from {least:g} to {most:g}: scale them to the range from 0 to 1')
  if image.bands == 1 or image.bands == 2:
    return image.copy(interpretation='b-w')
  return image.copy(interpretation='srgb')


def _field(image: pyvips.Image, name: str, otherwise: Any) -> Any:
  return image.get(name) if image.get_typeof(name) else otherwise


def _kind(image: pyvips.Image) -> str:
  kind = image.get('vips-loader').partition('load')[0]
  if kind not in SUFFIXES.values() or _field(image, 'heif-compression', 'av1') != 'av1':
    raise PictureError(f'unsupported picture format ({kind}): convert it to PNG or TIFF first')
  return kind


def _damage(error: pyvips.Error) -> str:
  """Why a file cannot be read: it is of a type that libvips does not know, or damaged."""
  reason = _reason(error)
  if any(sign in reason for sign in UNSUPPORTED):
    return f'unsupported type of file ({reason.partition(": ")[2] or reason})'
  return f'damaged or cut short ({reason})'


def _reason(error: pyvips.Error) -> str:
  """The line of libvips' several that says what is wrong; others may be left from other calls."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  told = [line for line in lines if ': ' in line and not line.endswith('load error')]
  return next((line for line in reversed(told) if line.startswith('Vips')), (told or lines)[-1])


def doubts(picture: Picture) -> tuple[str, ...]:
  """Why a picture may be damaged though it was read without an error, see `soundness`."""
  return soundness.doubts(picture.source, picture.stored)
