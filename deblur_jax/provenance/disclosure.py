"""The record of a restoration in a picture's XMP (ISO 16684-1), read and written.

Two things are added to whatever XMP a picture has: IPTC's DigitalSourceType, which says that
software changed the picture, and a record of how, as JSON in a namespace of our own: version,
method, settings, and the digest of the file it was made from. It holds no names, places or times,
so restoring the same file again gives the same bytes.
"""

from collections.abc import Mapping
import json
import re
from typing import Any, NamedTuple
from xml.sax import saxutils

NAMESPACE = 'urn:deblur_jax:provenance#'
IPTC = 'http://iptc.org/std/Iptc4xmpExt/2008-02-29/'
SOURCE_TYPES = 'http://cv.iptc.org/newscodes/digitalsourcetype/'
BY_NETWORK = SOURCE_TYPES + 'compositeWithTrainedAlgorithmicMedia'
BY_ALGORITHM = SOURCE_TYPES + 'algorithmicallyEnhanced'

_EMPTY = (
  '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
  '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
  '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
  '</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>'
)
_OURS = f'xmlns:deblur_jax="{NAMESPACE}"'
_START, _STOP = '<rdf:Description', '</rdf:Description>'
_OPEN, _CLOSE = '<deblur_jax:Record>', '</deblur_jax:Record>'
_END = '</rdf:RDF>'

# Bounded, so that no file can make the search slow.
_SOURCE_TYPE = re.compile(
  r'<Iptc4xmpExt:DigitalSourceType\b[^<>]{0,300}'
  r'(?:/>|>[^<]{0,300}</Iptc4xmpExt:DigitalSourceType>)'
  r'|\sIptc4xmpExt:DigitalSourceType=(?:"[^"]{0,300}"|\'[^\']{0,300}\')'
)


class Record(NamedTuple):
  """How a file was made."""

  version: str
  """Of deblur_jax."""
  method: str
  """Name of the weights, or of the classical method, that made the pixels."""
  is_network: bool
  settings: Mapping[str, Any] | None
  """The options of `deblur-jax restore` that the result depends on, with the digest of the weights;
  None if it was made from Python, where not all of them are known."""
  source_sha256: str
  """Of the file that was restored."""

  @property
  def source_type(self) -> str:
    """IPTC's term for such a picture."""
    return BY_NETWORK if self.is_network else BY_ALGORITHM


def add(xmp: bytes | None, record: Record) -> bytes:
  """`xmp` with the record, instead of one that is there; a new packet if there is none.

  Everything else stays as it is. Raises ValueError if `xmp` is not RDF in UTF-8.
  """
  try:
    text = xmp.decode() if xmp else _EMPTY
  except UnicodeDecodeError:
    raise ValueError('XMP that is not UTF-8 cannot be extended') from None
  text = _SOURCE_TYPE.sub('', _without_ours(text))
  end = text.rfind(_END)
  if end < 0:
    raise ValueError('XMP without RDF cannot be extended')
  content = saxutils.escape(json.dumps(record._asdict()))
  added = (
    f'\n<rdf:Description rdf:about="" xmlns:deblur_jax="{NAMESPACE}" xmlns:Iptc4xmpExt="{IPTC}">\n'
    f'<Iptc4xmpExt:DigitalSourceType>{record.source_type}</Iptc4xmpExt:DigitalSourceType>\n'
    f'{_OPEN}{content}{_CLOSE}\n'
    f'{_STOP}\n'
  )
  return (text[:end] + added + text[end:]).encode()


def _without_ours(text: str) -> str:
  """`text` without the first record in it; `add` never leaves two."""
  at = text.find(_OURS)
  start, stop = text.rfind(_START, 0, max(at, 0)), text.find(_STOP, max(at, 0))
  if at < 0 or start < 0 or stop < 0:
    return text
  return text[:start].rstrip('\n') + text[stop + len(_STOP) :]


def find(xmp: bytes | None) -> Record | None:
  """The record in `xmp`; None if there is none, or none that can be read."""
  text = (xmp or b'').decode(errors='replace')
  start = text.find(_OPEN)
  stop = text.find(_CLOSE, max(start, 0))
  if start < 0 or stop < 0:
    return None
  try:
    return Record(**json.loads(saxutils.unescape(text[start + len(_OPEN) : stop])))
  except (ValueError, TypeError):
    return None


def source_type(xmp: bytes | None) -> str:
  """The last word of the picture's DigitalSourceType, by whatever program; '' if it has none."""
  found = re.search(re.escape(SOURCE_TYPES) + r'(\w+)', (xmp or b'').decode(errors='replace'))
  return found[1] if found else ''
