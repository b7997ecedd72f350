"""Who made a picture: the record that every restored file carries."""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.provenance import disclosure, signature
  from deblur_jax.provenance.disclosure import Record
  from deblur_jax.provenance.signature import Signature, Signer

__all__ = ['Record', 'Signature', 'Signer', 'disclosure', 'signature']

_HOMES = dict.fromkeys(__all__, '') | {
  'Record': 'disclosure',
  'Signature': 'signature',
  'Signer': 'signature',
}
__getattr__, __dir__ = lazy.attach(__name__, _HOMES)
