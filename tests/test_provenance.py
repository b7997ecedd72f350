"""Who made a picture: records survive every format, signatures hold, and nothing private leaks."""

import datetime
import json
import pathlib
from xml.etree import ElementTree

import numpy as np
from PIL import Image
import pytest

from deblur_jax import cli
from deblur_jax.photos import pictures, restore, restorer
from deblur_jax.provenance import disclosure, signature

RDF = '{http://www.w3.org/1999/02/22-rdf-syntax-ns#}'
RECORD = disclosure.Record(
  '1.2', 'mobile', True, {'weights': 'mobile', 'set': ['a=<1>']}, 'ab' * 32
)
LIGHTROOM = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" dc:format="image/jpeg"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"/>
</rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def parsed(xmp: bytes) -> ElementTree.Element:
  return ElementTree.fromstring(xmp.decode().lstrip('\ufeff'))


def source_types(xmp: bytes) -> list[str]:
  """Every DigitalSourceType, as element or attribute, as an XML parser reads them."""
  name = f'{{{disclosure.IPTC}}}DigitalSourceType'
  tree = parsed(xmp)
  found = [one.text for one in tree.iter(name)] + [one.get(name) for one in tree.iter()]
  return [one for one in found if one]


def test_a_record_is_read_back_and_replaced_not_repeated():
  once = disclosure.add(None, RECORD)
  assert disclosure.find(once) == RECORD
  other = RECORD._replace(method='wiener', is_network=False)
  twice = disclosure.add(once, other)
  assert disclosure.find(twice) == other
  assert source_types(twice) == [disclosure.BY_ALGORITHM]
  assert len(list(parsed(twice).iter(f'{RDF}Description'))) == 1
  assert disclosure.source_type(twice) == 'algorithmicallyEnhanced'


def test_what_was_there_stays_but_the_old_source_type():
  added = disclosure.add(LIGHTROOM, RECORD)
  assert source_types(added) == [disclosure.BY_NETWORK]
  first = next(parsed(added).iter(f'{RDF}Description'))
  assert first.get('{http://purl.org/dc/elements/1.1/}format') == 'image/jpeg'
  element = LIGHTROOM.replace(
    b'\n Iptc4xmpExt:DigitalSourceType="', b'><Iptc4xmpExt:DigitalSourceType>'
  )
  element = element.replace(
    b'digitalCapture"/>', b'digitalCapture</Iptc4xmpExt:DigitalSourceType></rdf:Description>'
  )
  assert source_types(element) != []
  assert source_types(disclosure.add(element, RECORD)) == [disclosure.BY_NETWORK]


@pytest.mark.parametrize('xmp', [b'\xff\xfe<\0', b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'])
def test_xmp_that_cannot_be_extended_is_refused(xmp):
  with pytest.raises(ValueError, match='cannot be extended'):
    disclosure.add(xmp, RECORD)
  assert disclosure.find(xmp) is None


@pytest.mark.parametrize(
  'filling',
  [b' ', b'<rdf:Description ', b'<Iptc4xmpExt:DigitalSourceType ', b'<deblur_jax:Record>'],
)
def test_no_xmp_makes_the_search_slow(filling):
  # If it took time that grows with the square of the length, this test would not end today.
  given = LIGHTROOM.replace(b'</rdf:RDF>', filling * (8_000_000 // len(filling)) + b'</rdf:RDF>')
  assert disclosure.find(disclosure.add(given, RECORD)) == RECORD or filling.endswith(b'Record>')


@pytest.mark.parametrize('content', ['{"version": 1}', 'nothing', '[]', '{}'])
def test_a_record_that_is_not_ours_is_none(content):
  text = f'<deblur_jax:Record>{content}</deblur_jax:Record>'
  assert disclosure.find(text.encode()) is None


@pytest.fixture(scope='module')
def photograph(tmp_path_factory):
  """Noise, so that nothing depends on the picture being sharp; with the place it was taken at."""
  path = tmp_path_factory.mktemp('private name') / 'anna.png'
  pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
  exif = Image.Exif()
  exif[0x010E] = 'at home'
  Image.fromarray(pixels).save(path, exif=exif)
  return path


def restored(source, target, *flags):
  flags = [*flags] if '--weights' in flags else ['--weights', 'polyblur', *flags]
  assert cli.main(['restore', str(source), '-o', str(target), *flags]) == 0
  return target


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif', '.avif'])
def test_every_format_carries_the_record(photograph, tmp_path, suffix):
  for name, flags in (('whole', []), ('stripped', ['--strip'])):
    path = restored(photograph, tmp_path / (name + suffix), *flags)
    record = disclosure.find(pictures.read(path).xmp)
    assert (record.method, record.is_network) == ('polyblur', False)
    assert record.settings == {'weights': 'polyblur'} | ({'strip': True} if flags else {})
    assert (b'at home' in path.read_bytes()) == (not flags)
    assert b'anna' not in path.read_bytes() and b'private' not in path.read_bytes()
  with Image.open(tmp_path / f'whole{suffix}') as image:  # as another program reads it
    places = image.info.get('xmp'), image.info.get('XML:com.adobe.xmp'), image.getexif().get(700)
    assert 'algorithmicallyEnhanced' in str(places)
  path = restored(photograph, tmp_path / f'without{suffix}', '--no-provenance')
  assert b'deblur_jax' not in path.read_bytes()


def test_inspect_makes_the_same_file_again(photograph, tmp_path, capsys):
  path = restored(photograph, tmp_path / 'a.jpg', '--strength', '0.5', '--crop', '4,4,40,40')
  capsys.readouterr()
  assert cli.main(['inspect', str(path), '--source', str(photograph)]) == 0
  output = capsys.readouterr().out
  assert 'with polyblur, a classical method' in output
  assert '--strength 0.5 --crop 4,4,40,40' in output
  assert 'the same file, bit for bit' in output
  with Image.open(path) as image:
    xmp, pixels = image.info['xmp'], np.asarray(image).copy()
  pixels[0, 0] ^= 128
  Image.fromarray(pixels).save(path, xmp=xmp, quality=100)
  assert cli.main(['inspect', str(path), '--source', str(photograph)]) == 1
  assert 'the pixels differ' in capsys.readouterr().out
  assert cli.main(['inspect', str(path), '--source', str(path)]) == 1
  assert 'is not the file it was made from' in capsys.readouterr().out


def test_results_of_python_do_not_claim_settings(photograph, tmp_path, capsys):
  polyblur = restorer.load('polyblur', strength=0.5)
  (outcome,) = restore.restore([photograph], tmp_path, polyblur).outcomes
  record = disclosure.find(pictures.read(outcome.target).xmp)
  assert record.method == 'polyblur' and record.settings is None
  assert cli.main(['inspect', str(outcome.target)]) == 0
  assert 'settings: not recorded' in capsys.readouterr().out
  assert cli.main(['inspect', str(outcome.target), '--source', str(photograph)]) == 2
  assert 'its settings are not recorded' in capsys.readouterr().err


def test_a_picture_without_a_record(photograph, capsys):
  assert cli.main(['inspect', str(photograph)]) == 0
  assert 'no record of a restoration' in capsys.readouterr().out
  assert cli.main(['inspect', str(photograph), '--source', str(photograph)]) == 2
  assert 'has no record' in capsys.readouterr().err


def test_a_file_that_cannot_be_read_does_not_stop_the_others(photograph, tmp_path, capsys):
  cut = tmp_path / 'cut.png'
  cut.write_bytes(photograph.read_bytes()[:60])
  assert cli.main(['inspect', 'nowhere.jpg', str(cut), str(photograph)]) == 1
  captured = capsys.readouterr()
  assert captured.out.startswith(f'{photograph}:\n  no record of a restoration')
  missing, damaged = captured.err.splitlines()
  assert missing == 'nowhere.jpg: No such file or directory' and damaged.startswith(f'{cut}: ')


def chain(folder: pathlib.Path, *, days: int = 30) -> tuple[str, str]:
  """(certificates, key): PEM files of a signer who is certified by an authority of his own."""
  pytest.importorskip('c2pa', reason='the extra provenance is not installed')
  x509 = pytest.importorskip('cryptography.x509', reason='cryptography is not installed')
  from cryptography.hazmat.primitives import hashes, serialization
  from cryptography.hazmat.primitives.asymmetric import ec
  from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

  now = datetime.datetime.now(datetime.UTC)
  keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ('Authority', 'Anna')}

  def certificate(subject):
    issuer, is_authority = keys['Authority'], subject == 'Authority'
    names = [
      x509.Name(
        [
          x509.NameAttribute(NameOID.COMMON_NAME, one),
          x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'Test'),
        ]
      )
      for one in (subject, 'Authority')
    ]
    usage = dict.fromkeys(
      (
        'content_commitment',
        'key_encipherment',
        'data_encipherment',
        'key_agreement',
        'encipher_only',
        'decipher_only',
      ),
      False,
    )
    built = (
      x509.CertificateBuilder(
        *reversed(names), keys[subject].public_key(), x509.random_serial_number()
      )
      .not_valid_before(now - datetime.timedelta(days=9))
      .not_valid_after(now + datetime.timedelta(days=days))
      .add_extension(x509.BasicConstraints(is_authority, None), True)
      .add_extension(
        x509.KeyUsage(
          digital_signature=not is_authority,
          key_cert_sign=is_authority,
          crl_sign=is_authority,
          **usage,
        ),
        True,
      )
      .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False)
      .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[subject].public_key()), False)
    )
    if not is_authority:
      mail = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
      built = built.add_extension(mail, False)
    signed = built.sign(issuer, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)

  form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
  (folder / 'chain.pem').write_bytes(certificate('Anna') + certificate('Authority'))
  (folder / 'key.pem').write_bytes(keys['Anna'].private_bytes(serialization.Encoding.PEM, *form))
  return str(folder / 'chain.pem'), str(folder / 'key.pem')


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif', '.avif'])
def test_a_signature_holds_until_a_bit_is_flipped(photograph, tmp_path, suffix):
  plain = restored(photograph, tmp_path / f'plain{suffix}')
  path = restored(photograph, tmp_path / f'signed{suffix}', '--sign', *chain(tmp_path))
  assert 0 < path.stat().st_size - plain.stat().st_size < 8000
  found = signature.read(path)
  assert found.valid and not found.trusted and found.problems == ()
  assert found.signer == 'Anna, Test' and found.software.startswith('deblur_jax ')
  assert found.actions == ('c2pa.opened', 'c2pa.edited')
  assert found.source_type == 'algorithmicallyEnhanced'
  assert signature.read(plain) is None
  data = bytearray(path.read_bytes())
  data[-60] ^= 1
  path.write_bytes(data)
  found = signature.read(path)
  assert not found.valid and any(problem.endswith('mismatch') for problem in found.problems)


def test_inspect_tells_of_signatures(photograph, tmp_path, capsys):
  path = restored(photograph, tmp_path / 'signed.png', '--sign', *chain(tmp_path))
  capsys.readouterr()
  assert cli.main(['inspect', str(path), '--source', str(photograph)]) == 0
  output = capsys.readouterr().out
  assert 'C2PA: signed by Anna, Test (whose certificate this computer cannot verify)' in output
  assert 'unchanged since' in output and 'the same pixels; only metadata differ' in output


def test_keys_that_cannot_sign_are_refused_before_any_work(photograph, tmp_path, capsys):
  (tmp_path / 'expired').mkdir()
  (tmp_path / 'other').mkdir()
  certificates, _ = chain(tmp_path)
  expired, other = chain(tmp_path / 'expired', days=-1), chain(tmp_path / 'other')
  text = tmp_path / 'text.pem'
  text.write_text('hello')
  for pair, message in (
    ((certificates, tmp_path / 'none.pem'), 'none.pem: no such file'),
    ((certificates, text), 'not a PEM file'),
    (expired, 'was not valid at time of signing'),
    ((certificates, other[1]), 'does not match'),
  ):
    target = tmp_path / 'result.png'
    flags = ['--weights', 'polyblur', '--sign', *map(str, pair)]
    assert cli.main(['restore', str(photograph), '-o', str(target), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert not target.exists()


def test_settings_in_a_signature_are_those_of_the_record(photograph, tmp_path):
  c2pa = pytest.importorskip('c2pa', reason='the extra provenance is not installed')
  path = restored(photograph, tmp_path / 's.png', '--strength', '0.5', '--sign', *chain(tmp_path))
  with open(path, 'rb') as file:
    report = json.loads(c2pa.Reader('image/png', file).json())
  active = report['manifests'][report['active_manifest']]
  (assertion,) = [one for one in active['assertions'] if one['label'].startswith('c2pa.actions')]
  parameters = assertion['data']['actions'][1]['parameters']
  assert parameters == {'method': 'polyblur', 'settings': {'weights': 'polyblur', 'strength': 0.5}}
  assert str(tmp_path).encode() not in path.read_bytes()
