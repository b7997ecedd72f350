"""How far a restored picture may be from the sharp one: spread, and intervals with a guarantee."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.uncertainty import conformal, spread
  from deblur_jax.uncertainty.conformal import Calibration, calibrate

__all__ = ['Calibration', 'calibrate', 'conformal', 'spread']

_HOMES = dict.fromkeys(__all__, '') | {'Calibration': 'conformal', 'calibrate': 'conformal'}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
