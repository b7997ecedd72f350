"""Converts pictures to what another format can store."""

import pyvips

ALPHA = ('png', 'webp', 'tiff', 'heif')
"""Formats with transparency."""

DEEP = ('png', 'tiff', 'heif')
"""Formats with more than 8 bits per channel; AVIF has 12."""

NAMES = {'jpeg': 'JPEG', 'png': 'PNG', 'webp': 'WebP', 'tiff': 'TIFF', 'heif': 'AVIF'}


def converted(image: pyvips.Image, kind: str) -> tuple[pyvips.Image, list[str]]:
  """`image` as the format `kind` can store it, and a sentence about each loss."""
  lost, grey = [], image.bands < 3
  if image.format == 'float' and kind != 'tiff':
    # Casting clips; +0.5 rounds.
    deep = 'grey16' if grey else 'rgb16'
    image = (image * 65535 + 0.5).cast('ushort').copy(interpretation=deep)
    lost.append(f'{NAMES[kind]} cannot store floats: values below 0 or above 1 are clipped')
  if image.hasalpha() and kind not in ALPHA:
    white = 65535 if image.format == 'ushort' else 255
    image = image.flatten(background=[white]).cast(image.format)
    lost.append(f'{NAMES[kind]} has no transparency: it is blended onto white')
  if image.format == 'ushort' and kind not in DEEP:
    image = (image / 257).rint().cast('uchar').copy(interpretation='b-w' if grey else 'srgb')
    lost.append(f'{NAMES[kind]} has only 8 bits per channel')
  return image, lost
