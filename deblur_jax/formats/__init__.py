"""Picture files beyond libvips: detecting damage and keeping all metadata."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.formats import (
    avif,
    conversion,
    exif,
    foreign,
    jpeg,
    jumps,
    kinds,
    metadata,
    png,
    profiles,
    signatures,
    soundness,
    tiff,
    tiff_parts,
    webp,
  )
  from deblur_jax.formats.metadata import Metadata

__all__ = [
  'Metadata',
  'avif',
  'conversion',
  'exif',
  'foreign',
  'jpeg',
  'jumps',
  'kinds',
  'metadata',
  'png',
  'profiles',
  'signatures',
  'soundness',
  'tiff',
  'tiff_parts',
  'webp',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'Metadata': 'metadata',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
