"""Published data sets: checked as they were downloaded, and prepared with TFDS.

`datasets.make('gopro', directory).download_and_prepare()` writes ArrayRecord files that
`data.sources` reads; `catalog.SETS` lists them. `files` and `pairs` read any folder.
"""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.datasets import (
    averaging,
    builders,
    catalog,
    files,
    gopro,
    hide,
    kaggle,
    mcblur,
    pairs,
    published,
    realblur,
    unpaired,
  )
  from deblur_jax.datasets.builders import make

__all__ = [
  'averaging',
  'builders',
  'catalog',
  'files',
  'gopro',
  'hide',
  'kaggle',
  'make',
  'mcblur',
  'pairs',
  'published',
  'realblur',
  'unpaired',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'make': 'builders',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
