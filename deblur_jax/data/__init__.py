"""Training examples on the host: sources of pictures, augmentations, batches.

  source = data.sources.open('pairs', 'train', directory='my_pictures')
  batches = data.batches(source, data.ops.parse('crop(128)'), batch_size=8, seed=0)

All of it is NumPy and grain; nothing here calls JAX.
"""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.data import (
    builtin,
    folders,
    leaves,
    mixture,
    ops,
    pipeline,
    prepared,
    sources,
  )
  from deblur_jax.data.pipeline import batches

__all__ = [
  'batches',
  'builtin',
  'folders',
  'leaves',
  'mixture',
  'ops',
  'pipeline',
  'prepared',
  'sources',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'batches': 'pipeline',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
