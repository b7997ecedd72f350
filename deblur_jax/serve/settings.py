"""What a request may ask for, how much the server accepts, and how it refuses."""

import dataclasses
import pathlib
from typing import Any

from deblur_jax.formats import kinds
from deblur_jax.guidance import words
from deblur_jax.photos import psfs

FORMATS = tuple(suffix[1:] for suffix in kinds.SUFFIXES)

UNCERTAINTY = ('', 'reliability', 'map')

LARGEST_PSF = 201
"""In pixels; the time that a classical method takes grows with the PSF."""


class RefusedError(Exception):
  """A request that gets an error for an answer: an HTTP status and one sentence."""

  def __init__(self, status: int, text: str, retry_after: int | None = None):
    super().__init__(text)
    self.status, self.text, self.retry_after = status, text, retry_after


@dataclasses.dataclass(frozen=True)
class Limits:
  """How much the server accepts."""

  megabytes: float = 64
  """Of the body of a request."""
  megapixels: float = 50
  """Of a picture."""
  queue: int = 16
  """Requests that may wait; the next one gets 503."""
  connections: int = 400
  """That wait for a request; beyond it, the oldest are closed. And requests at once."""
  jobs: int = 200
  """Jobs that may wait."""
  seconds: float = 120
  """Until a request gets 504."""
  job_seconds: float = 3600
  """For the computation of a job."""
  upload_seconds: float = 60
  """For the body of a request to arrive."""
  cache_megabytes: float = 2000
  """Of results on disk."""
  keep_hours: float = 24
  """Until a result is deleted."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """The options of a request: those of `deblur-jax restore` that change a result."""

  weights: str
  strength: float = 1.0
  psf: str = ''
  format: str = ''
  """A suffix without its dot; '' keeps the format of the picture."""
  quality: int | None = None
  crop: tuple[int, int, int, int] | None = None
  strip: bool = False
  force: bool = False
  diagnose: bool = True
  prompt: str = ''
  """What to do and where, see `guidance.words`."""
  uncertainty: str = ''
  """One of `UNCERTAINTY`: adds the reliability to the report, or answers the map of how far each
  pixel may be off, instead of the picture."""

  def plain(self) -> dict[str, Any]:
    """The options as JSON values."""
    return dataclasses.asdict(self)

  @classmethod
  def of(cls, plain: dict[str, Any]) -> 'Settings':
    """The settings that `plain` returned these values for."""
    crop = plain['crop']
    return cls(**{**plain, 'crop': crop and tuple(crop)})

  @property
  def request(self) -> words.Request | None:
    """What the prompt asks for; None without one. Raises RefusedError if it is not understood."""
    try:
      return words.parse(self.prompt) if self.prompt else None
    except ValueError as error:
      raise RefusedError(400, f'prompt: {error}') from None

  def check(self) -> None:
    """Raises RefusedError for values that no picture can be restored with."""
    if not 0 <= self.strength <= 1:
      raise RefusedError(400, f'strength must be from 0 to 1, not {self.strength:g}')
    if self.format and self.format not in FORMATS:
      raise RefusedError(400, f'format must be one of {", ".join(FORMATS)}')
    if self.quality is not None and not 1 <= self.quality <= 100:
      raise RefusedError(400, f'quality must be from 1 to 100, not {self.quality}')
    if self.uncertainty not in UNCERTAINTY:
      raise RefusedError(400, 'uncertainty must be reliability or map')
    if self.uncertainty and (self.strength != 1 or not self.diagnose):
      raise RefusedError(400, 'uncertainty is for plain results: remove strength and diagnose')
    if self.prompt and (self.psf or self.uncertainty):
      raise RefusedError(400, 'prompt says what to do: remove psf and uncertainty')
    if self.psf:
      try:
        psfs.check(self.psf, LARGEST_PSF)
      except ValueError as error:
        raise RefusedError(400, f'psf {error}') from None


def crop(text: str) -> tuple[int, int, int, int] | None:
  """(left, top, width, height) of 'X,Y,W,H'; None of ''; raises RefusedError."""
  numbers = text.split(',') if text else []
  if not numbers:
    return None
  if len(numbers) != 4 or not all(one.isdecimal() and len(one) < 7 for one in numbers):
    raise RefusedError(400, 'crop must be X,Y,W,H in pixels, such as 100,50,640,480')
  left, top, width, height = map(int, numbers)
  if not width or not height:
    raise RefusedError(400, 'crop must be at least one pixel wide and high')
  return left, top, width, height


@dataclasses.dataclass(frozen=True)
class Upload:
  """The files of a request, checked, in a folder of their own."""

  folder: pathlib.Path
  source: pathlib.Path
  mask: pathlib.Path | None
  size: tuple[int, int]
  """(height, width) of what is restored."""
  digest: str
  """Of the contents of all files."""
