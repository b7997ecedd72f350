"""Signs of damage that decoders pass over.

JPEG and WebP have no checksums, and a decoder that lost its place in damaged data goes on with
wrong pixels. Two signs give it away. It ends elsewhere: a sound file cannot be decoded without its
last bytes. And in JPEG, where blocks are coded by their difference from the last, all blocks after
the damage are too bright or too dark by the same amount.
"""

from collections.abc import Iterator
import os
import pathlib
import struct

import numpy as np
import pyvips

from deblur_jax.formats import jpeg, jumps, tiff_parts, webp

Path = str | os.PathLike[str]

DAMAGED, POSSIBLY = 'the file is likely damaged', 'the file may be damaged'

GOES_ON = f'{DAMAGED}: its compressed data goes on after the last pixel'

SPARE = 8
"""Bytes that a sound stream in WebP may have left over: encoders flush a few."""

LEAST_STEP, SIGNIFICANT = 2.0, 2.5
"""Levels of 255, and times the usual step, by which a step after a damage has to stand out."""

MOST, FEW = 0.75, 0.35
"""Share of blocks after a damage that stand out, and of others in the same rows that may."""


def doubts(path: Path, kind: str) -> tuple[str, ...]:
  """Why the picture at `path`, which has been decoded without an error, may still be damaged.

  `kind` is 'jpeg', 'webp', 'tiff' or any other, for which there are no such checks: PNG has
  checksums, and decoders of AVIF are strict. Each reason is a sentence; a sound file has none.
  """
  if kind == 'tiff':
    found, count = tiff_parts.damaged(path)
    if found:
      which = ', '.join(map(str, found[:5])) + (', ...' if len(found) > 5 else '')
      return (f'{DAMAGED}: {which} of its {count} strips or tiles do not decode to their end',)
  if kind == 'webp':
    return _webp_doubts(pathlib.Path(path).read_bytes())
  return _jpeg_doubts(pathlib.Path(path).read_bytes()) if kind == 'jpeg' else ()


def _webp_doubts(data: bytes) -> tuple[str, ...]:
  found = [GOES_ON] if any(map(_decodes, _shorter_webp(data))) else []
  names = {name: body for _, name, body in webp.chunks(data)}
  header = names.get(b'VP8X', b'\0')
  if header[0] & webp.ALPHA_FLAG and not {b'ALPH', b'VP8L'} & names.keys():
    found.append(f'{DAMAGED}: its header announces transparency, but there is none')
  if {b'ALPH', b'VP8L'} & names.keys():  # coded without loss
    at = jumps.worst(pyvips.Image.new_from_buffer(data, '', fail_on='warning'))
    if at:
      found.append(f'{POSSIBLY}: colors or transparency jump near row {at[0]}, column {at[1]}')
  return tuple(found)


def _jpeg_doubts(data: bytes) -> tuple[str, ...]:
  found = []
  if any(map(_decodes, _shorter_jpeg(data))):
    found.append(GOES_ON)
  if _blind_end(data) and not _decodes(_as_tiff(data, jpeg.block(data)[1] // 8)):
    found.append(f'{DAMAGED}: its compressed data ends before the last pixel')
  if jpeg.odd_quantizer(data):
    found.append(f'{DAMAGED}: a quantization table is not plausible')
  if at := _step(data):
    found.append(f'{DAMAGED}: colors jump near row {at[0]}, column {at[1]}, as stored')
  return tuple(found)


def _decodes(data: bytes) -> bool:
  try:
    image = pyvips.Image.new_from_buffer(data, '', access='sequential', fail_on='warning')
    image.avg()
  except pyvips.Error:
    return False
  return True


def _shorter_jpeg(data: bytes) -> Iterator[bytes]:
  """A JPEG without the last byte of its last scan."""
  end = jpeg.end(data)
  if end is None:
    return
  last = end
  while last and data[last - 1] == 0xFF:  # fill bytes, which may precede a marker
    last -= 1
  last -= 2 if data[last - 2 : last] == b'\xff\0' else 1
  shorter = data[:last] + b'\xff\xd9'
  wide = jpeg.block(data)[1]
  yield _as_tiff(shorter, wide // 8) if _blind_end(data) else shorter


def _blind_end(data: bytes) -> bool:
  """Whether libvips misses warnings about the end of a JPEG; it does not inside of a TIFF.

  It looks for them before each eight lines.
  """
  return jpeg.block(data)[0] == 8 and jpeg.frame(data).baseline


def _as_tiff(data: bytes, sampled: int) -> bytes:
  """A TIFF file that holds a JPEG, whose chroma is subsampled `sampled` times across."""
  frame, data = jpeg.frame(data), jpeg.without_grey_sampling(data)
  kind = {1: 1, 3: 6}.get(frame.components, 5)  # grey, YCbCr or CMYK
  fields = {256: frame.width, 257: frame.height, 258: 8, 259: 7, 262: kind, 273: 0}
  fields |= {277: frame.components, 278: frame.height, 279: len(data)}
  fields |= {530: sampled | 1 << 16} if kind == 6 else {}
  fields[273] = 8 + 2 + 12 * len(fields) + 4
  entries = (
    struct.pack('<HHII', tag, 3 if tag == 530 else 4, 1 + (tag == 530), value)
    for tag, value in fields.items()
  )
  return struct.pack('<2sHIH', b'II', 42, 8, len(fields)) + b''.join(entries) + bytes(4) + data


def _shorter_webp(data: bytes) -> Iterator[bytes]:
  """WebP files with one part of the compressed data shortened each (RFC 9649; RFC 6386, 9.5)."""
  for at, name, body in webp.chunks(data):
    for less in _shorter_vp8(body) if name == b'VP8 ' else [body[: -SPARE - 1]]:
      if name in (b'VP8 ', b'VP8L', b'ALPH') and len(less) > 2 * SPARE:
        end = at + 8 + len(body) + len(body) % 2
        chunk = name + struct.pack('<I', len(less)) + less + b'\0' * (len(less) % 2)
        whole = data[8:at] + chunk + data[end:]
        yield b'RIFF' + struct.pack('<I', len(whole)) + whole


def _shorter_vp8(frame: bytes) -> Iterator[bytes]:
  """A VP8 key frame without the end of its first partition (modes) or of its last (pixels)."""
  if len(frame) < 10:
    return
  tag = int.from_bytes(frame[:3], 'little')
  first = tag >> 5
  if first > 2 * SPARE:
    less = (tag & 31) | (first - SPARE - 1) << 5
    yield less.to_bytes(3, 'little') + frame[3 : 10 + first - SPARE - 1] + frame[10 + first :]
  yield frame[: -SPARE - 1]


def _step(data: bytes) -> tuple[int, int] | None:
  """(row, column) of the block after which all blocks of a JPEG are off by the same amount."""
  image = pyvips.Image.new_from_buffer(data, '', fail_on='warning')
  high, wide = jpeg.block(data)
  rows, columns = image.height // high, image.width // wide
  if rows < 3 or columns < 8 or image.bands not in (1, 3):
    return None
  steps = np.stack([_steps(image, r * high, columns, wide) for r in range(1, rows)])
  found = [_jump(steps[..., channel]) for channel in range(steps.shape[-1])]
  places = [one for one in found if one]
  return ((places[0][0] + 1) * high, places[0][1] * wide) if places else None


def _steps(image: pyvips.Image, row: int, columns: int, wide: int) -> np.ndarray:
  """Jumps of luma and chroma between rows `row` - 1 and `row`, beyond their slope, by block."""
  strip = image.crop(0, row - 2, image.width, 4).numpy().reshape(4, image.width, -1)
  strip = strip.astype(np.float32)
  if strip.shape[-1] == 3:
    luma = strip @ np.array([0.299, 0.587, 0.114], np.float32)
    strip = np.stack([luma, 0.564 * (strip[..., 2] - luma), 0.713 * (strip[..., 0] - luma)], -1)
  first, second, third, fourth = strip[:, : columns * wide]
  beyond = (third - second) - (second - first + fourth - third) / 2
  return np.median(beyond.reshape(columns, wide, -1), 1)


def _jump(steps: np.ndarray) -> tuple[int, int] | None:
  """Where in `steps` [r c] most from (row, column) on for the length of a row are large and alike.

  Few others in the two rows may be: an edge in the picture goes through whole rows.
  """
  rows, columns = steps.shape
  margin = max(2, columns // 12)
  least = max(LEAST_STEP, SIGNIFICANT * np.median(np.abs(steps)))
  left = np.arange(columns + 1)
  for large in (steps > least, steps < -least):
    before = np.concatenate([np.zeros((rows, 1)), np.cumsum(large, 1)], 1)  # [r c+1]
    after = before[:, -1:] - before
    with np.errstate(invalid='ignore'):
      before, after = before / left, after / (columns - left)
    inside, outside = np.minimum(after[:-1], before[1:]), np.maximum(before[:-1], after[1:])
    found = (inside >= MOST) & (outside <= FEW)
    found[:, :margin] = found[:, columns - margin + 1 :] = False
    if found.any():
      row, column = np.unravel_index(np.argmax(np.where(found, inside - outside, -1)), found.shape)
      return int(row), int(column)
  return None
