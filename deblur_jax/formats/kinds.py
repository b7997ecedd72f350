"""Names of files, and the formats of pictures that they stand for; imports nothing heavy."""

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
"""Suffixes of the pictures that are read and written, and their formats; the first suffix of each
format is the usual one."""

RAW = (
  *('.arw', '.cr2', '.cr3', '.crw', '.dng', '.erf', '.kdc', '.mos', '.nef', '.nrw', '.orf'),
  *('.pef', '.raf', '.raw', '.rw2', '.rwl', '.sr2', '.srf', '.srw', '.x3f'),
)
"""Suffixes of camera raw files: most are TIFF files in which libvips would find the thumbnail."""

HEIC = ('.heic', '.heif', '.hif')
"""Suffixes of HEIF pictures coded by HEVC."""

READ_ONLY = dict.fromkeys(HEIC, '.jpg') | dict.fromkeys(RAW, '.tif')
"""Suffixes of pictures that are read but not written, and those that their results get."""

UNSUPPORTED = (
  *('.gif', '.bmp', '.jp2', '.j2k', '.jpf', '.jpx', '.jxl', '.psd'),
  *('.tga', '.dib', '.ico', '.svg', '.pdf', '.eps', '.exr', '.hdr', '.pbm', '.pgm', '.ppm'),
  *('.pnm', '.fits', '.fit', '.apng', '.mpo', '.jps', '.pcx', '.xcf', '.insp'),
)
"""Suffixes of pictures that are not read: a folder that holds some is worth a line."""


def result_name(path: pathlib.Path) -> pathlib.Path:
  """`path` with the suffix of what is written for such a file, which for most is its own."""
  return path.with_suffix(READ_ONLY.get(path.suffix.lower(), path.suffix))
