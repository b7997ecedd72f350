"""Picture files: finding them, their sizes, and their pixels as uint8 RGB `[h w 3]`."""

from collections.abc import Iterable, Iterator
import contextlib
import hashlib
import io
import os
import pathlib
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageOps

from deblur_jax.formats import png

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.jfif', '.webp', '.tif', '.tiff', '.bmp', '.ppm', '.pgm')

# What Pillow raises for a damaged file, depending on the format and the damage.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


class UnreadablePicture(ValueError):
  """A picture file that is damaged or in an unsupported form; the message names it."""


def find(directory: str | os.PathLike) -> dict[str, pathlib.Path]:
  """Picture files anywhere under `directory`: relative path without extension -> file, sorted.

  Hidden files and folders are skipped. Files that differ only in extension keep theirs.
  """
  directory = pathlib.Path(directory)
  files: dict[str, list[pathlib.Path]] = {}
  for file in directory.rglob('*'):
    inside = file.relative_to(directory)
    hidden = any(part.startswith('.') for part in inside.parts)
    if file.suffix.lower() in EXTENSIONS and not hidden and file.is_file():
      files.setdefault(inside.with_suffix('').as_posix(), []).append(file)
  named = {
    name if len(same) == 1 else file.relative_to(directory).as_posix(): file
    for name, same in files.items()
    for file in same
  }
  return dict(sorted(named.items()))


def held_out(names: Iterable[str]) -> set[str]:
  """A tenth of the names (at least one), chosen by hash, to test on.

  A picture thus stays in its split when others are added. Raises ValueError for fewer than two.
  """
  by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
  if len(by_hash) < 2:
    raise ValueError('one picture cannot be split into train and test; add more')
  return set(by_hash[: max(1, round(len(by_hash) / 10))])


def size(file: str | os.PathLike) -> tuple[int, int]:
  """`(height, width)` of the upright picture, from its header alone."""
  with _named(file), Image.open(file) as image:
    return _upright_size(image)


def encoded_size(data: bytes, name: str) -> tuple[int, int]:
  """Like `size`, for an encoded picture; `name` identifies it in errors."""
  with _named(name), Image.open(io.BytesIO(data)) as image:
    return _upright_size(image)


def read(file: str | os.PathLike) -> np.ndarray:
  """Pixels of a file, uint8 `[h w 3]`: upright, grey as RGB, 16 bit scaled to 8, alpha dropped.

  The orientation is that of EXIF, or of XMP if EXIF has none, as in `photos.pictures`.

  Raises UnreadablePicture naming the file.
  """
  with _named(file), Image.open(file) as image:
    return _pixels(image)


def verify(file: str | os.PathLike) -> None:
  """Raises UnreadablePicture for a file that is truncated or corrupt; decodes nothing."""
  with _named(file), Image.open(file) as image:
    image.verify()


def decode(data: bytes, name: str) -> np.ndarray:
  """Pixels of an encoded picture, like `read`; `name` identifies it in errors."""
  with _named(name), Image.open(io.BytesIO(data)) as image:
    return _pixels(image)


def thumbnail(file: str | os.PathLike, *, side: int = 16) -> np.ndarray:
  """Luminance averaged down to float32 `[side side]` in [0, 1], whatever the aspect ratio."""
  with _named(file), Image.open(file) as image:
    image.draft('RGB', (4 * side, 4 * side))  # JPEG decodes at a fraction of its size
    small = Image.fromarray(_pixels(image)).convert('L')
  return np.asarray(small.resize((side, side), Image.Resampling.BOX), np.float32) / 255


def _upright_size(image: Image.Image) -> tuple[int, int]:
  if image.format == 'PNG':  # Pillow would decode all of it to find a tag after the pixels.
    turned = png.described(image.fp).orientation >= 5
  elif image.format == 'TIFF' and ExifTags.Base.Orientation in image.tag_v2:
    turned = False  # Pillow already gives the upright size.
  else:
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
  return (image.width, image.height) if turned else (image.height, image.width)


def _pixels(image: Image.Image) -> np.ndarray:
  image = ImageOps.exif_transpose(image)
  if image.mode.startswith('I'):
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
      raise ValueError('its values do not fit 16 bits')
    grey = np.round(pixels / 257).astype(np.uint8)  # 65535 / 257 = 255
    return np.repeat(grey[..., None], 3, axis=-1)
  if image.mode == 'F':
    raise ValueError('it has floating-point values')
  if image.mode == 'P':
    image = image.convert('RGBA')  # a palette may have transparency
  return np.asarray(image if image.mode == 'RGB' else image.convert('RGB'))


@contextlib.contextmanager
def _named(file: str | os.PathLike) -> Iterator[None]:
  """Turns Pillow's exceptions into one line with the file's name and what to do."""
  try:
    yield
  except FileNotFoundError:
    raise FileNotFoundError(f'{os.fspath(file)}: no such file') from None
  except (*_DAMAGE, Image.DecompressionBombError) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UnreadablePicture(
      f'{os.fspath(file)}: cannot read this picture ({reason}); copy it again, save it as an 8-'
      f' or 16-bit PNG, or remove it from the folder'
    ) from None
