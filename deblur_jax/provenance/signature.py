"""C2PA: signs a restored picture, and reads the signatures of any program (C2PA 2.2).

The manifest says that an existing picture was opened and edited, by which software and method, and
what kind of source the result is. Nothing is fetched: no time stamp, no remote manifest, no list of
trusted certificates.
"""

import io
import json
import os
import pathlib
from typing import Any, NamedTuple

from deblur_jax import atomic
from deblur_jax.formats import kinds
from deblur_jax.provenance.disclosure import SOURCE_TYPES, Record

FORMATS = {
  'jpeg': 'image/jpeg',
  'png': 'image/png',
  'webp': 'image/webp',
  'tiff': 'image/tiff',
  'heif': 'image/avif',
}
"""Media types by the kinds of `formats.kinds`."""

ALGORITHMS = ('es256', 'es384', 'es512', 'ps256', 'ps384', 'ps512', 'ed25519')
UNTRUSTED = 'signingCredential.untrusted'

_PIXEL = bytes.fromhex(
  '89504e470d0a1a0a0000000d4948445200000001000000010800000000'
  '3a7e9b550000000a49444154789c6360000000020001e527de'
  'fc0000000049454e44ae426082'
)
"""A PNG of one pixel, to try a key with."""


class Signature(NamedTuple):
  """What a signed file says about itself."""

  valid: bool
  """Whether nothing was changed since it was signed."""
  trusted: bool
  """Whether the signer is known to the reader; those with a private certificate never are."""
  problems: tuple[str, ...]
  """C2PA's codes of what does not hold, such as assertion.dataHash.mismatch."""
  signer: str
  software: str
  actions: tuple[str, ...]
  source_type: str
  """The last word of the DigitalSourceType; '' if none is stated."""


class Signer:
  """Signs files with a chain of certificates and the private key of the first, as PEM files.

  Raises ValueError if c2pa-python is not installed, a file is not PEM, the certificate has expired
  or the key is not its own; FileNotFoundError if a file is missing.
  """

  def __init__(self, certificates: str | os.PathLike[str], key: str | os.PathLike[str]):
    self._c2pa = _library()
    chain, secret = _pem(certificates), _pem(key)
    reason = ''
    for algorithm in ALGORITHMS:
      try:
        info = self._c2pa.C2paSignerInfo(
          alg=algorithm.encode(), sign_cert=chain, private_key=secret, ta_url=None
        )
        self._signer = self._c2pa.Signer.from_info(info)
        self._sign(io.BytesIO(_PIXEL), io.BytesIO(), 'image/png', {}, None)
        return
      except self._c2pa.C2paError as error:
        # That of the algorithm which gets furthest: others do not even read the key.
        reason = max(reason, _reason(error), key=lambda text: text.startswith('Signature'))
    raise ValueError(f'{certificates} and {key} cannot sign ({reason})')

  def sign(self, path: pathlib.Path, source: pathlib.Path, record: Record) -> None:
    """Signs the file `path`, which was restored from `source`, in place.

    Raises ValueError if its format cannot be signed.
    """
    form, original = _form(path), _form(source)
    if form is None:
      raise ValueError(f'{path.name}: {path.suffix} files cannot be signed')
    try:
      with (
        open(path, 'rb') as given,
        atomic.replacing(path) as partial,
        open(partial, 'w+b') as result,
      ):
        self._sign(given, result, form, _manifest(record), (source, original))
    except self._c2pa.C2paError as error:
      raise ValueError(f'{path.name}: cannot be signed ({_reason(error)})') from None

  def _sign(self, given: Any, result: Any, form: str, manifest: dict, original: Any) -> None:
    settings = self._c2pa.Settings.from_dict({'builder': {'thumbnail': {'enabled': False}}})
    builder = self._c2pa.Builder(manifest, self._c2pa.Context(settings))
    builder.set_intent(self._c2pa.C2paBuilderIntent.EDIT)
    if original and original[1]:  # otherwise the result stands in for it
      ingredient = json.dumps({'title': 'original', 'relationship': 'parentOf'})
      with open(original[0], 'rb') as file:
        builder.add_ingredient(ingredient, original[1], file)
    builder.sign(self._signer, form, given, result)


def read(path: str | os.PathLike[str]) -> Signature | None:
  """The signature in a file; None if it has none.

  Raises ValueError if c2pa-python is not installed, FileNotFoundError if there is no file.
  """
  c2pa = _library()
  form = _form(pathlib.Path(path))
  if form is None:
    return None
  try:
    with open(path, 'rb') as file:
      report = json.loads(c2pa.Reader(form, file).json())
  except c2pa.C2paError:
    return None
  return _signature(report)


def _signature(report: dict[str, Any]) -> Signature:
  active = report['manifests'][report['active_manifest']]
  codes = [one['code'] for one in report.get('validation_status', ())]
  info = active.get('signature_info', {})
  software = active.get('claim_generator_info', [{}])[0]
  actions = [
    action
    for assertion in active.get('assertions', ())
    if assertion['label'].startswith('c2pa.actions')
    for action in assertion['data'].get('actions', ())
  ]
  stated = [one['digitalSourceType'] for one in actions if 'digitalSourceType' in one]
  return Signature(
    valid=report.get('validation_state') in ('Valid', 'Trusted'),
    trusted=report.get('validation_state') == 'Trusted',
    problems=tuple(code for code in codes if code != UNTRUSTED),
    signer=', '.join(filter(None, (info.get('common_name'), info.get('issuer')))),
    software=' '.join(filter(None, (software.get('name'), software.get('version')))),
    actions=tuple(one['action'] for one in actions),
    source_type=stated[-1].removeprefix(SOURCE_TYPES) if stated else '',
  )


def _manifest(record: Record) -> dict[str, Any]:
  edited = {
    'action': 'c2pa.edited',
    'softwareAgent': {'name': 'deblur_jax', 'version': record.version},
    'digitalSourceType': record.source_type,
    'parameters': {'method': record.method, 'settings': record.settings and dict(record.settings)},
  }
  return {
    'claim_generator_info': [{'name': 'deblur_jax', 'version': record.version}],
    'assertions': [{'label': 'c2pa.actions.v2', 'data': {'actions': [edited]}}],
  }


def _form(path: pathlib.Path) -> str | None:
  """The media type of a file by its suffix; None if its kind cannot be signed."""
  return FORMATS.get(kinds.SUFFIXES.get(path.suffix.lower(), ''))


def _library() -> Any:
  try:
    import c2pa  # pyright: ignore[reportMissingImports]  # an extra
  except ImportError:
    raise ValueError("signatures need pip install 'deblur-jax[provenance]'") from None
  return c2pa


def _pem(path: str | os.PathLike[str]) -> bytes:
  try:
    data = pathlib.Path(path).read_bytes()
  except FileNotFoundError:
    raise FileNotFoundError(f'{path}: no such file') from None
  if b'-----BEGIN' not in data:
    raise ValueError(f'{path}: not a PEM file')
  return data


def _reason(error: Exception) -> str:
  return next(iter(str(error).splitlines()), type(error).__name__)
