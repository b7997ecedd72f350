"""Who made a picture: the record that every restored file carries."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.provenance import disclosure
  from deblur_jax.provenance.disclosure import Record

__all__ = ['Record', 'disclosure']

__getattr__, __dir__ = lazy.attach(__name__, {'Record': 'disclosure', 'disclosure': ''})
