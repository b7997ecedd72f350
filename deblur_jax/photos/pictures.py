"""Reads picture files: pixels, color descriptions and metadata (`writing` writes them).

JPEG, PNG, WebP, TIFF and AVIF are read through libvips, with 8 or 16 bits and, in TIFF, floats,
grey or color, with or without alpha; HEIC and camera raw files through other packages. Pixels are
upright: the orientation in EXIF, or else in XMP, is applied (in AVIF and HEIC only the
orientation of the container counts). CMYK is converted to sRGB with its own profile, or a generic
one if it has none. What of a file cannot be kept is in `Picture.notes`.

Large pictures are never in memory as a whole: libvips keeps them decoded in a temporary file, and
rows are read from there when needed.
"""

# pyvips' types know no bytes as file names and no names of options such as keep='none'.
# pyright: reportArgumentType=false

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import pyvips

from deblur_jax import color
from deblur_jax.formats import (
  avif,
  conversion,
  foreign,
  jpeg,
  png,
  signatures,
  soundness,
  tiff,
  webp,
)
from deblur_jax.formats.kinds import READ_ONLY, SUFFIXES
from deblur_jax.formats.metadata import Metadata

Path = str | os.PathLike[str]

MOST_PIXELS = 300_000_000
"""Larger files are refused as decompression bombs."""

MOST_FLOAT = 16
"""Only highlights exceed 1; larger values mean that floats are on another scale."""

UNSUPPORTED = ('data precision', 'whole number of bytes', 'out of range', 'not configured')
"""Parts of libvips' messages about intact files that it cannot read."""

FORMATS = {'jpeg': jpeg, 'png': png, 'webp': webp, 'tiff': tiff, 'heif': avif}

DEPTHS = {'uchar': np.uint8, 'ushort': np.uint16, 'float': np.float32}

# "Ultra HDR" is a JPEG with a gain map; libvips would otherwise use a separate loader.
pyvips.operation_block_set('VipsForeignLoadUhdr', True)


class PictureError(ValueError):
  """A file that cannot be read or written as a picture; the message says why, in one line."""


class TooLargeError(PictureError):
  """A picture of more than `MOST_PIXELS`."""


class UnsupportedError(PictureError):
  """A file of an unsupported format, or not a picture at all; not damaged."""


@dataclasses.dataclass(frozen=True)
class Picture:
  """A photograph whose rows are read on demand."""

  image: pyvips.Image
  """Upright, grey or RGB, with or without alpha; carries the metadata."""
  kind: str
  """A value of `SUFFIXES`."""
  source: pathlib.Path
  lossless: bool = False
  """Whether a file of a format that can be lossy is lossless."""
  stored: str = ''
  """The kind of the file that it was read from, 'foreign' if not by libvips."""
  metadata: Metadata = dataclasses.field(default_factory=Metadata)
  """Metadata that libvips does not read."""

  @property
  def shape(self) -> tuple[int, int, int]:
    """(height, width, channels); 1 channel is grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
    return self.image.height, self.image.width, self.image.bands

  @property
  def dtype(self) -> np.dtype:
    """uint8, uint16 or float32; floats are in [0, 1] except in highlights."""
    return np.dtype(DEPTHS[str(self.image.format)])

  @property
  def notes(self) -> tuple[str, ...]:
    """What of the file cannot be kept, a sentence each."""
    return self.metadata.notes

  @property
  def xmp(self) -> bytes | None:
    """The XMP packet, of whatever format."""
    named = 'xmp-data'
    found: Any = self.image.get(named) if self.image.get_typeof(named) else None
    return self.metadata.xmp or found

  @property
  def transfer(self) -> color.Transfer:
    """The transfer curve; ValueError if its description is damaged or holds no curve.

    ICC profile, CICP codes and gamma have the precedence of the standards: in PNG the codes come
    before the profile, in AVIF after it.
    """
    named = 'icc-profile-data'
    profile: Any = self.image.get(named) if self.image.get_typeof(named) else None
    codes = self.metadata.cicp if profile is None or self.stored == 'png' else None
    return color.transfer(icc=profile, cicp=codes and codes[1], gamma=self.metadata.gamma)

  def rows(self, start: int, stop: int) -> np.ndarray:
    """Pixels `[stop - start w c]`, colors not premultiplied by alpha.

    Raises PictureError if the file is damaged or truncated; the first call decodes it.
    """
    try:
      strip = self.image.crop(0, start, self.image.width, stop - start).numpy()
    except pyvips.Error as error:
      raise _damage(error) from None
    return strip.reshape(stop - start, *self.shape[1:])


def size(path: Path) -> tuple[int, int]:
  """(height, width) of the upright picture at `path`, read from its header."""
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
  """The picture at `path`; reads only the header.

  Raises PictureError if the file is empty, damaged, of an unknown format or has several pages,
  OSError if it cannot be opened.
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


def suffix(path: Path) -> str:
  """The usual suffix of the format that a result of the picture at `path` has, by its contents.

  Reads only the header; raises as `read`.
  """
  path = pathlib.Path(path)
  if foreign.is_foreign(path):
    return READ_ONLY.get(path.suffix.lower(), READ_ONLY['.heic'])
  kind = _kind(_open(path))
  return next(suffix for suffix, one in SUFFIXES.items() if one == kind)


def _developed(path: pathlib.Path) -> Picture:
  """A picture that a library other than libvips decodes."""
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
  """The upright picture, by the orientation in `metadata`: libvips does not look everywhere."""
  if kind != 'heif':
    image = image.copy()
    image.set_type(pyvips.GValue.gint_type, 'orientation', metadata.orientation)
  return image.autorot()


def read_mask(path: Path, shape: tuple[int, int]) -> Picture:
  """The picture at `path`, converted to grey, which must have the `shape` (height, width).

  Raises ValueError for another size, otherwise as `read`.
  """
  mask = read(path)
  if mask.shape[:2] != tuple(shape):
    (height, width), (tall, wide) = mask.shape[:2], shape
    raise ValueError(
      f'the mask {path} is {width}x{height} pixels, but the picture is {wide}x{tall}'
    )
  image, _ = conversion.converted(mask.image, 'png')  # libvips expects floats up to 255
  image = image.flatten() if image.hasalpha() else image
  grey = image.colourspace('grey16' if image.format == 'ushort' else 'b-w')
  return dataclasses.replace(mask, image=grey)


def as_float(pixels: np.ndarray) -> np.ndarray:
  """float32: integers are divided by their maximum, floats are unchanged."""
  scale = np.iinfo(pixels.dtype).max if pixels.dtype.kind == 'u' else 1
  return pixels.astype(np.float32) / np.float32(scale)


def _open(path: pathlib.Path) -> pyvips.Image:
  """The picture with only its header read, after checks of its type and size."""
  if not path.stat().st_size:
    raise PictureError('the file is empty' if path.is_file() else 'not a file')
  if not signatures.is_known(path):
    raise UnsupportedError(signatures.unreadable(path)[0])
  try:
    source = pyvips.Source.new_from_file(os.fsencode(path))
    image = pyvips.Image.new_from_source(source, '', fail_on='warning')
  except pyvips.Error as error:
    if 'not in a known format' in str(error):
      text, damaged = signatures.unreadable(path)
      raise (PictureError if damaged else UnsupportedError)(text) from None
    raise _damage(error) from None
  _kind(image)
  unknown = image.interpretation in ('lab', 'labs', 'xyz') or image.format not in DEPTHS
  if unknown or image.bands > (5 if image.interpretation == 'cmyk' else 4):
    found = f'{image.bands} x {image.format}, {image.interpretation}'
    raise UnsupportedError(f'unsupported pixel type ({found})')
  if image.width * image.height > MOST_PIXELS:
    raise TooLargeError(f'{image.width}x{image.height} pixels; the limit is {MOST_PIXELS:,}')
  if header(image, 'n-pages', 1) > 1:
    pages = image.get('n-pages')
    raise UnsupportedError(f'{pages} pages or frames; only files with one picture are supported')
  return image


def _checked(image: pyvips.Image) -> pyvips.Image:
  """A float picture, after a check of its values."""
  try:
    # min and max ignore NaN, the only value that differs from itself.
    least: Any = image.min()
    most: Any = image.max()
    same = image.relational(image, 'equal').min()
  except pyvips.Error as error:
    raise _damage(error) from None
  if not same:
    raise PictureError('float values that are not numbers (NaN)')
  if not -MOST_FLOAT < least <= most < MOST_FLOAT:
    raise PictureError(f'float values from {least:g} to {most:g}: scale them to [0, 1]')
  if image.bands == 1 or image.bands == 2:
    return image.copy(interpretation='b-w')
  return image.copy(interpretation='srgb')


def header(image: pyvips.Image, name: str, default: Any) -> Any:
  """The header field `name` of `image`, or `default` if it has none."""
  return image.get(name) if image.get_typeof(name) else default


def _kind(image: pyvips.Image) -> str:
  kind = str(image.get('vips-loader')).partition('load')[0]
  if kind not in SUFFIXES.values() or header(image, 'heif-compression', 'av1') != 'av1':
    raise UnsupportedError(f'unsupported picture format ({kind}): convert it to PNG or TIFF first')
  return kind


def _damage(error: pyvips.Error) -> PictureError:
  """Why a file cannot be read: libvips does not support its type, or it is damaged."""
  reason = libvips_reason(error)
  if any(sign in reason for sign in UNSUPPORTED):
    return UnsupportedError(f'unsupported file type ({reason.partition(": ")[2] or reason})')
  return PictureError(f'damaged or truncated ({reason})')


def libvips_reason(error: pyvips.Error) -> str:
  """The line of a libvips error that says what is wrong; other lines may be from earlier calls."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  clear = [line for line in lines if ': ' in line and not line.endswith('load error')]
  return next((line for line in reversed(clear) if line.startswith('Vips')), (clear or lines)[-1])


def doubts(picture: Picture) -> tuple[str, ...]:
  """Why a picture may be damaged although it was read without an error, see `soundness`."""
  return soundness.doubts(picture.source, picture.stored)
