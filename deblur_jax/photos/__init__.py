"""Photograph files: reading, restoring and writing them with their metadata."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.photos import (
    assessment,
    blind_check,
    cluster,
    diagnosis,
    forensics,
    guided,
    history,
    interrupt,
    jobs,
    pictures,
    psfs,
    restore,
    restorer,
    sheet,
    trust,
    writing,
  )
  from deblur_jax.photos.restore import Options, restore_files
  from deblur_jax.photos.restorer import Restorer, load

__all__ = [
  'Options',
  'Restorer',
  'assessment',
  'blind_check',
  'cluster',
  'diagnosis',
  'forensics',
  'guided',
  'history',
  'interrupt',
  'jobs',
  'load',
  'pictures',
  'psfs',
  'restore',
  'restore_files',
  'restorer',
  'sheet',
  'trust',
  'writing',
]

_HOMES = dict.fromkeys(__all__, '') | {
  'Options': 'restore',
  'Restorer': 'restorer',
  'load': 'restorer',
  'restore_files': 'restore',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
