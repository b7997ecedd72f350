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
from deblur_jax.formats.kinds import SUFFIXES
from deblur_jax.formats.metadata import Metadata

Path = str | os.PathLike[str]

MOST_PIXELS = 300_000_000
"""Beyond this a file is taken for a decompression bomb."""

MOST_FLOAT = 16
"""Floats are beyond 1 only in highlights; larger ones are of another scale."""

UNSUPPORTED = ('data precision', 'whole number of bytes', 'out of range', 'not configured')
"""What libvips says of sound files that it cannot read."""

FORMATS = {'jpeg': jpeg, 'png': png, 'webp': webp, 'tiff': tiff, 'heif': avif}

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


def as_float(pixels: np.ndarray) -> np.ndarray:
  """float32: integers as parts of their range, floats as they are."""
  scale = np.iinfo(pixels.dtype).max if pixels.dtype.kind == 'u' else 1
  return pixels.astype(np.float32) / np.float32(scale)


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
  if header(image, 'n-pages', 1) > 1:
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


def header(image: pyvips.Image, name: str, default: Any) -> Any:
  """The header field `name` of `image`, or `default` if it has none."""
  return image.get(name) if image.get_typeof(name) else default


def _kind(image: pyvips.Image) -> str:
  kind = image.get('vips-loader').partition('load')[0]
  if kind not in SUFFIXES.values() or header(image, 'heif-compression', 'av1') != 'av1':
    raise PictureError(f'unsupported picture format ({kind}): convert it to PNG or TIFF first')
  return kind


def _damage(error: pyvips.Error) -> str:
  """Why a file cannot be read: it is of a type that libvips does not know, or damaged."""
  reason = libvips_reason(error)
  if any(sign in reason for sign in UNSUPPORTED):
    return f'unsupported type of file ({reason.partition(": ")[2] or reason})'
  return f'damaged or cut short ({reason})'


def libvips_reason(error: pyvips.Error) -> str:
  """The line of libvips' several that says what is wrong; others may be left from other calls."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  told = [line for line in lines if ': ' in line and not line.endswith('load error')]
  return next((line for line in reversed(told) if line.startswith('Vips')), (told or lines)[-1])


def doubts(picture: Picture) -> tuple[str, ...]:
  """Why a picture may be damaged though it was read without an error, see `soundness`."""
  return soundness.doubts(picture.source, picture.stored)
