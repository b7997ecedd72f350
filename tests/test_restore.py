"""Photographs in, photographs out: arrays, files, the command, and what goes wrong."""

import pathlib
import subprocess
import sys
import threading

import jax
import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
import pytest
import pyvips

from deblur_jax import cli, models, restore, weights, zoo
from deblur_jax.types import Needs


@pytest.fixture(scope='session')
def identity(tmp_path_factory):
  """A weights file of an SRCNN that returns its input: one pixel of each kernel is 1."""
  model = models.make('srcnn')
  params = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 3), 'f4'))
  params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params['params'])
  for name, layer in params.items():
    kernel = layer['kernel'] if 'kernel' in layer else layer['conv']['kernel']
    assert name.startswith('conv')
    for channel in range(3):
      kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, channel, channel] = 1
  path = tmp_path_factory.mktemp('weights') / 'identity.safetensors'
  weights.write(path, params, {'network': 'srcnn', 'arguments': {}})
  return str(path)


@pytest.fixture(scope='session')
def restorer(identity):
  return restore.load(identity)


def brighter(amount=0.25, needs=None):
  """A method whose result is known: adds `amount`."""
  method = zoo.Method('brighter', lambda blurred: blurred + np.float32(amount), needs or Needs())
  return restore.Restorer(method)


def picture(height=40, width=60, channels=3, dtype=np.uint8, seed=0):
  """Smooth, so that JPEG keeps it within a few levels."""
  y, x = np.mgrid[:height, :width]
  planes = [127 + 100 * np.sin(y / 9 + c) * np.cos(x / (7 + c) + seed) for c in range(channels)]
  image = np.stack(planes, -1)
  return (image * (257 if dtype == np.uint16 else 1)).astype(dtype)


def pixels(path):
  return np.atleast_3d(pyvips.Image.new_from_file(str(path)).numpy())


# Arrays.


@pytest.mark.parametrize(
  'shape', [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (2, 9, 7, 4), (1, 1, 3)]
)
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32, np.float16, np.float64])
def test_identity_returns_every_kind_of_array_as_it_was(restorer, shape, dtype):
  rng = np.random.default_rng(0)
  top = 1 if np.dtype(dtype).kind == 'f' else np.iinfo(dtype).max
  image = (rng.random(shape) * top).astype(dtype)
  restored = restorer(image)
  assert restored.dtype == image.dtype and restored.shape == image.shape
  tolerance = 1e-6 if top == 1 else 0
  np.testing.assert_allclose(restored, image, atol=tolerance)


def test_values_are_rounded_and_clipped_in_integers_only():
  image = np.array([[[0, 100, 250]]], np.uint8)
  np.testing.assert_array_equal(brighter(0.25)(image), [[[64, 164, 255]]])
  np.testing.assert_array_equal(brighter(-0.25)(image), [[[0, 36, 186]]])
  np.testing.assert_allclose(brighter(0.5)(np.ones((1, 1, 3))), 1.5)
  np.testing.assert_array_equal(brighter(0.5)(np.uint16([[0, 65535]])), [[32768, 65535]])


def test_alpha_is_kept_and_grey_comes_back_as_luma():
  image = picture(12, 9, 4)
  restored = brighter()(image)
  np.testing.assert_array_equal(restored[..., 3], image[..., 3])
  assert (restored[..., :3] != image[..., :3]).all()

  colored = zoo.Method('red', lambda blurred: blurred * np.float32([1, 0, 0]), Needs())
  grey = np.full((5, 5), 0.5, np.float32)
  np.testing.assert_allclose(restore.Restorer(colored)(grey), 0.5 * 0.299, atol=1e-6)


def test_tiles_and_ensemble_give_the_identity_too(identity):
  image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
  np.testing.assert_array_equal(restore.load(identity, tile=48)(image), image)
  np.testing.assert_array_equal(restore.load(identity, self_ensemble=True)(image), image)


def test_a_network_of_exact_tiling_gives_the_same_in_tiles_as_whole(tmp_path, key):
  model = models.make('srcnn')
  params = model.init(key, np.zeros((1, 8, 8, 3), np.float32))['params']
  weights.write(tmp_path / 'w.safetensors', params, {'network': 'srcnn', 'arguments': {}})
  image = np.random.default_rng(0).random((150, 97, 3), np.float32)
  whole = model.apply({'params': params}, image[None])['restored'][0]
  np.testing.assert_allclose(restore.load(tmp_path / 'w.safetensors')(image), whole, atol=1e-5)
  tiled = restore.load(tmp_path / 'w.safetensors', tile=40)(image)
  np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize(
  'image,message',
  [
    (np.zeros((4, 4, 5), np.uint8), '1 to 4 channels'),
    (np.zeros(4, np.uint8), '1 to 4 channels'),
    (np.zeros((0, 4, 3), np.uint8), 'without pixels'),
    (np.zeros((4, 4, 3), np.int64), 'not int64'),
    (np.full((4, 4, 3), 200.0), 'largest value is 200'),
  ],
)
def test_arrays_that_are_no_images_are_refused(image, message):
  with pytest.raises(ValueError, match=message):
    brighter()(image)


def test_what_is_not_finite_is_not_passed_off_as_a_picture():
  with pytest.raises(ValueError, match='not finite'):
    brighter(np.nan)(picture())


def test_threads_do_not_mix_their_pictures(restorer):
  images = [picture(20 + i % 3, 30, seed=i) for i in range(12)]
  results = [None] * len(images)

  def work(i):
    results[i] = restorer(images[i])

  threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for image, result in zip(images, results, strict=True):
    np.testing.assert_array_equal(result, image)


# Files.


def outcomes(report):
  return {outcome.source.name: outcome.status for outcome in report.outcomes}


@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_is_applied_once(tmp_path, orientation):
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  exif[0x010F] = 'A camera'
  path = tmp_path / 'in' / 'photo.jpg'
  path.parent.mkdir()
  PIL.Image.fromarray(picture()).save(path, quality=98, exif=exif)
  restore.restore_files([path], tmp_path / 'out', brighter(0))
  with PIL.Image.open(path) as given, PIL.Image.open(tmp_path / 'out/photo.jpg') as result:
    upright = np.asarray(PIL.ImageOps.exif_transpose(given), int)
    assert result.getexif().get(0x0112, 1) == 1
    assert result.getexif()[0x010F] == 'A camera'
    assert result.size == upright.shape[1::-1]
    assert np.abs(np.asarray(result, int) - upright).mean() < 2


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.webp', 'a.tif'])
def test_profile_exif_and_density_are_kept(tmp_path, name):
  profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes()
  exif = PIL.Image.Exif()
  exif[0x8298] = 'Copyright Someone'
  exif.get_ifd(0x8769)[0x9003] = '2020:01:02 03:04:05'
  exif.get_ifd(0x8825)[1] = 'N'
  known = {'dpi': (300, 300)} if name != 'a.webp' else {}
  known |= {'exif': exif} if name != 'a.tif' else {}
  PIL.Image.fromarray(picture()).save(tmp_path / name, icc_profile=profile, **known)
  restore.restore_files([tmp_path / name], tmp_path / 'out', brighter(0))
  with PIL.Image.open(tmp_path / 'out' / name) as result:
    assert result.info['icc_profile'] == profile
    if 'exif' in known:
      assert result.getexif()[0x8298] == 'Copyright Someone'
      assert result.getexif().get_ifd(0x8769)[0x9003] == '2020:01:02 03:04:05'
      assert result.getexif().get_ifd(0x8825)[1] == 'N'
    if 'dpi' in known:
      np.testing.assert_allclose(np.float64(result.info['dpi']), 300, rtol=1e-3)


def test_the_thumbnail_shows_the_result(tmp_path):
  """The old one would show the picture blurred and lying on its side."""
  image = pyvips.Image.new_from_array(np.zeros((200, 320, 3), np.uint8)).copy()
  thumbnail = image.resize(0.25).jpegsave_buffer()
  image.set_type(pyvips.GValue.blob_type, 'jpeg-thumbnail-data', thumbnail)
  image.set_type(pyvips.GValue.gint_type, 'orientation', 6)
  image.jpegsave(str(tmp_path / 'a.jpg'))
  restore.restore_files([tmp_path / 'a.jpg'], tmp_path / 'out', brighter(1))
  result = pyvips.Image.new_from_file(str(tmp_path / 'out/a.jpg'))
  thumbnail = pyvips.Image.new_from_buffer(result.get('jpeg-thumbnail-data'), '')
  assert (thumbnail.width, thumbnail.height) == (100, 160)
  assert thumbnail.avg() == 255


@pytest.mark.parametrize('suffix', ['png', 'tif'])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_depth_grey_and_alpha_are_kept_without_loss(tmp_path, restorer, suffix, channels, dtype):
  image = picture(23, 31, channels, dtype)
  grey = {np.uint8: 'b-w', np.uint16: 'grey16'}[dtype]
  color = {np.uint8: 'srgb', np.uint16: 'rgb16'}[dtype]
  path = tmp_path / f'x.{suffix}'
  given = pyvips.Image.new_from_array(image, interpretation=grey if channels < 3 else color)
  given.write_to_file(str(path))
  report = restore.restore_files([path], tmp_path / 'out', restorer)
  assert report.restored == 1, report
  result = pyvips.Image.new_from_file(str(tmp_path / 'out' / path.name))
  assert result.interpretation == (grey if channels < 3 else color)
  np.testing.assert_array_equal(pixels(tmp_path / 'out' / path.name), image)


def test_webp_avif_palette_and_cmyk(tmp_path):
  image = pyvips.Image.new_from_array(picture(64, 64, 4))
  image.webpsave(str(tmp_path / 'a.webp'), lossless=True)
  image.heifsave(str(tmp_path / 'a.avif'), compression='av1', Q=95)
  PIL.Image.fromarray(picture()).quantize(16).save(tmp_path / 'palette.png')
  PIL.Image.fromarray(picture()).convert('CMYK').save(tmp_path / 'cmyk.jpg', quality=95)
  report = restore.restore_files([tmp_path], tmp_path / 'out', brighter(0))
  assert report.restored == 4, report
  np.testing.assert_array_equal(pixels(tmp_path / 'out/a.webp')[..., 3], picture(64, 64, 4)[..., 3])
  assert np.abs(pixels(tmp_path / 'out/a.avif').astype(int) - picture(64, 64, 4)).mean() < 4
  with PIL.Image.open(tmp_path / 'palette.png') as palette:
    np.testing.assert_array_equal(
      pixels(tmp_path / 'out/palette.png')[..., :3], np.asarray(palette.convert('RGB'))
    )
  assert pyvips.Image.new_from_file(str(tmp_path / 'out/cmyk.jpg')).interpretation == 'srgb'


@pytest.fixture
def folder(tmp_path):
  """Sound pictures of several sizes, and files that are none."""
  folder = tmp_path / 'in'
  folder.mkdir()
  for i, name in enumerate(['a.png', 'b.JPG', 'ünï 照片 [1].png', "it's.webp"]):
    PIL.Image.fromarray(picture(20 + 7 * i, 50 - 5 * i)).save(folder / name)
  (folder / 'cut.jpg').write_bytes((folder / 'b.JPG').read_bytes()[:-400])
  (folder / 'empty.png').touch()
  (folder / 'text.jpg').write_text('hello ' * 50)
  (folder / 'notes.txt').write_text('not meant')
  frames = [PIL.Image.fromarray(picture(seed=i)) for i in range(3)]
  frames[0].save(folder / 'pages.tif', save_all=True, append_images=frames[1:])
  (folder / 'deeper').mkdir()
  PIL.Image.fromarray(picture()).save(folder / 'deeper' / 'c.png')
  return folder


BAD = {
  'cut.jpg': 'cut short',
  'empty.png': 'empty',
  'text.jpg': 'not a pic',
  'pages.tif': '3 pages',
}


def test_bad_files_are_told_and_the_rest_is_done(folder, tmp_path):
  report = restore.restore_files([folder, tmp_path / 'none.png'], tmp_path / 'out', brighter(0))
  assert (report.restored, report.skipped, report.failed) == (4, 0, 5)
  told = {o.source.name: o.message for o in report.outcomes if o.status == 'failed'}
  assert told.pop('none.png') == 'no such file or folder'
  assert told.keys() == BAD.keys()
  for name, message in told.items():
    assert BAD[name] in message and '\n' not in message
  written = {path.name for path in (tmp_path / 'out').iterdir()}
  assert written == {'a.png', 'b.JPG', 'ünï 照片 [1].png', "it's.webp"}
  np.testing.assert_array_equal(
    pixels(tmp_path / 'out/ünï 照片 [1].png'), pixels(folder / 'ünï 照片 [1].png')
  )


def test_a_second_run_skips_and_overwrite_does_not(folder, tmp_path):
  first = restore.restore_files([folder], tmp_path / 'out', brighter(0))
  before = (tmp_path / 'out/a.png').read_bytes()
  second = restore.restore_files([folder], tmp_path / 'out', brighter(0.5))
  assert (second.restored, second.skipped) == (0, first.restored)
  assert (tmp_path / 'out/a.png').read_bytes() == before
  third = restore.restore_files([folder], tmp_path / 'out', brighter(0.5), overwrite=True)
  assert third.restored == first.restored
  assert (tmp_path / 'out/a.png').read_bytes() != before


def test_recursion_mirrors_the_tree_and_leaves_results_alone(folder):
  for expected in (5, 0):  # The results lie among the inputs: they are not restored again.
    report = restore.restore_files([folder], folder / 'out', brighter(0), recursive=True)
    assert report.restored == expected
  assert (folder / 'out/deeper/c.png').exists()
  assert not (folder / 'out/out').exists()


def test_inputs_and_results_are_never_overwritten(folder, tmp_path):
  before = {path: path.read_bytes() for path in folder.glob('*.*')}
  report = restore.restore_files([folder], folder, brighter(), overwrite=True)
  assert report.restored == 0
  assert all('would overwrite the input' in o.message for o in report.outcomes)
  assert {path: path.read_bytes() for path in folder.glob('*.*')} == before

  (tmp_path / 'other').mkdir()
  PIL.Image.fromarray(picture(8, 8)).save(tmp_path / 'other/a.png')
  report = restore.restore_files(
    [folder / 'a.png', tmp_path / 'other/a.png', folder / 'a.png'], tmp_path / 'out', brighter(0)
  )
  assert [o.status for o in report.outcomes] == ['restored', 'failed']
  np.testing.assert_array_equal(pixels(tmp_path / 'out/a.png'), pixels(folder / 'a.png'))


def test_links_to_an_input_are_not_written_through(folder, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out/a.png').symlink_to(folder / 'a.png')
  before = (folder / 'a.png').read_bytes()
  report = restore.restore_files([folder / 'a.png'], tmp_path / 'out', brighter(), overwrite=True)
  assert report.failed == 1
  assert (folder / 'a.png').read_bytes() == before


def test_many_sizes_run_in_few_shapes(tmp_path):
  shapes = set()

  def note(blurred):
    shapes.add(blurred.shape)
    return blurred

  rng = np.random.default_rng(0)
  sizes = [*rng.integers(1, 120, (20, 2)).tolist(), (1300, 1200), (300, 4500), (1200, 1300)]
  for i, (height, width) in enumerate(sizes):
    pyvips.Image.new_from_array(picture(height, width)).pngsave(str(tmp_path / f'{i}.png'))
  method = zoo.Method('note', note, Needs(multiple=16, tiling='exact', halo=8))
  report = restore.restore_files([tmp_path], tmp_path / 'out', restore.Restorer(method))
  assert report.restored == len(sizes), report
  assert len(shapes) <= 4
  for i in range(len(sizes)):
    np.testing.assert_array_equal(pixels(tmp_path / f'out/{i}.png'), pixels(tmp_path / f'{i}.png'))


def test_a_failed_write_leaves_nothing(folder, tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(weights.os, 'fsync', full)
  report = restore.restore_files([folder / 'a.png'], tmp_path / 'out', brighter())
  assert [o.message for o in report.outcomes] == ['No space left on device']
  assert not list((tmp_path / 'out').iterdir())


# The command.


def test_command_restores_reports_and_exits_with_1(folder, tmp_path, identity, capsys):
  arguments = ['restore', str(folder), '-o', str(tmp_path / 'new/out'), '--weights', identity]
  assert cli.main(arguments) == 1
  out, err = capsys.readouterr()
  assert out.splitlines()[-1].startswith('4 restored, 4 failed in ')
  assert len(err.splitlines()) == 4
  assert all(any(name in line for line in err.splitlines()) for name in BAD)

  sound = [str(folder / 'a.png'), str(folder / 'deeper')]
  assert cli.main(['restore', *sound, *arguments[2:], '--tile', '32', '--self-ensemble']) == 0
  out, err = capsys.readouterr()
  assert out.splitlines()[-1].startswith('1 restored, 1 skipped')
  assert not err


def test_command_takes_a_run_folder(tmp_path, identity):
  run = tmp_path / 'run'
  run.mkdir()
  (run / 'weights.safetensors').write_bytes(pathlib.Path(identity).read_bytes())
  assert zoo.load(run).name == 'run'
  assert zoo.load(identity).name == 'identity'


def _usage(tmp_path, identity):
  (tmp_path / 'file.txt').write_text('text')
  (tmp_path / 'a.png').write_bytes(b'')
  (tmp_path / 'folder').mkdir()
  weights.write(tmp_path / 'odd.safetensors', {'a': np.zeros(3)}, {'network': 'nothing'})
  weights.write(
    tmp_path / 'small.safetensors', {'a': np.zeros(3)}, {'network': 'srcnn', 'arguments': {}}
  )
  weights.write(
    tmp_path / 'new.safetensors', {'a': np.zeros(3)}, {'network': 'later', 'arguments': {}}
  )
  a, out, file = str(tmp_path / 'a.png'), str(tmp_path / 'out'), str(tmp_path / 'file.txt')
  return {
    'no such weights': [a, '-o', out, '--weights', 'nowhere'],
    'no weights.safetensors in this folder': [a, '-o', out, '--weights', str(tmp_path)],
    'not a safetensors file': [a, '-o', out, '--weights', file],
    "no 'arguments' entry": [a, '-o', out, '--weights', str(tmp_path / 'odd.safetensors')],
    '1 extra': [a, '-o', out, '--weights', str(tmp_path / 'small.safetensors')],
    "no network 'later'": [a, '-o', out, '--weights', str(tmp_path / 'new.safetensors')],
    'this is a file': [a, '-o', file, '--weights', identity],
    'no pictures in': [str(tmp_path / 'folder'), '-o', out, '--weights', identity],
    'too small': [a, '-o', out, '--weights', identity, '--tile', '4'],
  }


def test_wrong_use_gets_one_line_and_exit_code_2(tmp_path, identity, capsys):
  for message, arguments in _usage(tmp_path, identity).items():
    assert cli.main(['restore', *arguments]) == 2, message
    out, err = capsys.readouterr()
    assert message in err and len(err.splitlines()) == 1 and not out, err
  assert not (tmp_path / 'out').exists()
  for arguments in (['restore', 'a.png'], ['retsore'], [], ['restore', 'a', '-o', 'b']):
    with pytest.raises(SystemExit) as stop:
      cli.main(arguments)
    assert stop.value.code == 2


def test_importing_the_package_is_light():
  code = (
    'import sys, deblur_jax; assert deblur_jax.__version__; '
    'heavy = {"jax", "flax", "numpy", "pyvips", "tensorflow", "torch"} & set(sys.modules); '
    'assert not heavy, heavy; deblur_jax.load; '
    'heavy = {"tensorflow", "torch"} & set(sys.modules); assert not heavy, heavy'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
