"""What a picture becomes in another format."""

import pyvips

ALPHA = ('png', 'webp', 'tiff', 'heif')
"""Formats with transparency."""

DEEP = ('png', 'tiff', 'heif')
"""Formats with more than 8 bits a channel; AVIF has 12."""

NAMES = {'jpeg': 'JPEG', 'png': 'PNG', 'webp': 'WebP', 'tiff': 'TIFF', 'heif': 'AVIF'}


def suited(image: pyvips.Image, kind: str) -> tuple[pyvips.Image, list[str]]:
  """`image` as the format `kind` can hold it, and a sentence about each thing that it cannot."""
  lost = []
  if image.hasalpha() and kind not in ALPHA:
    white = 65535 if image.format == 'ushort' else 255
    image = image.flatten(background=white).cast(image.format)
    lost.append(f'{NAMES[kind]} has no transparency: the picture lies on white')
  if image.format == 'ushort' and kind not in DEEP:
    plain = 'b-w' if image.bands < 3 else 'srgb'
    image = (image / 257).rint().cast('uchar').copy(interpretation=plain)
    lost.append(f'{NAMES[kind]} has 8 bits a channel, the picture 16')
  return image, lost
