"""Pictures that libvips does not decode: HEIC, by pillow-heif, and camera raw files, by rawpy.

Both packages are extras. These formats are read only: HEIC results are written as JPEG, those of
raw files as TIFF of 16 bits.
"""

import os
import pathlib

import numpy as np

from deblur_jax.formats.kinds import RAW
from deblur_jax.formats.metadata import Metadata

Path = str | os.PathLike[str]

CLIPPED = 1e-4
"""Share of the pixels that may clip when a raw picture, dark as it is, is brightened."""

BRANDS = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx')
"""Of HEIF files (ISO/IEC 23008-12) whose pictures are coded by HEVC."""


def is_foreign(path: Path) -> bool:
  """Whether `path` is a raw file by its name, or an HEIC file by its contents."""
  path = pathlib.Path(path)
  with open(path, 'rb') as file:
    head = file.read(64)
  generic = head[8:12] in (b'mif1', b'msf1')
  heic = head[8:12] in BRANDS or (generic and any(brand in head[16:] for brand in BRANDS))
  return path.suffix.lower() in RAW or (head[4:8] == b'ftyp' and heic)


def size(path: Path) -> tuple[int, int]:
  """(height, width) of the upright picture, from its header; raises as `read`."""
  if pathlib.Path(path).suffix.lower() in RAW:
    with _raw(path) as raw:
      height, width = raw.sizes.iheight, raw.sizes.iwidth
      return (width, height) if raw.sizes.flip in (5, 6) else (height, width)
  width, height = _heif(path).size
  return height, width


def read(path: Path) -> tuple[np.ndarray, str, bytes | None, Metadata]:
  """(pixels `[h w c]`, format of the result, ICC profile, metadata) of the upright picture.

  HEIC is uint8, or uint16 if it has more than 8 bits per channel. Raw files are uint16, demosaiced
  with the camera's white balance, in sRGB. Raises ValueError if the file is damaged, or the package
  for it is missing.
  """
  if pathlib.Path(path).suffix.lower() in RAW:
    return _read_raw(path)
  return _read_heif(path)


def _read_heif(path: Path) -> tuple[np.ndarray, str, bytes | None, Metadata]:
  picture = _heif(path)
  try:
    pixels = np.asarray(picture)
  except (OSError, ValueError, RuntimeError) as error:
    raise ValueError(f'damaged or cut short ({error})') from None
  info, notes = picture.info, []
  codes = info.get('nclx_profile') or {}
  primaries = codes.get('color_primaries', 1), codes.get('transfer_characteristics', 13)
  if info.get('depth_images') or info.get('aux'):
    notes.append('not kept: auxiliary pictures, such as depth or a gain map')
  alpha = ['not kept: transparency'] if pixels.ndim == 3 and pixels.shape[-1] in (2, 4) else []
  pixels = np.atleast_3d(pixels)
  pixels = pixels[..., :3] if pixels.shape[-1] == 4 else pixels
  cicp = (*primaries, codes.get('matrix_coefficients', 6)) if codes else None
  block = (info.get('exif') or b'').removeprefix(b'Exif\0\0') or None
  metadata = Metadata(block, info.get('xmp') or None, 1, cicp, notes=(*notes, *alpha))
  return np.ascontiguousarray(pixels), 'jpeg', info.get('icc_profile') or None, metadata


def _heif(path: Path):
  try:
    import pillow_heif  # Only here: it is an extra.
  except ImportError:
    raise ValueError("HEIC requires a package: pip install 'deblur-jax[heif]'") from None
  try:
    return pillow_heif.open_heif(os.fspath(path), convert_hdr_to_8bit=False)[0]
  except (OSError, ValueError, RuntimeError) as error:
    raise ValueError(f'damaged or cut short ({error})') from None


def _read_raw(path: Path) -> tuple[np.ndarray, str, bytes | None, Metadata]:
  import PIL.ImageCms

  with _raw(path) as raw:
    import rawpy

    try:
      pixels = raw.postprocess(
        use_camera_wb=True,
        output_bps=16,
        gamma=(2.4, 12.92),
        output_color=rawpy.ColorSpace.sRGB,
        auto_bright_thr=CLIPPED,
      )
    except rawpy.LibRawError as error:
      raise ValueError(f'damaged or cut short ({error})') from None
  data = pathlib.Path(path).read_bytes()
  block = data if data[:4] in (b'II*\0', b'MM\0*') else None  # TIFF, EXIF included
  profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes()
  notes = () if block else ('not kept: EXIF of this type of raw file',)
  return pixels, 'tiff', profile, Metadata(block, notes=notes)


def _raw(path: Path):
  try:
    import rawpy  # Only here: it is an extra.
  except ImportError:
    raise ValueError("camera raw files require a package: pip install 'deblur-jax[raw]'") from None
  try:
    return rawpy.imread(os.fspath(path))
  except rawpy.LibRawError as error:
    raise ValueError(f'damaged, or of an unknown camera ({error})') from None
