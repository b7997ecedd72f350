"""The metadata of a picture file."""

from typing import NamedTuple


class Metadata(NamedTuple):
  """Metadata parsed from a file without libvips, which omits some of it."""

  exif: bytes | None = None
  """A TIFF structure, without the prefix used in JPEG."""
  xmp: bytes | None = None
  orientation: int = 1
  """Of the pixels in the file, 1 (upright) to 8."""
  cicp: tuple[int, int, int] | None = None
  """Primaries, transfer characteristics and matrix of ITU-T H.273."""
  gamma: float | None = None
  """The exponent that converts code values to linear light."""
  notes: tuple[str, ...] = ()
  """What cannot be kept, a sentence each."""
  chromaticities: tuple[tuple[float, float], ...] | None = None
  """(x, y) of white, red, green and blue, if the file has them but no profile."""
