"""Scores of methods on sets of pictures, by the protocols of the papers, as tables and figures.

pictures = evaluation.open_set('pairs', directory='my_pictures', protocol='gopro')
"""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.evaluation import (
    code,
    costs,
    evaluator,
    figures,
    protocols,
    quoted,
    restoration,
    tables,
  )
  from deblur_jax.evaluation.restoration import Report, evaluate, open_set

__all__ = [
  'Report',
  'code',
  'costs',
  'evaluate',
  'evaluator',
  'figures',
  'open_set',
  'protocols',
  'quoted',
  'restoration',
  'tables',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'Report': 'restoration',
  'evaluate': 'restoration',
  'open_set': 'restoration',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
