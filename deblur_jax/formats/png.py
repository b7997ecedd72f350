"""Text in PNG files as others read it: libvips writes all of it as Latin-1, even XMP.

PNG specification, third edition, section 11.3.3: `tEXt` and `zTXt` are Latin-1, `iTXt` is UTF-8;
XMP is an `iTXt` with the keyword XML:com.adobe.xmp.
"""

import contextlib
import os
import pathlib
import shutil
import struct
import tempfile
import zlib

_SIGNATURE = 8  # bytes, before the first chunk


def mend(path: str | os.PathLike[str]) -> None:
  """Turns the UTF-8 that libvips wrote into `tEXt` and `zTXt` chunks of a PNG into `iTXt`."""
  with tempfile.TemporaryFile(dir=pathlib.Path(path).parent) as mended, open(path, 'rb+') as file:
    mended.write(file.read(_SIGNATURE))
    changed = False
    while (head := file.read(8))[4:] not in (b'IDAT', b''):
      length, kind = struct.unpack('>I4s', head)
      body, check = file.read(length), file.read(4)
      if better := _international(kind, body):
        kind, body, changed = b'iTXt', better, True
        check = struct.pack('>I', zlib.crc32(kind + body))
      mended.write(struct.pack('>I4s', len(body), kind) + body + check)
    if not changed:
      return
    mended.write(head)
    shutil.copyfileobj(file, mended)
    mended.seek(0)
    file.seek(0)
    shutil.copyfileobj(mended, file)
    file.truncate()


def _international(kind: bytes, body: bytes) -> bytes | None:
  """What an `iTXt` chunk holds in place of `body`; None where that may stay as it is."""
  if kind not in (b'tEXt', b'zTXt'):
    return None
  keyword, _, text = body.partition(b'\0')
  if kind == b'zTXt':
    text = zlib.decompress(text[1:])
  if text.isascii() and keyword != b'XML:com.adobe.xmp':
    return None
  with contextlib.suppress(UnicodeDecodeError):
    text.decode()
    return keyword + b'\0' + b'\0\0' + b'\0' + b'\0' + text  # not compressed, of no language
  return None
