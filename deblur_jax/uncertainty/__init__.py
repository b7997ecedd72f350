"""How far a restored picture may be from the sharp one, and how likely it is better at all."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.uncertainty import conformal, head, measures, reliability, spread, stored
  from deblur_jax.uncertainty.conformal import Calibration, calibrate

__all__ = [
  'Calibration',
  'calibrate',
  'conformal',
  'head',
  'measures',
  'reliability',
  'spread',
  'stored',
]

_HOMES = dict.fromkeys(__all__, '') | {'Calibration': 'conformal', 'calibrate': 'conformal'}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
