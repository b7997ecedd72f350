"""Photographs as files: reading, restoring and writing them with all that is not pixels."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.photos import (
    blind_check,
    diagnosis,
    history,
    interrupt,
    jobs,
    pictures,
    restore,
  )
  from deblur_jax.photos.restore import Options, Restorer, load, restore_files

__all__ = [
  'Options',
  'Restorer',
  'blind_check',
  'diagnosis',
  'history',
  'interrupt',
  'jobs',
  'load',
  'pictures',
  'restore',
  'restore_files',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'Options': 'restore',
  'Restorer': 'restore',
  'load': 'restore',
  'restore_files': 'restore',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
