"""File name suffixes and the picture formats that they mean; imports nothing heavy."""

import pathlib

SUFFIXES = {
  '.jpg': 'jpeg',
  '.jpeg': 'jpeg',
  '.jfif': 'jpeg',
  '.png': 'png',
  '.webp': 'webp',
  '.tif': 'tiff',
  '.tiff': 'tiff',
  '.avif': 'heif',
}
"""Suffixes of the formats that are read and written, the preferred one of each format first."""

RAW = (
  *('.arw', '.cr2', '.cr3', '.crw', '.dng', '.erf', '.kdc', '.mos', '.nef', '.nrw', '.orf'),
  *('.pef', '.raf', '.raw', '.rw2', '.rwl', '.sr2', '.srf', '.srw', '.x3f'),
)
"""Suffixes of camera raw files; most are TIFF files, of which libvips would read the thumbnail."""

HEIC = ('.heic', '.heif', '.hif')
"""Suffixes of HEIF pictures coded with HEVC."""

READ_ONLY = dict.fromkeys(HEIC, '.jpg') | dict.fromkeys(RAW, '.tif')
"""Suffixes of formats that are read but not written, and the suffixes of their results."""

UNSUPPORTED = (
  *('.gif', '.bmp', '.jp2', '.j2k', '.jpf', '.jpx', '.jxl', '.psd'),
  *('.tga', '.dib', '.ico', '.svg', '.pdf', '.eps', '.exr', '.hdr', '.pbm', '.pgm', '.ppm'),
  *('.pnm', '.fits', '.fit', '.apng', '.mpo', '.jps', '.pcx', '.xcf', '.insp'),
)
"""Suffixes of pictures that cannot be read; such files in a folder are reported."""


def result_name(path: pathlib.Path) -> pathlib.Path:
  """`path` with the suffix of its result, which for most formats is the same."""
  return path.with_suffix(READ_ONLY.get(path.suffix.lower(), path.suffix))
