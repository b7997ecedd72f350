"""Saves and checks the files of a request; no name from a client reaches the disk."""

from collections.abc import Iterable
import contextlib
import hashlib
import pathlib
import shutil

from starlette.datastructures import UploadFile

from deblur_jax.formats import kinds
from deblur_jax.photos import pictures, restore
from deblur_jax.serve.settings import Limits, RefusedError, Settings, Upload


def save(
  folder: pathlib.Path,
  image: UploadFile,
  mask: UploadFile | None,
  settings: Settings,
  limits: Limits,
) -> Upload:
  """The files of a request, saved to `folder` and checked by their headers.

  Raises RefusedError with 415 if the picture is of an unsupported format, 422 if it is damaged, 413
  if it is too large, 400 if mask or crop do not fit it.
  """
  source = folder / f'picture{_raw_suffix(image.filename)}'
  _copy(image, source)
  with _refusing('the picture'):
    full = pictures.size(source)
    _check_pixels(full, limits)
    if not source.suffix:
      source = source.rename(source.with_suffix(pictures.suffix(source)))
  try:
    size = restore.size_to_restore(source, settings.crop)
  except ValueError as error:
    raise RefusedError(400, str(error)) from None
  files = [source]
  if mask is not None:
    files.append(folder / 'mask')
    _copy(mask, files[1])
    with _refusing('the mask'):
      _check_mask(files[1], full)
  return Upload(folder, source, files[1] if mask else None, size, _digest(files))


def opened(source: pathlib.Path, mask: pathlib.Path | None, settings: Settings) -> Upload:
  """The files that `save` saved before, for a job after a restart; raises ValueError, OSError."""
  files = [source, mask] if mask else [source]
  size = restore.size_to_restore(source, settings.crop)
  return Upload(source.parent, source, mask, size, _digest(files))


def _raw_suffix(name: str | None) -> str:
  """The suffix of a camera raw file, the only files whose format is known by their names."""
  suffix = pathlib.PurePosixPath(name or '').suffix.lower()
  return suffix if suffix in kinds.RAW else ''


def _copy(upload: UploadFile, path: pathlib.Path) -> None:
  upload.file.seek(0)
  with open(path, 'wb') as file:
    shutil.copyfileobj(upload.file, file, 1 << 20)


@contextlib.contextmanager
def _refusing(what: str):
  """Turns errors about a file into answers."""
  try:
    yield
  except pictures.TooLargeError as error:
    raise RefusedError(413, f'{what}: {error}') from None
  except pictures.UnsupportedError as error:
    raise RefusedError(415, f'{what}: {error}') from None
  except pictures.PictureError as error:
    raise RefusedError(422, f'{what}: {error}') from None


def _check_pixels(size: tuple[int, int], limits: Limits) -> None:
  height, width = size
  if height * width > 1e6 * limits.megapixels:
    raise RefusedError(
      413, f'the picture is {width}x{height} pixels; the limit is {limits.megapixels:g} megapixels'
    )


def _check_mask(path: pathlib.Path, size: tuple[int, int]) -> None:
  height, width = pictures.size(path)
  if (height, width) != size:
    raise RefusedError(
      400, f'the mask is {width}x{height} pixels, but the picture is {size[1]}x{size[0]}'
    )


def _digest(files: Iterable[pathlib.Path]) -> str:
  """SHA-256 of the contents of files, and of the suffix of the first."""
  files = list(files)
  parts = [files[0].suffix]
  for path in files:
    with open(path, 'rb') as file:
      parts.append(hashlib.file_digest(file, 'sha256').hexdigest())
  return ' '.join(parts)
