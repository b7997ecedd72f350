"""What calibration found out about a method, beside its weights.

`deblur-jax calibrate` writes it into the manifest of a copy of the weights. For methods that come
with the package it is in one file, so that their weights stay as they are.
"""

from collections.abc import Mapping
import functools
import json
import os
from typing import Any, NamedTuple

from deblur_jax import methods, weights
from deblur_jax.uncertainty.conformal import Calibration
from deblur_jax.uncertainty.reliability import Reliability

SHIPPED = methods.SHIPPED / 'calibrations.json'
"""Digest of weights, or name of a classical method -> what `Stored.plain` returns."""


class Stored(NamedTuple):
  """What is known about the uncertainty of a method."""

  intervals: Calibration | None
  """None for classical methods, which have no spread."""
  reliability: Reliability | None

  def plain(self) -> dict[str, Any]:
    """As JSON values, the entries of a manifest."""
    found = {'uncertainty': self.intervals, 'reliability': self.reliability}
    return {name: one._asdict() for name, one in found.items() if one}


def find(name: str | os.PathLike[str]) -> Stored | None:
  """What is stored for a method, see `methods.find`; None if nothing is.

  Of a classical method it is for PSFs that are estimated. Raises as `methods.find`.
  """
  if methods.is_solver(name):
    return _stored(_shipped().get(os.fspath(name), {}))
  path = methods.find(name)
  if path.suffix in methods.EXPORTED:
    return None
  manifest = weights.read(path)[1]
  return _stored(manifest) or _stored(_shipped().get(manifest['sha256'], {}))


def _stored(entries: Mapping[str, Any]) -> Stored | None:
  intervals, reliability = entries.get('uncertainty'), entries.get('reliability')
  if not intervals and not reliability:
    return None
  return Stored(
    Calibration(**intervals) if intervals else None,
    Reliability(**reliability) if reliability else None,
  )


@functools.cache
def _shipped() -> Mapping[str, Any]:
  return json.loads(SHIPPED.read_text()) if SHIPPED.exists() else {}
