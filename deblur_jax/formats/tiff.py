"""Reads and writes TIFF directories, to copy the EXIF that libvips drops.

TIFF 6.0, BigTIFF and EXIF 2.32, section 4.6.2: a directory is a list of entries (tag, type, count,
values); long values are stored elsewhere in the file. EXIF and GPS are separate directories to
which an entry points.
"""

import contextlib
import io
import os
import struct
from typing import BinaryIO, NamedTuple

from deblur_jax.formats import exif
from deblur_jax.formats.metadata import Metadata

Path = str | os.PathLike[str]

TEXTS = (270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096))
"""Description, make, model, software, date, artist, computer, rating, copyright, Windows tags."""

DIRECTORIES = (34665, 34853, 40965)
"""EXIF, GPS and, inside EXIF, interoperability."""

XMP, ORIENTATION, EXTRA = 700, 274, 338
DENSITY = (282, 283, 296)
"""Horizontal, vertical, unit."""

GEO = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)
"""GeoTIFF 1.1, and GDAL's metadata and no-data value."""

PRIVATE = 32768
KEPT = (*TEXTS, *DIRECTORIES, *GEO, 33723, 34377, 34675)
"""Tags from `PRIVATE` up that are kept; the last are IPTC, Photoshop's and the ICC profile."""

DROPPED = (40962, 40963)
"""Width and height in EXIF: TIFF stores them elsewhere, and turning a picture swaps them."""

LONG, UNSIGNED_64 = 4, 16

ITEM = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
ITEM |= {16: 8, 17: 8, 18: 8}
"""Type -> bytes of its numbers; a fraction has two."""

FRACTIONS = (5, 10)


class Layout(NamedTuple):
  """How a file stores numbers."""

  order: str
  """'<' or '>'"""
  head: str
  """`struct` format of the number of entries in a directory."""
  entry: str
  """`struct` format of an entry, up to its values."""
  pointer: str

  def pack(self, form: str, *values: int) -> bytes:
    return struct.pack(self.order + form, *values)

  def unpack(self, form: str, values: bytes) -> tuple[int, ...]:
    return struct.unpack(self.order + form, values)


class Entry(NamedTuple):
  """The values of a tag, as bytes in the order of the original file, or a directory."""

  kind: int
  values: bytes
  inside: dict[int, 'Entry'] | None = None


def read(path: Path) -> Metadata:
  """XMP, orientation, and what cannot be kept; `carry` copies the rest."""
  with contextlib.suppress(struct.error), open(path, 'rb') as file:
    layout, at = begin(file)
    found = directory(file, layout, at)
    xmp = found[XMP].values if XMP in found else None
    turn = exif.orientation(None, xmp)
    if ORIENTATION in found:
      turn = layout.unpack('H', found[ORIENTATION].values[:2])[0]
    lost = {tag for tag in found if tag >= PRIVATE and tag not in KEPT}
    lost |= {tag for tag in GEO if tag in found and turn != 1}  # they refer to the old corners
    notes = [f'not kept: TIFF tags {", ".join(map(str, sorted(lost)))}'] if lost else []
    return Metadata(None, xmp, turn if turn in range(1, 9) else 1, notes=tuple(notes))
  return Metadata()


def carry(
  source: Path | None, target: Path, metadata: Metadata, *, strip: bool = False
) -> list[str]:
  """Adds the EXIF of `source`, if that is a TIFF, or of `metadata` to `target`.

  Returns what was lost. Copies descriptive tags of the main directory, those of GeoTIFF, and the
  EXIF and GPS directories; and from a TIFF the density and the meaning of further channels, for
  which libvips writes defaults. `strip` copies only these last two.
  """
  with contextlib.suppress(struct.error), contextlib.ExitStack() as files:
    if source is None and not metadata.exif:
      return []
    given = (
      io.BytesIO(metadata.exif or b'')
      if source is None
      else files.enter_context(open(source, 'rb'))
    )
    from_layout, at = begin(given)
    found = directory(given, from_layout, at)
    written = files.enter_context(open(target, 'rb+'))
    layout, at = begin(written)
    own = directory(written, layout, at)
    wanted = () if strip else (*TEXTS, *DIRECTORIES, *(GEO if metadata.orientation == 1 else ()))
    entries = {
      tag: _ordered(entry, from_layout, layout) for tag, entry in found.items() if tag in wanted
    } | own
    if source is not None:
      entries = _truthful(entries, found, from_layout, layout, metadata.orientation >= 5)
    end = written.seek(0, os.SEEK_END)
    start = end + end % 2
    written.write(b'\0' * (start - end) + packed(entries, layout, start))
    written.seek(8 if layout.pointer == 'Q' else 4)
    written.write(layout.pack(layout.pointer, start))
  return []


def _truthful(
  entries: dict[int, Entry], found: dict[int, Entry], given: Layout, layout: Layout, turned: bool
) -> dict[int, Entry]:
  """`entries` with density and meaning of further channels as in `found`, if it has them."""
  entries = {tag: entry for tag, entry in entries.items() if tag not in DENSITY}
  across, down, unit = DENSITY
  for tag, other in ((across, down), (down, across), (unit, unit)):
    if (other if turned else tag) in found:
      entries[tag] = _ordered(found[other if turned else tag], given, layout)
  meanings = found[EXTRA].values if EXTRA in found else b''
  if EXTRA in entries and not any(meanings):  # unspecified, such as near-infrared
    entries[EXTRA] = Entry(3, bytes(len(entries[EXTRA].values)))
  return entries


def begin(file: BinaryIO) -> tuple[Layout, int]:
  """The layout of a file and the offset of its first directory; struct.error if it is no TIFF."""
  start = file.read(16)
  order = {b'II': '<', b'MM': '>'}.get(start[:2])
  if order is None:
    raise struct.error('not a TIFF file')
  (version,) = struct.unpack_from(order + 'H', start, 2)
  if version == 43:
    return Layout(order, 'Q', 'HHQ', 'Q'), struct.unpack_from(order + 'Q', start, 8)[0]
  return Layout(order, 'H', 'HHI', 'I'), struct.unpack_from(order + 'I', start, 4)[0]


def directory(file: BinaryIO, layout: Layout, at: int, depth: int = 0) -> dict[int, Entry]:
  """The entries of the directory at `at`, without malformed ones."""
  room, whole = struct.calcsize('=' + layout.pointer), file.seek(0, os.SEEK_END)
  form = struct.Struct(f'{layout.order}{layout.entry}{room}s')
  file.seek(at)
  head = struct.Struct(layout.order + layout.head)
  (count,) = head.unpack(file.read(head.size))
  raw = file.read(min(count, 4096) * form.size)
  found = {}
  for tag, kind, number, inline in form.iter_unpack(raw):
    length = ITEM.get(kind, 0) * number * (2 if kind in FRACTIONS else 1)
    if not 0 < length <= whole:
      continue
    (place,) = struct.unpack(layout.order + layout.pointer, inline)
    if tag in DIRECTORIES:
      place = struct.unpack_from(layout.order + 'I', inline)[0] if kind == LONG else place
      if depth < 2:
        found[tag] = Entry(kind, b'', directory(file, layout, place, depth + 1))
      continue
    if length > room:
      file.seek(place)
      inline = file.read(length)
    if len(inline) >= length:
      found[tag] = Entry(kind, inline[:length])
  return found


def _ordered(entry: Entry, given: Layout, wanted: Layout) -> Entry:
  """`entry` with its numbers in the byte order of another file."""
  if entry.inside is not None:
    inside = {
      tag: _ordered(one, given, wanted) for tag, one in entry.inside.items() if tag not in DROPPED
    }
    return Entry(UNSIGNED_64 if wanted.pointer == 'Q' else LONG, b'', inside)
  size = ITEM[entry.kind]
  if given.order == wanted.order or size == 1:
    return entry
  turned = (entry.values[i : i + size][::-1] for i in range(0, len(entry.values), size))
  return Entry(entry.kind, b''.join(turned))


def packed(entries: dict[int, Entry], layout: Layout, at: int) -> bytes:
  """A directory for the offset `at`, followed by everything that it points to."""
  room = struct.calcsize('=' + layout.pointer)
  size = struct.calcsize(layout.order + layout.entry) + room
  head = layout.pack(layout.head, len(entries))
  behind = at + len(head) + len(entries) * size + room
  table, rest = head, b''
  for tag, entry in sorted(entries.items()):
    rest += b'\0' * ((behind + len(rest)) % 2)
    place = behind + len(rest)
    values, number = entry.values, 1
    if entry.inside is not None:
      rest += packed(entry.inside, layout, place)
      values = layout.pack(layout.pointer, place)
    else:
      number = len(values) // ITEM[entry.kind] // (2 if entry.kind in FRACTIONS else 1)
      if len(values) > room:
        rest += values
        values = layout.pack(layout.pointer, place)
    table += layout.pack(layout.entry, tag, entry.kind, number) + values.ljust(room, b'\0')
  return table + layout.pack(layout.pointer, 0) + rest
