"""Copies the chunks of PNG files that libvips drops.

PNG specification, third edition. libvips reads no chunk after the pixels, keeps 50 texts, cuts
keywords at spaces, writes all texts as Latin-1, and ignores gamma and CICP.
"""

from collections.abc import Iterable, Iterator
import contextlib
import datetime
import os
import pathlib
import shutil
import struct
import tempfile
from typing import BinaryIO
import zlib

from deblur_jax.formats import exif
from deblur_jax.formats.metadata import Metadata

Path = str | os.PathLike[str]

SIGNATURE = b'\x89PNG\r\n\x1a\n'

OWN = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND', b'iCCP', b'hIST')
"""Chunks that libvips writes for the new pixels, or that belong to a palette, which is gone."""

ANIMATION = (b'acTL', b'fcTL', b'fdAT')

COLORS = (b'cICP', b'sRGB', b'gAMA', b'cHRM', b'mDCV', b'mDCv', b'cLLI', b'cLLi')

KNOWN = (b'bKGD', b'sBIT', b'sPLT', b'oFFs', b'pCAL', b'sTER')
"""Kept although not marked safe to copy, because they stay valid for a picture of the same size."""

TEXTS = (b'tEXt', b'zTXt', b'iTXt')
XMP = b'XML:com.adobe.xmp'
RAW_EXIF = (b'Raw profile type exif', b'Raw profile type APP1')
"""Keywords under which ImageMagick and ExifTool write EXIF, as hexadecimal digits."""

MOST_TEXT = 16 * 1024 * 1024
"""Bytes; longer texts are cut here, in case they are decompression bombs."""


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
  """Yields (name, body) of the chunks; the body of IDAT and fdAT is left empty."""
  file.seek(len(SIGNATURE))
  while len(head := file.read(8)) == 8:
    length, name = struct.unpack('>I4s', head)
    if name in (b'IDAT', b'fdAT'):
      file.seek(length, os.SEEK_CUR)
      body = b''
    else:
      body = file.read(length)
      if len(body) < length:
        return
    file.seek(4, os.SEEK_CUR)
    yield name, body
    if name == b'IEND':
      return


def read(path: Path) -> Metadata:
  """The metadata in the chunks."""
  with open(path, 'rb') as file:
    return described(file)


def described(file: BinaryIO) -> Metadata:
  """As `read`, for an open file."""
  block, xmp, found = None, None, {}
  for name, body in chunks(file):
    found.setdefault(name, body)
    if name in TEXTS:
      keyword = body.partition(b'\0')[0]
      if keyword == XMP:
        xmp = text(name, body)
      elif keyword in RAW_EXIF:
        block = block or _raw_exif(text(name, body))
    elif name == b'eXIf':
      block = body
  notes = []
  if b'acTL' in found and len(found[b'acTL']) >= 4:
    (frames,) = struct.unpack_from('>I', found[b'acTL'])
    if frames > 1:
      notes.append(f'only the first of the {frames} frames of this animation is restored')
  lost = [name for name in found if not _is_kept(name) and name not in (*OWN, *ANIMATION)]
  if lost:
    names = ', '.join(name.decode('latin-1') for name in lost)
    notes.append(f'not kept: PNG chunks {names}, which may not be valid for changed pixels')
  codes, gamma = _colors(found)
  corners = _chromaticities(found) if codes is None else None
  return Metadata(block, xmp, exif.orientation(block, xmp), codes, gamma, tuple(notes), corners)


def _colors(found: dict[bytes, bytes]) -> tuple[tuple[int, int, int] | None, float | None]:
  """(CICP codes, gamma); an sRGB chunk becomes its CICP codes."""
  codes = found.get(b'cICP', b'')
  if len(codes) == 4:
    return (codes[0], codes[1], codes[2]), None
  if b'iCCP' not in found and b'sRGB' in found:
    return (1, 13, 0), None
  exponent = int.from_bytes(found.get(b'gAMA', b''), 'big')
  return None, 100_000 / exponent if exponent else None


def _chromaticities(found: dict[bytes, bytes]) -> tuple[tuple[float, float], ...] | None:
  numbers = found.get(b'cHRM', b'')
  if b'iCCP' in found or len(numbers) != 32:
    return None
  values = [value / 100_000 for value in struct.unpack('>8I', numbers)]
  return tuple(zip(values[::2], values[1::2], strict=True))


def _is_kept(name: bytes) -> bool:
  return name in (*TEXTS, *COLORS, *KNOWN, b'eXIf', b'pHYs', b'tIME') or bool(name[3] & 0x20)


def carry(
  source: Path | None, target: Path, metadata: Metadata, *, strip: bool = False
) -> list[str]:
  """Writes EXIF, XMP and the chunks of `source`, if that is a PNG, into `target`.

  Returns what was lost. `target` was written by libvips with no metadata but a profile. `metadata`
  holds EXIF and XMP as they should be written. `strip` keeps of the rest only what colors and
  density need.
  """
  with open(target, 'rb') as file:
    own = [one for one in chunks(file) if one[0] not in (b'IDAT', b'IEND')]
  added = []
  if metadata.exif:
    added.append((b'eXIf', metadata.exif))
  if metadata.xmp:
    added.append((b'iTXt', XMP + b'\0\0\0\0\0' + metadata.xmp))
  if source is not None:
    own = [one for one in own if one[0] != b'pHYs']  # libvips writes one even if it is unknown
    added += _kept(source, own[0][1], metadata, strip)
  elif metadata.cicp:
    added.append((b'cICP', bytes([*metadata.cicp[:2], 0, 1])))
  _rewrite(target, own[:1] + added + own[1:])
  return []


def _kept(
  source: Path, header: bytes, metadata: Metadata, strip: bool
) -> Iterator[tuple[bytes, bytes]]:
  """Yields the chunks of `source` to copy into a PNG with the IHDR `header`."""
  with open(source, 'rb') as file:
    given = list(chunks(file))
  # Bits and color type; a palette becomes RGB, for which its sBIT stays valid.
  alike, from_palette = given[0][1][8:10] == header[8:10], (given[0][1][9], header[9]) == (3, 2)
  for name, body in given:
    keyword = body.partition(b'\0')[0] if name in TEXTS else b''
    if name == b'pHYs' and metadata.orientation >= 5:
      yield name, body[4:8] + body[:4] + body[8:]
    elif name in COLORS or name == b'pHYs':
      yield name, body
    elif strip or name in (*OWN, *ANIMATION, b'eXIf') or not _is_kept(name):
      continue
    elif name == b'tIME':
      yield name, struct.pack('>H5B', *datetime.datetime.now(datetime.UTC).timetuple()[:6])
    elif name in (b'bKGD', b'sBIT') and not alike and not (name == b'sBIT' and from_palette):
      continue
    elif keyword not in (XMP, *RAW_EXIF):
      yield name, body


def _rewrite(path: Path, before: Iterable[tuple[bytes, bytes]]) -> None:
  """Replaces all chunks before the pixels of a PNG."""
  with tempfile.TemporaryFile(dir=pathlib.Path(path).parent) as mended, open(path, 'rb+') as file:
    mended.write(file.read(len(SIGNATURE)))
    for name, body in before:
      check = zlib.crc32(name + body)
      mended.write(struct.pack('>I4s', len(body), name) + body + struct.pack('>I', check))
    while (head := file.read(8))[4:] != b'IDAT':
      file.seek(int.from_bytes(head[:4], 'big') + 4, os.SEEK_CUR)
    mended.write(head)
    shutil.copyfileobj(file, mended)
    mended.seek(0)
    file.seek(0)
    shutil.copyfileobj(mended, file)
    file.truncate()


def text(name: bytes, body: bytes) -> bytes:
  """The text of a `tEXt`, `zTXt` or `iTXt` chunk, in its encoding; empty if it is damaged."""
  _, _, rest = body.partition(b'\0')
  if name == b'tEXt':
    return rest
  packed = name == b'zTXt'
  if name == b'iTXt':
    packed, rest = rest[:1] == b'\1', rest[2:].split(b'\0', 2)[-1]
  else:
    rest = rest[1:]
  if packed:
    try:
      return zlib.decompressobj().decompress(rest, MOST_TEXT)
    except zlib.error:
      return b''
  return rest


def _raw_exif(profile: bytes) -> bytes | None:
  """The EXIF block in a raw profile: a name, a length and lines of hexadecimal digits."""
  digits = b''.join(profile.split()[2:])
  with contextlib.suppress(ValueError):
    return bytes.fromhex(digits.decode('latin-1')).removeprefix(exif.PREFIX) or None
  return None
