"""Files of unusual kinds, types and names: read, or refused for the right reason."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from test_pictures import scene, through, values
import tifffile

from deblur_jax import zoo
from deblur_jax.formats import kinds
from deblur_jax.photos import jobs, pictures, restore, writing
from deblur_jax.photos.restorer import Restorer
from deblur_jax.solvers.polyblur import estimate


class Half:
  """A method that halves all values."""

  @staticmethod
  def restorer():
    from deblur_jax import tiling

    needs = tiling.Needs(1, 'exact', 0)
    return Restorer(zoo.Method('half', lambda blurred: blurred / 2, needs))


@pytest.mark.parametrize(
  'start, message',
  [
    (b'\xff\xd8\xff\xe0', 'damaged or truncated'),
    (b'II*\0\x08\0\0\0', 'damaged or truncated'),
    (b'MM\0+\0\x08', 'damaged or truncated'),
    (b'\x89PNG\r\n\x1a\n', 'damaged or truncated'),
    (b'RIFF\x10\0\0\0WEBPVP8 ', 'damaged or truncated'),
    (b'\0\0\0\x1cftypavif', 'damaged or truncated'),
    (b'8BPS\0\1', 'unsupported picture format (Photoshop)'),
    (b'\0\0\0\x0cJXL ', 'unsupported picture format (JPEG XL)'),
    (b'BM....', 'unsupported picture format (BMP)'),
    (b'hello', 'not a JPEG, PNG, WebP, TIFF or AVIF picture'),
  ],
)
def test_what_cannot_be_read_is_called_by_its_name(tmp_path, start, message):
  (tmp_path / 'a.jpg').write_bytes(start + b'?' * 40)
  with pytest.raises(pictures.PictureError) as error:
    pictures.read(tmp_path / 'a.jpg')
  assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
  'text', ['<svg xmlns="http://www.w3.org/2000/svg"/>', '%PDF-1.7', 'P6 1 1 255\n', '1,2\n3,4']
)
def test_libvips_never_opens_what_is_not_one_of_our_formats(tmp_path, monkeypatch, text):
  (tmp_path / 'a.png').write_text(text)
  monkeypatch.setattr(pictures.pyvips.Source, 'new_from_file', None)
  for read in (pictures.read, pictures.size, pictures.suffix):
    with pytest.raises(pictures.UnsupportedError):
      read(tmp_path / 'a.png')


@pytest.mark.parametrize('name', ['12bit.jpg', '12bit.tif', 'float64.tif', 'ojpeg.tif', 'zstd.tif'])
def test_sound_files_of_unsupported_types_are_not_called_damaged(shared, name):
  with pytest.raises(pictures.PictureError, match=r'^unsupported') as error:
    picture = pictures.read(shared(f'cases/27_called_damaged_but_unsupported/{name}'))
    picture.rows(0, picture.shape[0])
  assert 'damaged' not in str(error.value)


def test_a_cut_tiff_is_called_damaged(shared):
  with pytest.raises(pictures.PictureError, match='damaged or truncated'):
    pictures.read(shared('cases/27_called_damaged_but_unsupported/cut_short.tif'))


def test_folders_are_searched_for_all_that_can_be_read(tmp_path):
  for name in ('a.jfif', 'b.jpg', 'c.heic', 'd.DNG', 'e.txt'):
    PIL.Image.fromarray(scene()).save(tmp_path / name, 'JPEG')
  plan = jobs.plan([tmp_path], tmp_path / 'out')
  assert [job.target.name for job in plan] == ['a.jfif', 'b.jpg', 'c.jpg', 'd.tif']
  assert not set(kinds.READ_ONLY) & {*kinds.UNSUPPORTED, *kinds.SUFFIXES}
  through(tmp_path / 'a.jfif', tmp_path / 'out')


def test_names_that_are_no_utf8(tmp_path):
  folder = tmp_path / os.fsdecode(b'\xe9t\xe9')
  folder.mkdir()
  path = folder / os.fsdecode(b'caf\xe9.png')
  PIL.Image.fromarray(scene()).save(path)
  result = through(path, folder / 'out')
  with PIL.Image.open(result) as image:
    np.testing.assert_array_equal(image, scene())


def test_names_that_are_no_utf8_are_printed(tmp_path):
  PIL.Image.fromarray(scene()).save(tmp_path / os.fsdecode(b'caf\xe9.png'))
  command = ['-m', 'deblur_jax.cli', 'restore', tmp_path, '-o', tmp_path / 'out', '--dry-run']
  environment = {**os.environ, 'PYTHONIOENCODING': 'utf-8:strict'}
  done = subprocess.run(
    [sys.executable, *command, '--weights', 'polyblur'], env=environment, capture_output=True
  )
  assert done.returncode == 0 and b'caf\\udce9.png' in done.stdout, done


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_masks_of_floats(tmp_path, channels):
  image = np.zeros((20, 30, channels), np.float32)
  image[:, 15:] = 1
  image[..., 1 if channels == 2 else 3 :] = 1
  kind = {'photometric': 'rgb' if channels > 2 else 'minisblack'}
  kind |= {'planarconfig': 'contig'} if channels > 1 else {}
  kind |= {'extrasamples': ['unassalpha']} if channels in (2, 4) else {}
  tifffile.imwrite(tmp_path / 'a.tif', image, **kind)
  mask = pictures.read_mask(tmp_path / 'a.tif', (20, 30))
  found = pictures.as_float(mask.rows(0, 20))
  np.testing.assert_allclose(found, image[..., :1], atol=1e-3)


@pytest.mark.parametrize('dtype', ['>u2', '<u2', 'u1', '>f4', '<f8'])
def test_arrays_of_either_byte_order(dtype):
  image = np.arange(48).reshape(4, 4, 3).astype(dtype)
  image = image / np.dtype(dtype).type(64) if np.dtype(dtype).kind == 'f' else image
  image = image.astype(dtype)
  result = Half.restorer()(image)
  assert result.dtype == np.dtype(dtype)
  expected = image / 2 if np.dtype(dtype).kind == 'f' else np.rint(image / 2)
  np.testing.assert_allclose(result, expected, atol=0 if image.dtype.kind == 'f' else 0.5)


@pytest.mark.parametrize('shape', [(1, 1, 3), (1, 2, 1), (2, 3, 3)])
def test_the_smallest_pictures_have_an_estimate(shape):
  found = estimate(np.full(shape, 0.5, np.float32))
  assert np.isfinite(found.psf).all() and found.psf.sum() == pytest.approx(1)
  assert 0 <= found.confidence <= 1


@pytest.mark.parametrize('channels', [1, 3])
def test_tiffs_of_floats_keep_their_values(tmp_path, channels):
  image = np.random.default_rng(0).uniform(-0.1, 1.5, (20, 30, channels)).astype(np.float32)
  kind = {'photometric': 'rgb' if channels == 3 else 'minisblack'}
  tifffile.imwrite(tmp_path / 'a.tif', image, **kind)
  picture = pictures.read(tmp_path / 'a.tif')
  assert picture.dtype == np.float32 and picture.shape == (20, 30, channels)
  np.testing.assert_array_equal(picture.rows(0, 20), image)
  result = through(tmp_path / 'a.tif', tmp_path / 'out')
  np.testing.assert_array_equal(values(result), image)


@pytest.mark.parametrize('value', [np.nan, np.inf, 255.0, -70.0])
def test_floats_of_another_scale_are_refused(tmp_path, value):
  image = np.full((20, 30, 3), 0.5, np.float32)
  image[3, 4, 1] = value
  tifffile.imwrite(tmp_path / 'a.tif', image, photometric='rgb')
  with pytest.raises(pictures.PictureError, match='float values'):
    pictures.read(tmp_path / 'a.tif')


# HEIC and camera raw files.


@pytest.mark.parametrize('orientation', [1, 6])
def test_heic_is_read_and_written_as_jpeg(tmp_path, orientation):
  pillow_heif = pytest.importorskip('pillow_heif')
  exif = PIL.Image.Exif()
  exif[0x010F], exif[0x0112] = 'A telephone', orientation
  heif = pillow_heif.from_pillow(PIL.Image.fromarray(scene(64, 96)))
  heif.save(tmp_path / 'a.heic', quality=95, exif=exif.tobytes())
  picture = pictures.read(tmp_path / 'a.heic')
  upright = np.rot90(scene(64, 96), 0 if orientation == 1 else -1)
  assert pictures.size(tmp_path / 'a.heic') == picture.shape[:2] == upright.shape[:2]
  assert picture.kind == 'jpeg' and picture.dtype == np.uint8 and not picture.notes
  pixels = picture.rows(0, picture.shape[0]).astype(int)
  assert np.abs(pixels - upright).mean() < 3
  writing.write(tmp_path / 'a.jpg', picture, picture)
  with PIL.Image.open(tmp_path / 'a.jpg') as image:
    assert dict(image.getexif()) == {0x010F: 'A telephone', 0x0112: 1}
    assert np.abs(np.asarray(image, int) - pixels).mean() < 3
  data = (tmp_path / 'a.heic').read_bytes()
  (tmp_path / 'a.heic').write_bytes(data[: len(data) // 2])
  with pytest.raises(pictures.PictureError, match='damaged'):
    pictures.read(tmp_path / 'a.heic')


def test_heic_of_10_bits_keeps_them_and_its_colors(tmp_path):
  pillow_heif = pytest.importorskip('pillow_heif')
  ramp = np.repeat(np.arange(1024, dtype=np.uint16)[None, :, None], 64, 0).repeat(3, -1) * 64
  heif = pillow_heif.from_bytes('RGB;16', (1024, 64), ramp.tobytes())
  heif.save(tmp_path / 'a.heic', quality=-1, chroma=444, color_primaries=12, matrix_coefficients=1)
  picture = pictures.read(tmp_path / 'a.heic')
  assert picture.dtype == np.uint16 and not picture.notes
  pixels = picture.rows(0, 64)
  assert np.abs(pixels.astype(int) - ramp).max() <= 4 * 64  # RGB to YCbCr and back
  assert len(np.unique(pixels[..., 0])) > 600
  assert picture.metadata.cicp[:2] == (12, 13)
  like = dataclasses.replace(picture, kind='tiff')
  writing.write(tmp_path / 'a.tif', like, like)
  result = pictures.read(tmp_path / 'a.tif')
  assert result.dtype == np.uint16 and b'cicp\0\0\0\0\x0c\x0d' in result.image.get(
    'icc-profile-data'
  )


def write_dng(path, image, orientation):
  """A raw file of an RGGB sensor whose colors are those of sRGB."""
  light = np.where(image <= 10, image / 255 / 12.92, ((image / 255 + 0.055) / 1.055) ** 2.4)
  values = np.rint(light * 60_000 + 1000).astype(np.uint16)
  mosaic = np.empty(image.shape[:2], np.uint16)
  for (y, x), channel in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
    mosaic[y::2, x::2] = values[y::2, x::2, channel]
  to_camera = [3.2404542, -1.5371385, -0.4985314, -0.969266, 1.8760108, 0.041556]
  to_camera += [0.0556434, -0.2040259, 1.0572252]
  matrix = [part for value in to_camera for part in (round(value * 10_000), 10_000)]
  tags = [
    (271, 's', 0, 'Maker', True),
    (272, 's', 0, 'Model', True),
    (274, 'H', 1, orientation, True),
    (33421, 'H', 2, (2, 2), True),  # the color filter's repeat
    (33422, 'B', 4, bytes([0, 1, 1, 2]), True),
    (50706, 'B', 4, bytes([1, 4, 0, 0]), True),  # DNG 1.4
    (50708, 's', 0, 'Maker Model', True),
    (50714, 'H', 1, 1000, True),  # black
    (50717, 'I', 1, 61_000, True),  # white
    (50721, '2i', 9, matrix, True),
    (50728, '2I', 3, [1] * 6, True),  # neutral as shot
    (50778, 'H', 1, 21, True),  # D65
  ]
  tifffile.imwrite(path, mosaic, photometric=32803, extratags=tags, metadata=None, software=None)


@pytest.mark.parametrize('orientation', [1, 6])
def test_raw_files_are_developed_to_16_bits(tmp_path, orientation):
  pytest.importorskip('rawpy')
  image = scene(64, 96)
  image[:8, :8] = 255  # white stays white
  write_dng(tmp_path / 'a.dng', image, orientation)
  picture = pictures.read(tmp_path / 'a.dng')
  upright = np.rot90(image, 0 if orientation == 1 else -1)
  assert pictures.size(tmp_path / 'a.dng') == picture.shape[:2] == upright.shape[:2]
  assert picture.kind == 'tiff' and picture.dtype == np.uint16
  pixels = picture.rows(0, picture.shape[0])
  inside = (slice(16, -4), slice(16, -4))
  assert np.abs(pixels / 257 - upright)[inside].mean() < 4
  assert picture.transfer.to_linear(np.float64(0.5)) == pytest.approx(0.214, abs=1e-3)
  writing.write(tmp_path / 'a.tif', picture, picture)
  with tifffile.TiffFile(tmp_path / 'a.tif') as file:
    assert file.pages[0].tags[271].value == 'Maker' and file.pages[0].tags[274].value == 1
    assert file.asarray().dtype == np.uint16
  like = dataclasses.replace(picture, kind='heif')
  writing.write(tmp_path / 'a.avif', picture, like)
  assert pictures.read(tmp_path / 'a.avif').image.get('bits-per-sample') == 12
  (tmp_path / 'b.dng').write_bytes(b'II*\0' + bytes(100))
  with pytest.raises(pictures.PictureError, match='damaged, or from an unsupported camera'):
    pictures.read(tmp_path / 'b.dng')


@pytest.mark.parametrize('package, name', [('pillow_heif', 'a.heic'), ('rawpy', 'a.nef')])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package, name):
  monkeypatch.setitem(__import__('sys').modules, package, None)
  (tmp_path / name).write_bytes(b'\0\0\0\x1cftypheic' + bytes(40))
  for function in (pictures.read, pictures.size):
    with pytest.raises(pictures.PictureError, match=r"pip install 'deblur-jax\[(heif|raw)\]'"):
      function(tmp_path / name)


def test_a_jfif_file_stays_one(shared, tmp_path):
  path = shared('cases/15_jfif_in_folder/a.jfif')
  picture = pictures.read(path)
  writing.write(tmp_path / 'a.jfif', picture, picture)
  assert values(tmp_path / 'a.jfif').shape == picture.shape


def test_files_go_through_and_say_what_is_not_kept(tmp_path, shared):
  """The whole way of a file, by a method that halves it."""
  pytest.importorskip('pillow_heif').from_pillow(PIL.Image.fromarray(scene(64, 96))).save(
    tmp_path / 'a.heic', quality=95
  )
  image = np.random.default_rng(0).uniform(0.2, 0.8, (40, 60, 3)).astype(np.float32)
  tifffile.imwrite(tmp_path / os.fsdecode(b'caf\xe9.tif'), image, photometric='rgb')
  views = [PIL.Image.fromarray(scene()) for _ in range(2)]
  views[0].save(tmp_path / 'b.jpg', 'MPO', save_all=True, append_images=views[1:])
  report = restore.restore_files(jobs.plan([tmp_path], tmp_path / 'out'), Half.restorer())
  assert [outcome.status for outcome in report.outcomes] == ['restored'] * 3, report
  by_name = {outcome.target.name: outcome for outcome in report.outcomes}
  assert set(by_name) == {'a.jpg', 'b.jpg', os.fsdecode(b'caf\xe9.tif')}
  assert 'only the first of the 2 pictures in this file is restored' in by_name['b.jpg'].notes
  result = pictures.read(by_name[os.fsdecode(b'caf\xe9.tif')].target)
  np.testing.assert_array_equal(result.rows(0, 40), image / 2)
