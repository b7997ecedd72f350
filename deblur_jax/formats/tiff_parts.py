"""Checks the strips and tiles of a TIFF file one by one for damage."""

from collections.abc import Iterator
import os
from typing import NamedTuple
import zlib

import pyvips

from deblur_jax.formats import jpeg
from deblur_jax.formats.tiff import Entry, Layout, begin, directory, packed

Path = str | os.PathLike[str]

WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANAR = 256, 257, 259, 262, 277, 278, 284
BITS, TILE_WIDTH, TILE_HEIGHT = 258, 322, 323
STRIPS, TILES = (273, 279), (324, 325)
"""Tags of the offsets and lengths of the parts."""

TABLES = 347

CODING = (266, COMPRESSION, 317, 339, TABLES, 530)
"""Fill order, compression, predictor, sample format, JPEG tables and chroma subsampling."""

LZW, JPEG, DEFLATE = 5, 7, (8, 32946)

SPARE_LZW = 4
"""Bytes that hold at least one code besides the end-of-information code."""

FORMS = {1: 'B', 3: 'H', 4: 'I', 16: 'Q'}


class Part(NamedTuple):
  """A strip or tile."""

  compression: int
  data: bytes
  tags: dict[int, Entry]
  layout: Layout

  def file(self, data: bytes) -> bytes:
    """A TIFF file with only this part, and with `data` as its contents."""
    layout = Layout(self.layout.order, 'H', 'HHI', 'I')
    at = 8 + len(data) + len(data) % 2
    tags = self.tags | {
      STRIPS[0]: Entry(4, layout.pack('I', 8)),
      STRIPS[1]: Entry(4, layout.pack('I', len(data))),
    }
    head = {'<': b'II', '>': b'MM'}[layout.order] + layout.pack('HI', 42, at)
    return head + data.ljust(at - 8, b'\0') + packed(tags, layout, at)


def damaged(path: Path) -> tuple[list[int], int]:
  """(numbers, from 1, of the parts that are likely damaged, number of parts).

  Checks LZW and JPEG, which cannot be decoded without their last bytes if they are intact, and
  Deflate, which has a checksum that libtiff ignores.
  """
  found, count = [], 0
  for count, part in enumerate(parts(path), 1):
    if _is_damaged(part):
      found.append(count)
  return found, count


def _is_damaged(part: Part) -> bool:
  if part.compression in DEFLATE:
    try:
      zlib.decompressobj().decompress(part.data)
    except zlib.error:
      return True
    return False
  shorter = part.data[:-SPARE_LZW]
  if part.compression == JPEG:
    end = jpeg.end(part.data)
    tables = part.tags.get(TABLES)
    if end is None or (tables and jpeg.odd_quantizer(tables.values)):
      return True
    last = len(part.data[:end].rstrip(b'\xff'))
    last -= 2 if part.data[last - 2 : last] == b'\xff\0' else 1
    shorter = part.data[:last] + part.data[end:]
  return part.compression in (LZW, JPEG) and _decodes(part.file(shorter))


def _decodes(data: bytes) -> bool:
  try:
    pyvips.Image.new_from_buffer(data, '', access='sequential', fail_on='warning').avg()
  except pyvips.Error:
    return False
  return True


def parts(path: Path) -> Iterator[Part]:
  """Yields the parts of the first picture in a TIFF file, in order."""
  with open(path, 'rb') as source:
    layout, at = begin(source)
    found = directory(source, layout, at)
    number = {tag: _numbers(entry, layout) for tag, entry in found.items() if entry.kind in FORMS}
    tiled = TILE_WIDTH in number
    offsets, lengths = (number.get(tag, ()) for tag in (TILES if tiled else STRIPS))
    width, height = number[WIDTH][0], number[HEIGHT][0]
    rows = min(number.get(ROWS, (height,))[0], height)
    separate = number.get(PLANAR, (1,))[0] == 2
    samples = 1 if separate else number.get(SAMPLES, (1,))[0]
    kind = number.get(PHOTOMETRIC, (1,))[0]
    if separate or kind in (0, 3):  # planes and palettes are checked as grey
      kind = 1
    sides = (number[TILE_WIDTH][0], number[TILE_HEIGHT][0]) if tiled else (width, rows)
    shared = {tag: found[tag] for tag in CODING if tag in found}
    bits = layout.pack(f'{samples}H', *(number.get(BITS, (1,))[0],) * samples)
    shared |= {
      tag: Entry(3, layout.pack('H', one))
      for tag, one in ((PHOTOMETRIC, kind), (SAMPLES, samples), (PLANAR, 1))
    } | {BITS: Entry(3, bits)}
    for index, (place, length) in enumerate(zip(offsets, lengths, strict=False)):
      tall = sides[1] if tiled else min(rows, height - index * rows % (-(-height // rows) * rows))
      source.seek(place)
      size = ((WIDTH, sides[0]), (HEIGHT, tall), (ROWS, tall))
      own = {tag: Entry(4, layout.pack('I', one)) for tag, one in size}
      yield Part(number.get(COMPRESSION, (1,))[0], source.read(length), shared | own, layout)


def _numbers(entry: Entry, layout: Layout) -> tuple[int, ...]:
  form = FORMS[entry.kind]
  size = {'B': 1, 'H': 2, 'I': 4, 'Q': 8}[form]
  return tuple(layout.unpack(f'{len(entry.values) // size}{form}', entry.values))
