"""Paired data sets made from folders of sharp pictures or films, in the layout of GoPro.

jobs = pair_making.plan.pictures(['photos'], 'output')
outcomes = list(pair_making.pairs(jobs, 'output', pair_making.Mix('shake(9..31)', seed=0)))
"""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.pair_making import (
    make,
    plan,
  )
  from deblur_jax.pair_making.make import Film, Mix, Outcome, pairs

__all__ = [
  'Film',
  'Mix',
  'Outcome',
  'make',
  'pairs',
  'plan',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'Film': 'make',
  'Mix': 'make',
  'Outcome': 'make',
  'pairs': 'make',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
