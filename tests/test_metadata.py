"""What files say beside their pixels survives, or is named: built by hand, read by others."""

import dataclasses
import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.PngImagePlugin
import pytest
from test_pictures import reopened, scene, through, values, vips
import tifffile

from deblur_jax import color
from deblur_jax.datasets import files
from deblur_jax.formats import avif, exif, jpeg, png
from deblur_jax.photos import pictures

XMP = (
  b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
  b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
  b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
  b'<?xpacket end="w"?>'
)


def chunks_of(path):
  with open(path, 'rb') as file:
    return list(png.chunks(file))


def with_chunks(data, before=(), after=()):
  """A PNG with chunks added in front of its pixels and behind them."""

  def packed(chunks):
    return b''.join(
      struct.pack('>I4s', len(body), name) + body + struct.pack('>I', zlib.crc32(name + body))
      for name, body in chunks
    )

  return data[:33] + packed(before) + data[33:-12] + packed(after) + data[-12:]


def encoded(form, image=None, **options):
  file = io.BytesIO()
  PIL.Image.fromarray(scene() if image is None else image).save(file, form, **options)
  return file.getvalue()


def exif_block(**tags):
  block = PIL.Image.Exif()
  for tag, value in tags.items():
    block[getattr(PIL.ExifTags.Base, tag).value] = value
  return block.tobytes().removeprefix(b'Exif\0\0')


# PNG.


@pytest.mark.parametrize('place', ['before', 'after'])
def test_png_chunks_survive_wherever_they_are(tmp_path, place):
  packed = b'Long story\0\0' + zlib.compress(b'once upon a time ' * 20)
  given = [
    (b'tEXt', b'Creation Time\0Thu, 02 Jan 2020'),
    (b'zTXt', packed),
    (b'iTXt', 'Title\0\0\0de\0Titel\0Überschrift'.encode()),
    (b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + XMP % 1),
    (b'eXIf', exif_block(Make='A camera', HostComputer='A computer')),
    (b'pHYs', struct.pack('>IIB', 3000, 4000, 1)),
    (b'prVt', b'private, safe to copy'),
  ]
  given += [(b'tEXt', b'note %d\0text %d' % (i, i)) for i in range(120)]
  (tmp_path / 'a.png').write_bytes(with_chunks(encoded('PNG'), **{place: given}))
  result = through(tmp_path / 'a.png', tmp_path / 'out')
  found = chunks_of(result)
  for chunk in given:
    assert chunk in found, chunk[0]
  names = [name for name, _ in found]
  assert len(found) == len(given) + 2 + names.count(b'IDAT')  # and IHDR, IEND
  np.testing.assert_array_equal(values(result), scene())
  with PIL.Image.open(result) as image:
    image.load()
    assert image.text['Long story'] == 'once upon a time ' * 20
    assert image.getexif()[PIL.ExifTags.Base.HostComputer] == 'A computer'


@pytest.mark.parametrize('keyword', ['Raw profile type exif', 'Raw profile type APP1'])
def test_exif_in_a_raw_profile_is_read_and_becomes_a_chunk(tmp_path, keyword):
  block = exif_block(Make='A camera', Orientation=6)
  digits = (b'Exif\0\0' + block).hex()
  text = f'\nexif\n{len(digits) // 2:8}\n' + '\n'.join(
    digits[i : i + 72] for i in range(0, len(digits), 72)
  )
  chunk = (b'zTXt', keyword.encode() + b'\0\0' + zlib.compress(text.encode()))
  (tmp_path / 'a.png').write_bytes(with_chunks(encoded('PNG'), [chunk]))
  assert pictures.size(tmp_path / 'a.png') == (60, 40)
  result = through(tmp_path / 'a.png', tmp_path / 'out')
  np.testing.assert_array_equal(values(result), np.rot90(scene(), -1))
  with PIL.Image.open(result) as image:
    found = image.getexif()
    assert dict(found) == {0x010F: 'A camera', 0x0112: 1}
  assert b'zTXt' not in dict(chunks_of(result))


COLORS = {
  b'cICP': bytes([9, 16, 0, 1]),
  b'gAMA': struct.pack('>I', 100_000),
  b'cHRM': struct.pack('>8I', 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
  b'sRGB': b'\0',
  b'mDCV': bytes(24),
  b'cLLI': struct.pack('>II', 10_000_000, 4_000_000),
}


@pytest.mark.parametrize('strip', [False, True])
@pytest.mark.parametrize('name', COLORS)
def test_png_color_descriptions_survive(tmp_path, name, strip):
  chunk = (name, COLORS[name])
  (tmp_path / 'a.png').write_bytes(with_chunks(encoded('PNG'), [chunk]))
  assert chunk in chunks_of(through(tmp_path / 'a.png', tmp_path / 'out', strip=strip))


@pytest.mark.parametrize(
  'chunks, name, light',
  [
    ([], 'sRGB', 0.214041),
    ([(b'gAMA', struct.pack('>I', 100_000))], 'linear', 0.5),
    ([(b'gAMA', struct.pack('>I', 45_455))], 'gamma 2.2', 0.5**2.2),
    ([(b'gAMA', struct.pack('>I', 100_000)), (b'sRGB', b'\0')], 'sRGB', 0.214041),
    ([(b'gAMA', struct.pack('>I', 45_455)), (b'cICP', bytes([1, 8, 0, 1]))], 'linear', 0.5),
  ],
)
def test_the_transfer_curve_of_a_png(tmp_path, chunks, name, light):
  (tmp_path / 'a.png').write_bytes(with_chunks(encoded('PNG'), chunks))
  curve = pictures.read(tmp_path / 'a.png').transfer
  assert curve.name == name and curve.to_linear(np.float64(0.5)) == pytest.approx(light, rel=1e-4)


def test_the_transfer_curve_of_a_profile_counts_before_gamma(tmp_path, shared):
  profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes()
  chunks = [(b'gAMA', struct.pack('>I', 100_000))]
  (tmp_path / 'a.png').write_bytes(with_chunks(encoded('PNG', icc_profile=profile), chunks))
  curve = pictures.read(tmp_path / 'a.png').transfer
  assert curve.to_linear(np.float64(0.5)) == pytest.approx(0.214041, rel=1e-3)
  linear = pictures.read(shared('cases/10_linear_light_profile/linear.tif')).transfer
  assert linear.to_linear(np.float64(0.5)) == pytest.approx(0.5, abs=1e-4)


def test_what_does_not_fit_a_changed_png_is_named(tmp_path):
  control = struct.pack('>II', 4, 0)
  given = [(b'caBX', b'provenance'), (b'acTL', control)]
  (tmp_path / 'a.png').write_bytes(with_chunks(encoded('PNG'), given))
  assert pictures.read(tmp_path / 'a.png').notes == (
    'only the first of the 4 frames of this animation is restored',
    'not kept: PNG chunks caBX, which do not fit a changed picture',
  )


# Orientation.


def oriented(form, by_exif, by_xmp, place='before'):
  """A file whose orientation stands in EXIF, in XMP, or both."""
  more = {}
  if by_exif:
    more['exif'] = PIL.Image.Exif()
    more['exif'][0x0112] = by_exif
  if form == 'PNG':
    chunks = [(b'eXIf', exif_block(Orientation=by_exif))] if by_exif else []
    chunks += [(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + XMP % by_xmp)] if by_xmp else []
    return with_chunks(encoded('PNG'), **{place: chunks})
  if by_xmp and form == 'TIFF':
    more['exif'] = more.get('exif', PIL.Image.Exif())
    more['exif'][700] = XMP % by_xmp
  elif by_xmp:
    more['xmp'] = XMP % by_xmp
  if form in ('JPEG', 'WEBP'):
    more['quality'] = 98
  return encoded(form, **more)


@pytest.mark.parametrize('place', ['before', 'after'])
@pytest.mark.parametrize('by_exif, by_xmp', [(6, 0), (0, 6), (6, 8), (1, 8), (3, 0), (0, 3)])
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_orientation_is_that_of_exif_or_else_of_xmp(tmp_path, form, by_exif, by_xmp, place):
  path = tmp_path / f'a.{form.lower()}'
  path.write_bytes(oriented(form, by_exif, by_xmp, place))
  turns = {1: 0, 3: 2, 6: -1, 8: 1}[by_exif or by_xmp]
  upright = np.rot90(scene(), turns)
  picture = pictures.read(path)
  assert pictures.size(path) == files.size(path) == upright.shape[:2]
  pixels = picture.rows(0, picture.shape[0])
  assert np.abs(pixels.astype(int) - upright).mean() < 4
  np.testing.assert_allclose(files.read(path), pixels, atol=2)  # another JPEG decoder
  result = through(path, tmp_path / 'out')
  assert pictures.read(result).metadata.orientation == 1
  assert np.abs(files.read(result).astype(int) - upright).mean() < 4
  if by_xmp:
    assert b'tiff:Orientation="1"' in result.read_bytes()


# JPEG.


def segment(marker, body):
  return struct.pack('>BBH', 0xFF, marker, len(body) + 2) + body


def jpeg_with(*parts, **options):
  data = encoded('JPEG', quality=95, **options)
  header = 2 + 2 + struct.unpack_from('>H', data, 4)[0]
  return data[:header] + b''.join(segment(*part) for part in parts) + data[header:]


def test_jpeg_segments_survive(tmp_path):
  parts = [
    (0xE1, b'Exif\0\0' + exif_block(Make='M', HostComputer='host', ProcessingSoftware='proc')),
    (0xE1, b'http://ns.adobe.com/xap/1.0/\0' + XMP % 1),
    (0xE1, b'http://ns.adobe.com/xmp/extension/\0' + b'0' * 32 + bytes(8) + b'<more/>'),
    (0xED, b'Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08\x1c\x02\x78\0\x03abc'),
    (0xFE, b'a comment'),
    (0xFE, b'another'),
    (0xE5, b'of a camera maker'),
  ]
  (tmp_path / 'a.jpg').write_bytes(jpeg_with(*parts))
  result = through(tmp_path / 'a.jpg', tmp_path / 'out')
  found = [(part.marker, part.body) for part in jpeg.segments(result.read_bytes())]
  for part in parts:
    assert found.count(part) == 1, part
  with PIL.Image.open(result) as image:
    found = dict(image.getexif())
  assert (found[0x010F], found[0x013C], found[0x000B]) == ('M', 'host', 'proc')


@pytest.mark.parametrize('strip', [False, True])
@pytest.mark.parametrize('dpi', [None, (300, 200)])
def test_no_density_is_made_up(tmp_path, dpi, strip):
  for form in ('JPEG', 'PNG', 'TIFF'):
    path = tmp_path / f'a.{form.lower()}'
    path.write_bytes(encoded(form, **({'dpi': dpi} if dpi else {})))
    result = through(path, tmp_path / 'out', strip=strip)
    with PIL.Image.open(path) as given, PIL.Image.open(result) as found:
      assert found.info.get('dpi') == given.info.get('dpi'), form


def test_densities_turn_with_the_picture(tmp_path):
  block = exif_block(Orientation=6)
  (tmp_path / 'a.jpg').write_bytes(jpeg_with((0xE1, b'Exif\0\0' + block), dpi=(300, 200)))
  with PIL.Image.open(through(tmp_path / 'a.jpg', tmp_path / 'out')) as image:
    assert image.info['jfif_density'] == (200, 300)


def test_provenance_and_further_pictures_are_named(tmp_path, shared):
  (tmp_path / 'a.jpg').write_bytes(jpeg_with((0xEB, b'JP\0\1\0\0\0\1c2pa')))
  assert 'APP11' in pictures.read(tmp_path / 'a.jpg').notes[0]
  views = [PIL.Image.fromarray(scene()) for _ in range(3)]
  views[0].save(tmp_path / 'b.jpg', 'MPO', save_all=True, append_images=views[1:])
  expected = ('only the first of the 3 pictures in this file is restored',)
  assert pictures.read(tmp_path / 'b.jpg').notes == expected
  result = through(tmp_path / 'b.jpg', tmp_path / 'out')
  assert not pictures.read(result).notes and b'MPF\0' not in result.read_bytes()
  assert 'the 2 pictures' in pictures.read(shared('cases/17_mpo_second_view/in.jpg')).notes[0]


def test_exif_in_place_keeps_all_else(tmp_path):
  block = exif_block(Make='A camera', Orientation=8, ImageWidth=60, ImageLength=40)
  changed = exif.upright(block, 40, 60, None)
  assert len(changed) == len(block)
  found = PIL.Image.Exif()
  found.load(b'Exif\0\0' + changed)
  assert dict(found) == {0x010F: 'A camera', 0x0112: 1, 0x0100: 40, 0x0101: 60}


def test_damaged_exif_is_no_crash():
  sound = exif_block(Make='A camera', Orientation=8, ImageWidth=60, ImageLength=40)
  rng = np.random.default_rng(0)
  for _ in range(500):
    bad = bytearray(sound)
    for at in rng.integers(0, len(bad), 4):
      bad[at] = rng.integers(256)
    bad = bytes(bad[: rng.integers(1, len(bad) + 1)])
    assert exif.orientation(bad, None) in range(1, 9)
    exif.upright(bad, 40, 60, b'thumbnail')


# TIFF.


def test_near_infrared_is_no_alpha_and_geo_tags_stay(tmp_path):
  image = scene(channels=4)
  geo = [
    (33550, 'd', 3, (0.5, 0.5, 0.0), True),
    (33922, 'd', 6, (0, 0, 0, 500000.0, 5200000.0, 0.0), True),
    (34735, 'H', 4, (1, 1, 0, 0), True),
    (42113, 's', 0, '0', True),
  ]
  options = {'photometric': 'rgb', 'extrasamples': ['unspecified'], 'metadata': None}
  tifffile.imwrite(tmp_path / 'a.tif', image, extratags=geo, **options)
  picture = pictures.read(tmp_path / 'a.tif')
  assert not picture.notes
  result = through(tmp_path / 'a.tif', tmp_path / 'out')
  with tifffile.TiffFile(result) as file:
    tags = file.pages[0].tags
    assert tags['ExtraSamples'].value == (0,)
    for tag, _, _, value, _ in geo:
      assert tags[tag].value == value
    np.testing.assert_array_equal(file.asarray(), image)


def test_geo_tags_of_a_turned_picture_and_unknown_tags_are_named(tmp_path):
  geo = [(33550, 'd', 3, (0.5, 0.5, 0.0), True), (65000, 'H', 1, 7, True)]
  geo += [(274, 'H', 1, 6, True)]
  tifffile.imwrite(tmp_path / 'a.tif', scene(), extratags=geo, photometric='rgb')
  assert pictures.read(tmp_path / 'a.tif').notes == ('not kept: TIFF tags 33550, 65000',)
  result = through(tmp_path / 'a.tif', tmp_path / 'out')
  with tifffile.TiffFile(result) as file:
    assert 33550 not in file.pages[0].tags and file.pages[0].tags[274].value == 1


# AVIF.


def test_color_codes_and_light_levels_of_avif_survive(tmp_path, shared):
  path = shared('cases/05_avif_hdr_nclx/in.avif')
  picture = pictures.read(path)
  assert picture.metadata.cicp == (9, 16, 9) and picture.transfer is color.CICP[16]
  assert not picture.notes
  assert pictures.write(tmp_path / 'a.avif', picture, picture) == ()
  result = pictures.read(tmp_path / 'a.avif')
  assert result.metadata.cicp[:2] == (9, 16) and result.dtype == np.uint16
  data = (tmp_path / 'a.avif').read_bytes()
  levels = [data[at:end] for name, at, end in avif.properties(data) if name == b'clli']
  assert levels == [struct.pack('>HH', 470, 263)]
  pixels = [one.rows(0, 200).astype(int) for one in (picture, result)]
  assert np.abs(pixels[0] - pixels[1]).mean() < 0.01 * 65535


@pytest.mark.parametrize('channels', [3, 4])
@pytest.mark.parametrize('codes', [(1, 13), (12, 13), (9, 16), (9, 18)])
def test_color_codes_can_be_written_into_any_avif(tmp_path, codes, channels):
  vips(scene(64, 96, channels)).heifsave(str(tmp_path / 'a.avif'), compression='av1', Q=95)
  picture = pictures.read(tmp_path / 'a.avif')
  like = dataclasses.replace(picture, metadata=picture.metadata._replace(cicp=(*codes, 6)))
  assert pictures.write(tmp_path / 'b.avif', picture, like) == ()
  assert pictures.read(tmp_path / 'b.avif').metadata.cicp == (*codes, 6)
  for path in (tmp_path / 'b.avif', tmp_path / 'a.avif'):
    with PIL.Image.open(path) as image:  # another decoder
      difference = np.asarray(image, int) - scene(64, 96, channels)
    assert np.abs(difference[..., :3]).mean() < 6


# From one kind to another.


def in_srgb(icc, code):
  """A code value in sRGB, by LittleCMS."""
  source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(icc))
  target = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB'))
  image = PIL.Image.fromarray(np.full((1, 1, 3), code, np.uint8))
  return np.asarray(PIL.ImageCms.profileToProfile(image, source, target, renderingIntent=1))[0, 0]


@pytest.mark.parametrize('target', ['jpeg', 'webp', 'tiff'])
@pytest.mark.parametrize(
  'chunks, code, srgb',
  [
    # Half of the light is 188 in sRGB; a gamma of 2.2 differs from sRGB's curve in the dark.
    ([(b'gAMA', struct.pack('>I', 100_000))], (128, 128, 128), (188, 188, 188)),
    ([(b'gAMA', struct.pack('>I', 45_455))], (20, 128, 200), (12, 129, 201)),
    # Display P3 has sRGB's curve and wider primaries: grey stays, skin gets redder codes.
    ([(b'cICP', bytes([12, 13, 0, 1]))], (128, 128, 128), (128, 128, 128)),
    ([(b'cICP', bytes([12, 13, 0, 1]))], (160, 120, 100), (167, 118, 97)),
    ([(b'cICP', bytes([1, 8, 0, 1]))], (128, 128, 128), (188, 188, 188)),
    (
      [(b'gAMA', struct.pack('>I', 45_455)), (b'cHRM', COLORS[b'cHRM'])],
      (160, 120, 100),
      (169, 119, 96),
    ),
  ],
)
def test_colors_without_a_profile_become_one(tmp_path, target, chunks, code, srgb):
  (tmp_path / 'a.png').write_bytes(with_chunks(encoded('PNG'), chunks))
  picture = dataclasses.replace(pictures.read(tmp_path / 'a.png'), kind=target)
  assert pictures.write(tmp_path / 'out', picture, picture) == ()
  result = pictures.read(tmp_path / 'out')
  levels = np.linspace(0, 1, 9)
  np.testing.assert_allclose(
    result.transfer.to_linear(levels), picture.transfer.to_linear(levels), atol=1e-4
  )
  icc = result.image.get('icc-profile-data')
  np.testing.assert_allclose(in_srgb(icc, code), srgb, atol=1)


def test_color_codes_of_avif_go_to_png_as_they_are_and_elsewhere_as_a_profile(tmp_path, shared):
  picture = pictures.read(shared('cases/05_avif_hdr_nclx/in.avif'))
  like = dataclasses.replace(picture, kind='png')
  assert pictures.write(tmp_path / 'a.png', like, like) == ()
  assert (b'cICP', bytes([9, 16, 0, 1])) in chunks_of(tmp_path / 'a.png')
  like = dataclasses.replace(picture, kind='tiff')
  assert pictures.write(tmp_path / 'a.tif', like, like) == ()
  icc = pictures.read(tmp_path / 'a.tif').image.get('icc-profile-data')
  assert b'cicp\0\0\0\0\x09\x10\x00\x01' in icc
  odd = dataclasses.replace(like, metadata=like.metadata._replace(cicp=(10, 17, 0)))
  assert pictures.write(tmp_path / 'b.tif', odd, odd) == (
    'not kept: colors of primaries 10, transfer 17 (ITU-T H.273)',
  )


def test_gamma_of_a_grey_picture_becomes_a_grey_profile(tmp_path):
  grey = encoded('PNG', scene(40, 60)[..., 0])
  (tmp_path / 'a.png').write_bytes(with_chunks(grey, [(b'gAMA', struct.pack('>I', 100_000))]))
  picture = dataclasses.replace(pictures.read(tmp_path / 'a.png'), kind='tiff')
  pictures.write(tmp_path / 'a.tif', picture, picture)
  result = pictures.read(tmp_path / 'a.tif')
  assert result.shape[2] == 1 and result.image.get('icc-profile-data')[16:20] == b'GRAY'
  assert result.transfer.to_linear(0.5) == pytest.approx(0.5)


@pytest.mark.parametrize('target', ['jpeg', 'png', 'webp', 'tiff'])
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP'])
def test_exif_and_xmp_go_from_any_kind_to_any(tmp_path, form, target):
  source = tmp_path / f'a.{form.lower()}'
  source.write_bytes(oriented(form, 6, 6))
  picture = dataclasses.replace(pictures.read(source), kind=target)
  pictures.write(tmp_path / 'out', picture, picture)
  with PIL.Image.open(tmp_path / 'out') as image:
    assert image.format.lower() == target and image.size == (40, 60)
    assert image.getexif()[0x0112] == 1
  assert reopened(tmp_path / 'out').get('xmp-data') == XMP % 1
