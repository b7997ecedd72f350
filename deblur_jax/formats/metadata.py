"""What a picture file says that is not pixels."""

from typing import NamedTuple


class Metadata(NamedTuple):
  """What is read from a file by hand, as libvips leaves some of it out."""

  exif: bytes | None = None
  """A TIFF structure, without the prefix that it has in JPEG."""
  xmp: bytes | None = None
  orientation: int = 1
  """1 (upright) to 8, how the pixels lie in the file."""
  cicp: tuple[int, int, int] | None = None
  """Primaries, transfer characteristics and matrix of ITU-T H.273."""
  gamma: float | None = None
  """The exponent that turns code values into light."""
  notes: tuple[str, ...] = ()
  """What cannot be kept, a sentence each."""
  chromaticities: tuple[tuple[float, float], ...] | None = None
  """(x, y) of white, red, green and blue, if the file gives them without a profile."""
