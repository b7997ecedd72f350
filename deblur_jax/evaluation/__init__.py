"""Scores of methods on sets of pictures, by the protocols of the papers, as tables and figures.

pictures = evaluation.open_set('pairs', directory='my_pictures', protocol='gopro')
"""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.evaluation import (
    blurred_set,
    code,
    costs,
    evaluator,
    figures,
    plan,
    protocols,
    quoted,
    restoration,
    tables,
  )
  from deblur_jax.evaluation.blurred_set import Blurred, open_set
  from deblur_jax.evaluation.restoration import Report, evaluate

__all__ = [
  'Blurred',
  'Report',
  'blurred_set',
  'code',
  'costs',
  'evaluate',
  'evaluator',
  'figures',
  'open_set',
  'plan',
  'protocols',
  'quoted',
  'restoration',
  'tables',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'Blurred': 'blurred_set',
  'Report': 'restoration',
  'evaluate': 'restoration',
  'open_set': 'blurred_set',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
