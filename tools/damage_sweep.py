"""Damages picture files at random and counts the outcomes of reading them.

  python tools/damage_sweep.py [--damages 1000] [--seed 0] [--table docs/damage.md]

A file is damaged in one of four ways: truncated, 200 bytes overwritten, 1 to 8 bits flipped, or a
header byte changed. The outcome is 'silent' if the picture differs from the intact one by more than
a tile (64x64 pixels, as in the tiled TIFFs) without an error or a note.
"""

import argparse
import collections
import io
import pathlib
import sys
import tempfile

import numpy as np
import PIL.Image
import pyvips
import skimage.data

from deblur_jax.photos import pictures

TILE = 64 * 64
"""Most pixels that may differ without a note."""

SEEN = 8
"""A pixel differs if it is off by more than this many of 255 levels."""

PAGE = """# Damaged files

Outcomes of reading damaged pictures ({heading}), measured with
`python tools/damage_sweep.py --table docs/damage.md`. Each file, a photograph of 256x256 pixels,
is truncated, or has 200 bytes overwritten, 1 to 8 bits flipped or a byte of its header changed.

{table}

- **refused**: a one-line error and no result.
- **right**: the damage did not change the picture.
- **noted**: the picture is restored, with a note that the file is likely damaged.
- **within a tile**: at most 64x64 pixels are off by more than 8 of 255 levels, without a note.
- **silent**: more pixels are off, without a note.

How damage is detected:

- PNG has checksums, and AVIF decoders are strict: libvips refuses damaged files of both formats.
- JPEG and WebP decoders that lost their place stop early or late. Such files are detected by
  removing the last bytes: an intact file cannot be decoded without them.
- In JPEG, all blocks after the damage are too bright or too dark by the same amount, which shows as
  a step along a row of blocks. 332 intact JPEG photographs caused no false alarm. A step that
  begins in the first or last twelfth of a row cannot be distinguished from an edge in the picture.
- Strips and tiles of a TIFF are checked one by one: Deflate by its checksum, LZW and JPEG in the
  same way as JPEG files.
- Lossless WebP, and the transparency of any WebP, have no checksums, and damage may not change
  their length. It shifts one channel of whole areas, so these files are searched for smooth areas
  with jumps of 144 levels or more in one channel and none in another. 348 intact pictures had no
  such jumps. Small colored text on a photograph can look the same, so the note says "may be
  damaged".

Not detected, because neither the format nor the pixels show it:

- Lossless WebP with small shifts in color, and lossy WebP with a changed strength of quantization
  or filtering in its header.
- JPEG files, or JPEG tiles of a TIFF, with a few flipped bits that still decode to their end: a
  step in brightness looks like an edge in a tile, which is only a few blocks wide.
- LZW tiles of a TIFF with flipped bits that still decode to exactly one tile.
- Uncompressed and PackBits TIFF, in which only the overwritten bytes are wrong.

To be certain that a file is intact, keep a checksum of it.
"""

OUTCOMES = ('refused', 'right', 'noted', 'within a tile', 'silent', 'crash')


def scene(size: int = 256) -> np.ndarray:
  """A photograph, uint8 `[h w 3]`."""
  return np.ascontiguousarray(skimage.data.astronaut()[:size, 100 : 100 + size])


def kinds() -> dict[str, bytes]:
  """Name -> intact file."""
  color, image = scene(), PIL.Image.fromarray(scene())
  eight = pyvips.Image.new_from_array(color).copy(interpretation='srgb')
  deep = (eight.cast('ushort') * 257).cast('ushort').copy(interpretation='rgb16')
  alpha = eight.bandjoin(eight.extract_band(1))

  def pillow(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()

  def tiff(source=eight, **options):
    return source.tiffsave_buffer(**options)

  strips = {'tile_height': 16}
  tiles = {'tile': True, 'tile_width': 64, 'tile_height': 64}
  return {
    'JPEG baseline': pillow(image, 'JPEG', quality=90),
    'JPEG progressive': pillow(image, 'JPEG', quality=90, progressive=True),
    'JPEG 4:4:4': pillow(image, 'JPEG', quality=90, subsampling=0),
    'JPEG grey': pillow(image.convert('L'), 'JPEG', quality=90),
    'JPEG restart markers': eight.jpegsave_buffer(Q=90, restart_interval=8),
    'PNG 8 bit': pillow(image, 'PNG'),
    'PNG 16 bit': deep.pngsave_buffer(),
    'PNG palette': pillow(image.quantize(64), 'PNG'),
    'PNG interlaced': eight.pngsave_buffer(interlace=True),
    'WebP': eight.webpsave_buffer(Q=90),
    'WebP with alpha': alpha.webpsave_buffer(Q=90),
    'WebP lossless': eight.webpsave_buffer(lossless=True),
    'AVIF': eight.heifsave_buffer(compression='av1', Q=80, effort=2),
    'AVIF 10 bit': deep.heifsave_buffer(compression='av1', bitdepth=10, Q=80, effort=2),
    'TIFF strips': tiff(**strips),
    'TIFF tiles': tiff(**tiles),
    'TIFF LZW strips': tiff(compression='lzw', **strips),
    'TIFF LZW tiles': tiff(compression='lzw', **tiles),
    'TIFF deflate strips': tiff(compression='deflate', predictor='horizontal', **strips),
    'TIFF deflate tiles 16 bit': tiff(deep, compression='deflate', **tiles),
    'TIFF PackBits strips': tiff(compression='packbits', **strips),
    'TIFF PackBits tiles': tiff(compression='packbits', **tiles),
    'TIFF JPEG strips': tiff(compression='jpeg', **strips),
    'TIFF JPEG tiles': tiff(compression='jpeg', **tiles),
  }


def damaged(data: bytes, how: str, rng: np.random.Generator) -> bytes:
  """`data`, damaged once in the way `how`."""
  bad = bytearray(data)
  if how == 'cut':
    return bytes(bad[: rng.integers(1, len(bad))])
  if how == 'overwritten':
    at = int(rng.integers(0, max(1, len(bad) - 200)))
    bad[at : at + 200] = rng.bytes(min(200, len(bad) - at))
  elif how == 'bits':
    for at in rng.integers(0, len(bad), rng.integers(1, 9)):
      bad[at] ^= 1 << rng.integers(8)
  else:
    bad[rng.integers(0, min(len(bad), 256))] = rng.integers(256)
  return bytes(bad)


HOW = ('cut', 'overwritten', 'bits', 'header')


def outcome(path: pathlib.Path, right: np.ndarray) -> tuple[str, str]:
  """The outcome of reading the file (one of `OUTCOMES`), and the message or note."""
  try:
    picture = pictures.read(path)
    pixels = picture.rows(0, picture.shape[0])
    notes = pictures.doubts(picture)
  except (pictures.PictureError, OSError) as error:
    return 'refused', str(error)
  except Exception as error:
    return 'crash', repr(error)
  if pixels.shape != right.shape or pixels.dtype != right.dtype:
    return ('noted', notes[0]) if notes else ('silent', f'{pixels.shape} {pixels.dtype}')
  levels = SEEN * (257 if right.dtype == np.uint16 else 1)
  off = int((np.abs(pixels.astype(int) - right) > levels).any(-1).sum())
  if off and notes:
    return 'noted', notes[0]
  if off > TILE:
    return 'silent', f'{off} pixels'
  return ('within a tile', f'{off} pixels') if off else ('right', '')


def main() -> int:
  """Prints the table; returns 1 if anything crashed."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--damages', type=int, default=1000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--table', type=pathlib.Path, help='a Markdown file to write')
  parser.add_argument('--only', default='', help='only kinds whose name contains this text')
  parser.add_argument('--keep', type=pathlib.Path, help='a folder for files with silent damage')
  arguments = parser.parse_args()
  files = {name: data for name, data in kinds().items() if arguments.only in name}
  counts = {name: collections.Counter() for name in files}
  rng = np.random.default_rng(arguments.seed)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'picture'
    right = {}
    for name, data in files.items():
      path.write_bytes(data)
      picture = pictures.read(path)
      right[name] = picture.rows(0, picture.shape[0])
    for index in range(arguments.damages):
      name = list(files)[index % len(files)]
      how = HOW[index // len(files) % len(HOW)]
      bad = damaged(files[name], how, rng)
      path.write_bytes(bad)
      found, message = outcome(path, right[name])
      counts[name][found] += 1
      if found in ('silent', 'crash'):
        print(f'{name}, {how}, number {index}: {found}, {message}', file=sys.stderr)
        if arguments.keep:
          (arguments.keep / f'{index}_{how}').write_bytes(bad)
  print(table(counts))
  if arguments.table:
    heading = f'{arguments.damages:,} damages, seed {arguments.seed}'
    arguments.table.write_text(PAGE.format(heading=heading, table=table(counts)))
  return int(any(count['crash'] for count in counts.values()))


def table(counts: dict[str, collections.Counter]) -> str:
  """A Markdown table with a row for each kind of file and one for all."""
  rows = [['file', *OUTCOMES], ['---'] + ['--:'] * len(OUTCOMES)]
  whole = sum(counts.values(), collections.Counter())
  for name, count in (*counts.items(), ('all', whole)):
    rows.append([name, *(str(count[one]) for one in OUTCOMES)])
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


if __name__ == '__main__':
  sys.exit(main())
