"""Files of every kind, read and written again: pixels, depth, alpha, profile, EXIF, XMP, GPS."""

import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
import PIL.PngImagePlugin
import pytest
import pyvips
import tifffile

from deblur_jax.formats import tiff
from deblur_jax.formats.metadata import Metadata
from deblur_jax.photos import pictures, writing

COPYRIGHT, MAKER, ORIENTATION = 0x8298, 0x010F, 0x0112
EXIF, GPS = 0x8769, 0x8825
DATE, EXPOSURE = 0x9003, 0x829A
XMP = (
  b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
  b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
  b'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
  b'dc:source="a roll of film" tiff:Orientation="1"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def scene(height=40, width=60, channels=3, dtype=np.uint8):
  """Smooth, so that JPEG keeps it within a few levels."""
  y, x = np.mgrid[:height, :width]
  planes = [127 + 100 * np.sin(y / 9 + c) * np.cos(x / (7 + c)) for c in range(channels)]
  return (np.stack(planes, -1) * (257 if dtype == np.uint16 else 1)).astype(dtype)


def vips(pixels, interpretation=None):
  deep = pixels.dtype == np.uint16
  grey, color = ('grey16', 'rgb16') if deep else ('b-w', 'srgb')
  found = interpretation or (grey if pixels.shape[-1] < 3 else color)
  return pyvips.Image.new_from_array(pixels).copy(interpretation=found)


def reopened(path):
  """A file as it is now; libvips keeps what it has read by its name."""
  return pyvips.Image.new_from_source(pyvips.Source.new_from_file(str(path)), '')


def values(path):
  return np.atleast_3d(reopened(path).numpy())


def through(path, out, *, strip=False, add=0):
  """A picture read in bands, made brighter by `add`, and written into the folder `out`."""
  picture = pictures.read(path)
  canvas = writing.Canvas(picture)
  for start in range(0, picture.shape[0], 7):
    canvas.append(picture.rows(start, min(start + 7, picture.shape[0])) + picture.dtype.type(add))
  out.mkdir(exist_ok=True)
  writing.write(out / path.name, canvas.picture(), picture, strip=strip)
  canvas.close()
  return out / path.name


@pytest.mark.parametrize('suffix', ['png', 'tif'])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_png_and_tiff_keep_depth_grey_and_alpha_without_loss(tmp_path, suffix, channels, dtype):
  image = scene(23, 31, channels, dtype)
  path = tmp_path / f'x.{suffix}'
  vips(image).write_to_file(str(path))
  assert pictures.size(path) == (23, 31)
  result = through(path, tmp_path / 'out')
  assert reopened(result).interpretation == vips(image).interpretation
  np.testing.assert_array_equal(values(result), image)


@pytest.mark.parametrize('channels', [1, 3])
def test_jpeg_stays_within_a_few_levels(tmp_path, channels):
  vips(scene(channels=channels)).jpegsave(str(tmp_path / 'a.jpg'), Q=98)
  result = through(tmp_path / 'a.jpg', tmp_path / 'out')
  difference = np.abs(values(result).astype(int) - scene(channels=channels))
  assert values(result).shape[-1] == channels and difference.mean() < 1.5


@pytest.mark.parametrize('channels', [3, 4])
@pytest.mark.parametrize('lossless', [False, True])
def test_webp_stays_lossless_or_lossy(tmp_path, channels, lossless):
  image = scene(channels=channels)
  vips(image).webpsave(str(tmp_path / 'a.webp'), lossless=lossless, Q=90)
  result = through(tmp_path / 'a.webp', tmp_path / 'out')
  assert (b'VP8L' in result.read_bytes()) is lossless
  if lossless:
    np.testing.assert_array_equal(values(result), image)
  else:
    assert np.abs(values(result).astype(int) - image).mean() < 4
  if channels == 4:
    np.testing.assert_array_equal(values(result)[..., 3], values(tmp_path / 'a.webp')[..., 3])


@pytest.mark.parametrize('depth', [8, 10, 12])
@pytest.mark.parametrize('lossless', [False, True])
def test_avif_keeps_its_depth(tmp_path, depth, lossless):
  image = scene(64, 64, 4, np.uint16 if depth > 8 else np.uint8)
  path = tmp_path / 'a.avif'
  vips(image).heifsave(str(path), compression='av1', bitdepth=depth, lossless=lossless, Q=95)
  result = through(path, tmp_path / 'out')
  assert reopened(result).get('bits-per-sample') == depth
  given, found = values(path).astype(float), values(result).astype(float)
  if lossless:
    np.testing.assert_array_equal(found, given)
  assert np.abs(found - given).mean() < 0.015 * (65535 if depth > 8 else 255)


def test_palettes_and_single_bits_come_back_in_full(tmp_path):
  image = PIL.Image.fromarray(scene())
  image.quantize(16).save(tmp_path / 'palette.png')
  image.convert('1').save(tmp_path / 'bits.png')
  with PIL.Image.open(tmp_path / 'palette.png') as palette:
    expected = np.asarray(palette.convert('RGB'))
  result = values(through(tmp_path / 'palette.png', tmp_path / 'out'))
  np.testing.assert_array_equal(result[..., :3], expected)
  result = values(through(tmp_path / 'bits.png', tmp_path / 'out'))[..., 0]
  np.testing.assert_array_equal(result, np.asarray(image.convert('1')) * np.uint8(255))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_cmyk_becomes_srgb_of_the_same_depth(tmp_path, dtype):
  """White paper stays near white, full ink near black, and cyan is no red."""
  top = np.iinfo(dtype).max
  inks = np.zeros((30, 30, 4), dtype)
  inks[10:20, :, :] = top
  inks[20:, :, 0] = top
  vips(inks, 'cmyk').tiffsave(str(tmp_path / 'a.tif'))
  result = through(tmp_path / 'a.tif', tmp_path / 'out')
  assert reopened(result).interpretation == ('srgb' if dtype == np.uint8 else 'rgb16')
  white, black, cyan = values(result)[[5, 15, 25], 5] / top
  assert white.min() > 0.95 and black.max() < 0.2
  assert cyan[0] < 0.2 and cyan[2] > 0.6


def test_alpha_multiplied_into_the_color_is_taken_out(tmp_path):
  image = scene(channels=4)
  image[..., 3] = 128
  vips(image).tiffsave(str(tmp_path / 'a.tif'), premultiply=True)
  rows = pictures.read(tmp_path / 'a.tif').rows(0, 40)
  assert np.abs(rows.astype(int) - image).max() <= 2  # halved and doubled again


# What is not pixels.


def with_everything(path, orientation=1):
  """A file with profile, EXIF, GPS and, where Pillow can, XMP."""
  exif = PIL.Image.Exif()
  exif[MAKER], exif[COPYRIGHT], exif[ORIENTATION] = 'A camera', 'Copyright Someone', orientation
  exif.get_ifd(EXIF)[DATE] = '2020:01:02 03:04:05'
  exif.get_ifd(EXIF)[EXPOSURE] = 0.0125
  exif.get_ifd(GPS)[1] = 'N'
  exif.get_ifd(GPS)[2] = (48.0, 12.5, 0.25)
  # In AVIF neither tag counts: Pillow, as others, writes turns into the container itself.
  xmp = XMP if path.suffix == '.avif' else XMP.replace(b'"1"', b'"%d"' % orientation)
  profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes()
  more = {'exif': exif, 'icc_profile': profile}
  if path.suffix == '.png':
    more['pnginfo'] = PIL.PngImagePlugin.PngInfo()
    more['pnginfo'].add_itxt('XML:com.adobe.xmp', xmp.decode())
  elif path.suffix == '.tif':
    exif[700], exif[EXIF], exif[GPS] = xmp, exif.get_ifd(EXIF), exif.get_ifd(GPS)
  else:
    more['xmp'] = xmp
  PIL.Image.fromarray(scene()).save(path, quality=98, **more)
  return profile


KINDS = ['a.jpg', 'a.png', 'a.webp', 'a.tif', 'a.avif']


@pytest.mark.parametrize('name', KINDS)
def test_profile_exif_gps_and_xmp_are_kept(tmp_path, name):
  profile = with_everything(tmp_path / name, orientation=6)
  result = through(tmp_path / name, tmp_path / 'out')
  with PIL.Image.open(result) as image:
    exif = image.getexif()
    assert image.info['icc_profile'] == profile
    assert (exif[MAKER], exif[COPYRIGHT]) == ('A camera', 'Copyright Someone')
    assert exif.get(ORIENTATION, 1) == 1
    assert exif.get_ifd(EXIF)[DATE] == '2020:01:02 03:04:05'
    assert exif.get_ifd(EXIF)[EXPOSURE] == pytest.approx(0.0125)
    assert exif.get_ifd(GPS)[1] == 'N'
    assert [float(part) for part in exif.get_ifd(GPS)[2]] == [48, 12.5, 0.25]
  assert reopened(result).get('xmp-data') == XMP


@pytest.mark.parametrize('name', KINDS)
def test_strip_leaves_only_the_profile(tmp_path, name):
  profile = with_everything(tmp_path / name, orientation=6)
  result = through(tmp_path / name, tmp_path / 'out', strip=True)
  with PIL.Image.open(result) as image:
    assert image.info['icc_profile'] == profile
    assert not image.getexif().get_ifd(EXIF) and not image.getexif().get_ifd(GPS)
    assert image.getexif().get(MAKER) is None and image.getexif().get(COPYRIGHT) is None
    assert image.size == (40, 60)  # upright still
  for private in (b'a roll of film', b'A camera', b'Someone', b'2020:01'):
    assert private not in result.read_bytes()


@pytest.mark.parametrize('name', KINDS)
def test_nothing_is_added_to_files_that_tell_nothing(tmp_path, name):
  PIL.Image.fromarray(scene()).save(tmp_path / name)
  result = through(tmp_path / name, tmp_path / 'out').read_bytes()
  assert not any(mark in result for mark in (b'Exif', b'EXIF', b'eXIf'))


@pytest.mark.parametrize('name', KINDS)
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_is_applied_once(tmp_path, name, orientation):
  with_everything(tmp_path / name, orientation)
  result = through(tmp_path / name, tmp_path / 'out')
  with PIL.Image.open(tmp_path / name) as given, PIL.Image.open(result) as image:
    upright = np.asarray(PIL.ImageOps.exif_transpose(given).convert('RGB'), int)
    again = np.asarray(PIL.ImageOps.exif_transpose(image).convert('RGB'), int)
    assert image.size == upright.shape[1::-1] == pictures.size(tmp_path / name)[::-1]
  assert np.abs(again - upright).mean() < 4
  assert np.abs(np.asarray(PIL.Image.open(result).convert('RGB'), int) - upright).mean() < 4


def test_density_is_kept(tmp_path):
  for name in ('a.jpg', 'a.png', 'a.tif'):
    PIL.Image.fromarray(scene()).save(tmp_path / name, dpi=(300, 300))
    with PIL.Image.open(through(tmp_path / name, tmp_path / 'out')) as image:
      np.testing.assert_allclose(np.float64(image.info['dpi']), 300, rtol=1e-3)


def test_the_thumbnail_shows_the_result(tmp_path):
  """The old one would show the picture blurred and lying on its side."""
  image = pyvips.Image.new_from_array(np.zeros((200, 320, 3), np.uint8)).copy()
  thumbnail = image.resize(0.25).jpegsave_buffer()
  image.set_type(pyvips.GValue.blob_type, 'jpeg-thumbnail-data', thumbnail)
  image.set_type(pyvips.GValue.gint_type, 'orientation', 6)
  image.jpegsave(str(tmp_path / 'a.jpg'))
  result = reopened(through(tmp_path / 'a.jpg', tmp_path / 'out', add=255))
  thumbnail = pyvips.Image.new_from_buffer(result.get('jpeg-thumbnail-data'), '')
  assert (thumbnail.width, thumbnail.height) == (100, 160)
  assert thumbnail.avg() == 255


@pytest.mark.parametrize('given', '<>')
@pytest.mark.parametrize('order,big', [('<', False), ('>', False), ('<', True), ('>', True)])
def test_tiff_exif_from_any_byte_order_to_any(tmp_path, given, order, big):
  exif = PIL.Image.Exif()
  exif.endian = given
  exif[MAKER], exif[0x0110] = 'A camera of some name', 'M1'
  exif.get_ifd(EXIF).update({DATE: '2020:01:02 03:04:05', EXPOSURE: 0.0125, 0x8827: 400})
  exif.get_ifd(GPS)[2] = (48.0, 12.5, 0.25)
  source, target = tmp_path / 'source.tif', tmp_path / 'target.tif'
  source.write_bytes(exif.tobytes()[6:])
  tifffile.imwrite(
    target, scene(), byteorder=order, bigtiff=big, description='of its own', metadata=None
  )
  tiff.carry(source, target, Metadata())
  with tifffile.TiffFile(target) as file:  # Pillow cannot read them all.
    tags = file.pages[0].tags
    assert (tags[MAKER].value, tags[0x0110].value) == ('A camera of some name', 'M1')
    assert tags[0x010E].value == 'of its own'
    assert tags[EXIF].value['ExposureTime'] == pytest.approx(0.0125)
    assert tags[EXIF].value['DateTimeOriginal'] == '2020:01:02 03:04:05'
    assert tags[EXIF].value['ISOSpeedRatings'] == 400
    assert tags[GPS].value['GPSLatitude'] == (48, 1, 25, 2, 1, 4)
    np.testing.assert_array_equal(file.asarray(), scene())


def test_damaged_exif_does_not_matter(tmp_path):
  with_everything(tmp_path / 'a.tif')
  sound = (tmp_path / 'a.tif').read_bytes()
  target = tmp_path / 'b.tif'
  rng = np.random.default_rng(0)
  for _ in range(200):
    bad = bytearray(sound)
    for at in rng.integers(0, 600, 8):
      bad[at] = rng.integers(256)
    (tmp_path / 'bad.tif').write_bytes(bad)
    tifffile.imwrite(target, scene())
    tiff.carry(tmp_path / 'bad.tif', target, Metadata())
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # What came along may be nonsense; the pixels may not.
      np.testing.assert_array_equal(tifffile.imread(target), scene())


# What is no picture.


def bomb(path, side=30_000):
  """A PNG of 900 megapixels in a hundred kilobytes."""
  packed = zlib.compress(bytes(side // 8 + 1) * 100)
  chunks = [(b'IHDR', struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0)), (b'IDAT', packed)]
  data = b'\x89PNG\r\n\x1a\n'
  for name, body in chunks:
    data += struct.pack('>I', len(body)) + name + body
    data += struct.pack('>I', zlib.crc32(name + body))
  path.write_bytes(data)


def spoiled(folder):
  """Files that are no sound pictures, and a part of what is told of each."""
  whole = folder / 'whole.jpg'
  PIL.Image.fromarray(scene(200, 300)).save(whole, quality=95)
  (folder / 'empty.png').touch()
  (folder / 'text.jpg').write_text('hello ' * 50)
  (folder / 'cut.jpg').write_bytes(whole.read_bytes()[:-1000])
  for suffix in ('png', 'webp', 'tif', 'avif'):
    PIL.Image.fromarray(scene(200, 300)).save(folder / f'a.{suffix}')
    data = (folder / f'a.{suffix}').read_bytes()
    (folder / f'cut.{suffix}').write_bytes(data[: len(data) * 2 // 3])
  bomb(folder / 'bomb.png')
  frames = [PIL.Image.fromarray(scene(30 + i)) for i in range(3)]
  frames[0].save(folder / 'pages.tif', save_all=True, append_images=frames[1:])
  frames[0].save(folder / 'moving.gif', save_all=True, append_images=frames[1:])
  vips(scene().astype(np.uint8)).cast('float').tiffsave(str(folder / 'float.tif'))
  return {
    'empty.png': 'the file is empty',
    'text.jpg': 'not a JPEG, PNG, WebP, TIFF or AVIF picture',
    'bomb.png': '30000x30000 pixels',
    'pages.tif': '3 pages',
    'moving.gif': 'unsupported picture format (',
    'float.tif': 'float values from 27 to 226: scale them',
  } | {f'cut.{suffix}': 'truncated' for suffix in ('jpg', 'png', 'webp', 'tif', 'avif')}


def test_what_is_no_picture_gets_one_clear_line(tmp_path):
  for name, message in spoiled(tmp_path).items():
    with pytest.raises(pictures.PictureError) as error:
      picture = pictures.read(tmp_path / name)
      picture.rows(0, picture.shape[0])
    assert message in str(error.value) and '\n' not in str(error.value), name
  with pytest.raises(FileNotFoundError):
    pictures.read(tmp_path / 'none.png')


def test_text_of_a_png_stays_readable_by_others(tmp_path):
  xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/">Été 写真</x:xmpmeta>'
  text = PIL.PngImagePlugin.PngInfo()
  text.add_itxt('XML:com.adobe.xmp', xmp)
  text.add_itxt('Title', 'Überschrift')
  text.add_text('Author', 'Ann')
  PIL.Image.fromarray(scene()).save(tmp_path / 'a.png', pnginfo=text)
  picture = pictures.read(tmp_path / 'a.png')
  writing.write(tmp_path / 'b.png', picture, picture)
  with PIL.Image.open(tmp_path / 'b.png') as found:
    found.load()
    assert found.text == {'XML:com.adobe.xmp': xmp, 'Title': 'Überschrift', 'Author': 'Ann'}
    np.testing.assert_array_equal(found, scene())


def test_an_ultra_hdr_file_is_a_jpeg(tmp_path):
  try:
    vips(scene(64, 96).astype(np.uint8)).colourspace('scrgb').uhdrsave(str(tmp_path / 'a.jpg'))
  except pyvips.Error:
    pytest.skip('this libvips writes no Ultra HDR')
  picture = pictures.read(tmp_path / 'a.jpg')
  assert picture.kind == 'jpeg' and 'gain map' in picture.notes[0]
  assert picture.shape == (64, 96, 3) and picture.dtype == np.uint8
  writing.write(tmp_path / 'b.jpg', picture, picture)
  assert not pictures.read(tmp_path / 'b.jpg').notes


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
  PIL.Image.fromarray(scene()).save(tmp_path / 'a.png')
  picture = pictures.read(tmp_path / 'a.png')
  (tmp_path / 'out').mkdir()
  with pytest.raises(pictures.PictureError, match='cannot be written'):
    writing.write(tmp_path / 'out/a.webp', picture_of(20_000, 1), picture_of(20_000, 1))

  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(writing.atomic.os, 'fsync', full)
  with pytest.raises(OSError, match='No space'):
    writing.write(tmp_path / 'out/a.png', picture, picture)
  assert not list((tmp_path / 'out').iterdir())


def picture_of(width, height):
  """A WebP picture, which can be no wider than 16,383 pixels."""
  return pictures.Picture(vips(np.zeros((height, width, 3), np.uint8)), 'webp', None)


def test_side_by_side_shows_both_and_says_which_is_which(tmp_path):
  dark, light = scene(100, 150), scene(100, 150) // 2 + 127
  for name, image in (('dark.png', dark), ('light.png', light)):
    PIL.Image.fromarray(image).save(tmp_path / name)
  before, after = (pictures.read(tmp_path / name) for name in ('dark.png', 'light.png'))
  writing.write_side_by_side(tmp_path / 'both.png', before, after)
  both = values(tmp_path / 'both.png')
  strip, gap = both.shape[0] - 100, both.shape[1] - 300
  assert 10 < strip < 40 and 0 < gap < 10
  np.testing.assert_array_equal(both[strip:, :150], dark)
  np.testing.assert_array_equal(both[strip:, -150:], light)
  for label in (both[:strip, :150], both[:strip, -150:]):
    assert label.min() < 100 and np.median(label) == 255
  assert (both[:strip, :150] != both[:strip, -150:]).any()


def test_masks_are_made_grey_and_must_fit(tmp_path):
  PIL.Image.fromarray(scene(20, 30)).save(tmp_path / 'color.png')
  assert pictures.read_mask(tmp_path / 'color.png', (20, 30)).shape == (20, 30, 1)
  with pytest.raises(ValueError, match=r'mask .* is 30x20 pixels, but the picture is 20x30'):
    pictures.read_mask(tmp_path / 'color.png', (30, 20))


@pytest.mark.slow
def test_rows_of_a_large_picture_are_not_all_in_memory(tmp_path):
  """A picture of 300 MB goes through in less than 200 MB."""
  code = f"""
import resource, pathlib
import numpy as np
import pyvips
from deblur_jax.photos import pictures, writing
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
path = pathlib.Path({str(tmp_path)!r}) / 'large.tif'
noise = pyvips.Image.gaussnoise(1000, 1000, mean=128, sigma=40).cast('uchar')
noise.bandjoin([noise, noise]).copy(interpretation='srgb').replicate(10, 10).tiffsave(str(path))
begin = peak()
picture = pictures.read(path)
canvas = writing.Canvas(picture)
for start in range(0, 10_000, 500):
  canvas.append(picture.rows(start, start + 500))
writing.write(path.with_name('out.tif'), canvas.picture(), picture)
canvas.close()
print(peak() - begin)
"""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert int(done.stdout) < 200
