"""What somebody wants done to a picture, and where: words, regions, strokes, examples, choices.

numpy only; `photos.guided` restores accordingly.
"""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.guidance import (
    candidates,
    encoder,
    example,
    grammar,
    regions,
    scribble,
    sentences,
    words,
  )
  from deblur_jax.guidance.scribble import mask_from_strokes
  from deblur_jax.guidance.words import Request, parse

__all__ = [
  'Request',
  'candidates',
  'encoder',
  'example',
  'grammar',
  'mask_from_strokes',
  'parse',
  'regions',
  'scribble',
  'sentences',
  'words',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'Request': 'words',
  'mask_from_strokes': 'scribble',
  'parse': 'words',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
