"""Photographs in, photographs out: arrays, files, and what goes wrong."""

import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import pyvips
import scipy.ndimage

from deblur_jax import color, methods, models, weights, zoo
from deblur_jax.data import builtin
from deblur_jax.formats import kinds
from deblur_jax.photos import jobs, pictures, restore
from deblur_jax.photos.restorer import Restorer, load
from deblur_jax.types import Needs
from deblur_jax.uncertainty import conformal, stored


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
  return load(identity)


def brighter(amount=0.25, needs=None):
  """A method whose result is known: adds `amount`."""
  method = zoo.Method('brighter', lambda blurred: blurred + np.float32(amount), needs or Needs())
  return Restorer(method)


def random_network(name, variant='default'):
  """A network and small random parameters; its own would take seconds to draw."""
  model, rng = models.make(name, variant), np.random.default_rng(0)

  def draw(leaf):
    fan_in = np.prod(leaf.shape[:-1]) or 1
    return rng.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

  return model, jax.tree.map(draw, models.shapes(model))


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
  np.testing.assert_allclose(Restorer(colored)(grey), 0.5 * 0.299, atol=1e-6)


def test_tiles_and_ensemble_give_the_identity_too(identity):
  image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
  np.testing.assert_array_equal(load(identity, tile=48)(image), image)
  np.testing.assert_array_equal(load(identity, self_ensemble=True)(image), image)


def test_a_classical_method_has_no_self_ensemble():
  with pytest.raises(ValueError, match='wiener is a classical method: self_ensemble requires'):
    load('wiener', psf=np.ones((3, 3)) / 9, self_ensemble=True)


def test_a_network_of_exact_tiling_gives_the_same_in_tiles_as_whole(tmp_path):
  model, params = random_network('srcnn')
  weights.write(tmp_path / 'w.safetensors', params, {'network': 'srcnn', 'arguments': {}})
  image = np.random.default_rng(0).random((150, 97, 3), np.float32)
  whole = model.apply({'params': params}, image[None])['restored'][0]
  np.testing.assert_allclose(load(tmp_path / 'w.safetensors')(image), whole, atol=1e-5)
  tiled = load(tmp_path / 'w.safetensors', tile=40)(image)
  np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize(
  'image,message',
  [
    (np.zeros((4, 4, 5), np.uint8), '1 to 4 channels'),
    (np.zeros(4, np.uint8), '1 to 4 channels'),
    (np.zeros((0, 4, 3), np.uint8), 'has no pixels'),
    (np.zeros((4, 4, 3), np.int64), 'not int64'),
    (np.full((4, 4, 3), 200.0), 'largest value is 200'),
  ],
)
def test_arrays_that_are_no_images_are_refused(image, message):
  with pytest.raises(ValueError, match=message):
    brighter()(image)


def test_strength_blends_input_and_result():
  image = picture().astype(np.float32) / 255
  half = Restorer(brighter(0.5).method, strength=0.5)
  np.testing.assert_allclose(half(image), image + 0.25, atol=1e-6)
  none = Restorer(brighter(0.5).method, strength=0.0)
  for dtype in (np.uint8, np.uint16):
    np.testing.assert_array_equal(none(picture(dtype=dtype)), picture(dtype=dtype))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_a_mask_says_where_to_restore(dtype):
  image = picture(30, 40, 4).astype(np.float32) / 255
  mask = np.zeros((30, 40), np.float32)
  mask[:10], mask[10:20] = 1, 0.4
  top = 1 if dtype == np.float32 else np.iinfo(dtype).max
  restored = brighter(0.25)(image, mask=(mask * top).astype(dtype))
  expected = image + 0.25 * mask[..., None] * [1, 1, 1, 0]
  np.testing.assert_allclose(restored, expected, atol=0.002 if dtype == np.uint8 else 1e-5)
  with pytest.raises(ValueError, match='mask'):
    brighter()(image, mask=mask[:-1])


def broken_above(limit, error, seen):
  """A method that memory does not suffice for beyond `limit` pixels a piece; adds 0.25."""

  def run(blurred):
    seen.append(blurred.shape[1:3])
    if blurred.shape[1] * blurred.shape[2] > limit:
      raise error
    return blurred + np.float32(0.25)

  return run


def out_of_memory():
  try:
    jnp.zeros((1 << 46,), jnp.float32).block_until_ready()
  except Exception as error:
    return error


@pytest.mark.parametrize('error', [MemoryError(), out_of_memory()], ids=['numpy', 'jax'])
@pytest.mark.parametrize('tiling_kind', ['exact', 'approximate'])
@pytest.mark.parametrize('ensemble', [False, True])
def test_pieces_get_smaller_until_memory_suffices(error, tiling_kind, ensemble):
  seen, told = [], []
  method = zoo.Method('m', broken_above(5000, error, seen), Needs(8, tiling_kind, 4))
  image = np.random.default_rng(0).random((1, 200, 301, 3), np.float32)
  restorer = Restorer(method, self_ensemble=ensemble)
  result = np.empty_like(image)
  for rows, restored in restorer.parts(image, note=told.append):
    result[:, rows] = restored
  np.testing.assert_allclose(result, image + 0.25, atol=1e-5)
  assert told and 'out of memory with tiles of 304x200: reduced to at most 152' in told[0]
  largest = [height * width for height, width in seen]
  assert sum(pixels > 5000 for pixels in largest) == len(told)  # each size failed but once


def test_memory_that_never_suffices_and_other_errors_are_told():
  nothing = broken_above(0, MemoryError(), [])
  for needs, size in (
    (Needs(8, 'exact', 4), '16x16'),
    (Needs(8, 'none', 0), '64x40'),
    (Needs(1, 'approximate', 4, side=128), '128x128'),
  ):
    with pytest.raises(MemoryError, match=f'out of memory even with tiles of {size} pixels'):
      Restorer(zoo.Method('m', nothing, needs))(picture(40, 64))
  with pytest.raises(RuntimeError, match='else'):
    Restorer(zoo.Method('m', broken_above(0, RuntimeError('else'), []), Needs()))(picture())


def test_what_is_not_finite_is_done_again_in_float32_or_refused():
  with pytest.raises(ValueError, match='not finite'):
    brighter(np.nan)(picture())
  with pytest.raises(ValueError, match='not finite'):
    brighter()(np.full((4, 4, 3), np.nan))

  def overflows(blurred):  # where it is bright
    return np.where(blurred.max() > 0.8, np.inf, 1) * blurred

  image = np.full((40, 200, 3), 0.25, np.float32)
  image[:, 150:] = 0.9
  method = zoo.Method('half', overflows, Needs(8, 'exact', 0))
  told = []
  restorer = Restorer(method, tile=56, precise=lambda: brighter(0.5).method)
  result = np.empty_like(image)
  for rows, restored in restorer.parts(image[None], note=told.append):
    result[rows] = restored[0]
  # Tiles of 56 start at 0, 56, 112 and 144; the last two saw what is bright.
  np.testing.assert_allclose(result[:, :112], image[:, :112])
  np.testing.assert_allclose(result[:, 112:], image[:, 112:] + 0.5)
  assert told == ['a tile had values that were not finite; it was recomputed in float32'] * 2


def test_weights_that_overflow_in_float16_are_done_again_in_float32(tmp_path):
  model, params = random_network('srcnn')
  params = jax.tree.map(lambda leaf: 200 * leaf, params)
  manifest = {'network': 'srcnn', 'arguments': {'dtype': 'float16'}}
  weights.write(tmp_path / 'w.safetensors', params, manifest)
  image = np.random.default_rng(0).random((20, 20, 3), np.float32)
  assert not np.isfinite(zoo.load(tmp_path / 'w.safetensors').restore(image[None])).all()
  precise = model.apply({'params': params}, image[None])['restored'][0]
  restored = load(tmp_path / 'w.safetensors')(image)
  np.testing.assert_allclose(restored, precise, rtol=1e-4, atol=1e-2 * np.abs(precise).max())


def test_threads_do_not_mix_their_pictures(identity):
  """Whole and tiled, several dtypes, sizes that compile while others run."""
  loaded = {tile: load(identity, tile=tile) for tile in (None, 24)}
  images = [picture(20 + i % 3, 30, seed=i, dtype=(np.uint8, np.uint16)[i % 2]) for i in range(16)]
  results = [None] * len(images)

  def work(i):
    results[i] = loaded[None if i % 4 < 2 else 24](images[i])

  threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for image, result in zip(images, results, strict=True):
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize('kind', ['ramp', 'flat', 'black', 'checkerboard'])
def test_a_network_leaves_no_seams(tmp_path, kind):
  """Exact tiles give the whole's result, on what shows seams best."""
  y, x = np.mgrid[:120, :170].astype(np.float32)
  plane = {'ramp': x / 169, 'flat': 0 * x + 0.6, 'black': 0 * x, 'checkerboard': (x + y) % 2}[kind]
  image = np.repeat(plane[..., None], 3, -1)
  _, params = random_network('srcnn')
  weights.write(tmp_path / 'w.safetensors', params, {'network': 'srcnn', 'arguments': {}})
  whole = load(tmp_path / 'w.safetensors')(image)
  tiled = load(tmp_path / 'w.safetensors', tile=48)(image)
  np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize(
  'name,arguments',
  [
    ('nafnet', {'width': 4, 'enc_blk_nums': [1], 'middle_blk_num': 1, 'dec_blk_nums': [1]}),
    ('autoencoder', {'features': [4, 8], 'latent': 6, 'side': 64}),
  ],
)
@pytest.mark.parametrize('height,width', [(1, 1), (1, 67), (15, 17), (67, 66)])
def test_small_sizes_come_back_in_the_same_size(tmp_path, height, width, name, arguments):
  _, params = random_network(name, 'smoke')
  manifest = {'network': name, 'arguments': arguments}
  weights.write(tmp_path / 'w.safetensors', params, manifest)
  path = tmp_path / 'a.png'
  vips = pyvips.Image.new_from_array(picture(height, width))
  vips.pngsave(str(path))
  report = restored(path, tmp_path / 'out', load(tmp_path / 'w.safetensors'))
  assert report.restored == 1, report
  assert pictures.size(tmp_path / 'out/a.png') == (height, width)


# Files.


def restored(inputs, output, restorer, *, recursive=False, watch=None, **options):
  inputs = inputs if isinstance(inputs, list) else [inputs]
  todo = jobs.plan(inputs, output, recursive=recursive)
  return restore.restore_files(todo, restorer, restore.Options(**options), watch=watch)


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
  (folder / 'deeper').mkdir()
  PIL.Image.fromarray(picture()).save(folder / 'deeper' / 'c.png')
  return folder


BAD = {'cut.jpg': 'truncated', 'empty.png': 'empty', 'text.jpg': 'not a JPEG'}


def test_bad_files_are_told_and_the_rest_is_done(folder, tmp_path):
  report = restored([folder, tmp_path / 'none.png'], tmp_path / 'out', brighter(0))
  assert (report.restored, report.skipped, report.failed) == (4, 0, 4)
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
  first = restored(folder, tmp_path / 'out', brighter(0))
  before = (tmp_path / 'out/a.png').read_bytes()
  second = restored(folder, tmp_path / 'out', brighter(0.5))
  assert (second.restored, second.skipped) == (0, first.restored)
  assert (tmp_path / 'out/a.png').read_bytes() == before
  third = restored(folder, tmp_path / 'out', brighter(0.5), overwrite=True)
  assert third.restored == first.restored
  assert (tmp_path / 'out/a.png').read_bytes() != before


def test_recursion_mirrors_the_tree_and_leaves_results_alone(folder):
  for expected in (5, 0):  # The results lie among the inputs: they are not restored again.
    report = restored(folder, folder / 'out', brighter(0), recursive=True)
    assert report.restored == expected
  assert (folder / 'out/deeper/c.png').exists()
  assert not (folder / 'out/out').exists()


def test_patterns_are_expanded_and_shards_share_the_work(folder):
  given = [str(folder / '*.png'), str(folder / 'ünï 照片 [1].png'), str(folder / '**/c.*')]
  todo = jobs.plan(given, folder / 'out')
  names = [job.source.name for job in todo]
  assert names == ['a.png', 'empty.png', 'ünï 照片 [1].png', 'c.png']
  (none,) = jobs.plan([str(folder / '*.none')], folder / 'out')
  assert none.problem == 'no such file or folder'
  for count in (1, 2, 3, 7):
    parts = [jobs.shard(todo, index + 1, count) for index in range(count)]
    assert sorted(job for part in parts for job in part) == sorted(todo)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_single_result_may_be_named_by_a_file(folder):
  report = restored(folder / 'a.png', folder / 'new.png', brighter(0.25))
  assert report.restored == 1
  assert (pixels(folder / 'new.png') > pixels(folder / 'a.png')).any()


@pytest.mark.parametrize('suffix', ['.jpg', '.webp', '.tif', '.avif', '.png'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_a_result_is_written_in_the_format_of_its_name(tmp_path, suffix, dtype, channels):
  """Alpha is laid on white where there is none, 16 bits become 8 (12 in AVIF), the rest stays."""
  image = picture(40, 60, channels, dtype)
  top = np.iinfo(dtype).max
  names = {1: ('b-w', 'grey16'), 2: ('b-w', 'grey16'), 3: ('srgb', 'rgb16'), 4: ('srgb', 'rgb16')}
  vips = pyvips.Image.new_from_array(image, interpretation=names[channels][dtype == np.uint16])
  source = tmp_path / ('a.tif' if suffix == '.png' else 'a.png')
  vips.write_to_file(str(source))
  target = tmp_path / f'out{suffix}'
  (outcome,) = restored(source, target, brighter(0)).outcomes
  assert outcome.status == 'restored', outcome
  written = pyvips.Image.new_from_file(str(target))
  assert written.get('vips-loader').startswith(kinds.SUFFIXES[suffix])
  deep = dtype == np.uint16 and suffix in ('.tif', '.png', '.avif')
  assert written.format == ('ushort' if deep else 'uchar')
  flat = channels in (2, 4) and suffix == '.jpg'
  expected = image / top
  colors = channels - (channels in (2, 4))
  if flat:
    alpha = expected[..., -1:]
    expected = expected[..., :colors] * alpha + 1 - alpha
    assert 'JPEG has no transparency: it is blended onto white' in outcome.notes
  elif suffix != '.webp' and channels in (2, 4):
    assert written.hasalpha()
  found = np.atleast_3d(written.numpy()) / (65535 if deep else 255)
  assert np.abs(found[..., :colors].mean(-1) - expected[..., :colors].mean(-1)).mean() < 0.015
  if suffix in ('.jpg', '.webp') and dtype == np.uint16:
    assert any('has only 8 bits per channel' in note for note in outcome.notes)


@pytest.mark.parametrize('suffix', ['.jpg', '.webp', '.avif', '.png', '.tiff'])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_floats_become_integers_in_formats_without(tmp_path, suffix, channels):
  image = picture(40, 60, channels, np.uint8).astype(np.float32) / 255
  image[:8] *= 2  # highlights beyond white
  colors = channels - (channels in (2, 4))
  image[..., colors:] = 1
  named = 'b-w' if channels < 3 else 'srgb'
  vips = pyvips.Image.new_from_array(image).copy(interpretation=named)
  vips.tiffsave(str(tmp_path / 'a.tif'))
  (outcome,) = restored(tmp_path / 'a.tif', tmp_path / f'out{suffix}', brighter(0)).outcomes
  assert outcome.status == 'restored', outcome
  written = pyvips.Image.new_from_file(str(tmp_path / f'out{suffix}'))
  if suffix == '.tiff':
    assert written.format == 'float' and not any('store floats' in note for note in outcome.notes)
    found = np.atleast_3d(written.numpy())
    np.testing.assert_allclose(found[..., :colors], image[..., :colors], atol=1e-6)  # luma
    return
  assert any('cannot store floats: values below' in note for note in outcome.notes)
  found = np.atleast_3d(written.numpy()) / (65535 if written.format == 'ushort' else 255)
  expected = np.clip(image, 0, 1)[..., :colors].mean(-1)
  assert np.abs(found[..., :colors].mean(-1) - expected).mean() < 0.015


def test_quality_and_crop(tmp_path):
  image = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
  PIL.Image.fromarray(image).save(tmp_path / 'a.png')
  sizes = {}
  for quality in (20, 90):
    restored(tmp_path / 'a.png', tmp_path / f'{quality}.jpg', brighter(0), quality=quality)
    sizes[quality] = (tmp_path / f'{quality}.jpg').stat().st_size
  assert sizes[20] < 0.6 * sizes[90]
  assert restored(tmp_path / 'a.png', tmp_path / 'c', brighter(0), crop=(30, 10, 50, 40)).restored
  np.testing.assert_array_equal(pixels(tmp_path / 'c/a.png'), image[10:50, 30:80])
  mask = np.zeros((80, 120), np.uint8)
  mask[:30] = 255
  PIL.Image.fromarray(mask).save(tmp_path / 'mask.png')
  more = {'crop': (30, 10, 50, 40), 'mask': tmp_path / 'mask.png'}
  restored(tmp_path / 'a.png', tmp_path / 'm', brighter(-1), **more)
  expected = image[10:50, 30:80].copy()
  expected[:20] = 0
  np.testing.assert_array_equal(pixels(tmp_path / 'm/a.png'), expected)
  (outcome,) = restored(
    tmp_path / 'a.png', tmp_path / 'd', brighter(), crop=(80, 0, 50, 40)
  ).outcomes
  assert outcome.message == 'crop 80,0,50,40 exceeds the picture of 120x80 pixels'


def test_inputs_and_results_are_never_overwritten(folder, tmp_path):
  before = {path: path.read_bytes() for path in folder.glob('*.*')}
  report = restored(folder, folder, brighter(), overwrite=True)
  assert report.restored == 0
  assert all('would overwrite the input' in o.message for o in report.outcomes)

  assert restored(folder / 'a.png', folder / 'a.png', brighter(), overwrite=True).failed == 1
  assert {path: path.read_bytes() for path in folder.glob('*.*')} == before

  (tmp_path / 'other').mkdir()
  PIL.Image.fromarray(picture(8, 8)).save(tmp_path / 'other/a.png')
  inputs = [folder / 'a.png', tmp_path / 'other/a.png', folder / 'a.png']
  report = restored(inputs, tmp_path / 'out', brighter(0))
  assert [o.status for o in report.outcomes] == ['restored', 'failed']
  np.testing.assert_array_equal(pixels(tmp_path / 'out/a.png'), pixels(folder / 'a.png'))


def test_a_second_round_leaves_the_results_of_the_first_alone(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('a.png', 'b.png', 'out/a.png', 'out/b.png.compare.png'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    PIL.Image.fromarray(picture()).save(tmp_path / name)
  for given in (['a.png', 'b.png', 'out'], ['*'], ['**/*.png']):
    plan = jobs.plan(given, 'out')
    assert [(str(job.source), job.problem) for job in plan] == [('a.png', ''), ('b.png', '')]
  assert [job.problem[:24] for job in jobs.plan(['*.png'], '.')] == ['would overwrite the inpu'] * 2
  assert [job.problem[:24] for job in jobs.plan(['out'], 'out')] == ['would overwrite the inpu'] * 2


def test_a_failure_names_the_file_that_failed(restorer, tmp_path):
  PIL.Image.fromarray(picture()).save(tmp_path / 'a.png')
  (tmp_path / 'file').touch()
  (tmp_path / 'out/a.png').mkdir(parents=True)
  for target, told in (('file/a.png', 'file: '), ('out/a.png', 'out/a.png is a folder')):
    job = jobs.Job(tmp_path / 'a.png', tmp_path / target)
    (outcome,) = restore.restore_files([job], restorer).outcomes
    assert outcome.status == 'failed' and f'{tmp_path}/{told}' in outcome.message


def test_a_mask_may_be_of_bools(restorer):
  mask = np.arange(60) > 30
  image = picture()
  found = Restorer(brighter().method)(image, mask=np.broadcast_to(mask, (40, 60)))
  assert (found[:, 31:] != image[:, 31:]).any() and (found[:, :31] == image[:, :31]).all()


def test_links_to_an_input_are_not_written_through(folder, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out/a.png').symlink_to(folder / 'a.png')
  before = (folder / 'a.png').read_bytes()
  report = restored(folder / 'a.png', tmp_path / 'out', brighter(), overwrite=True)
  assert report.failed == 1
  assert (folder / 'a.png').read_bytes() == before


def standardized(blurred):
  """Statistics of the whole image enter, as in most networks."""
  mean, spread = blurred.mean((1, 2), keepdims=True), blurred.std((1, 2), keepdims=True)
  return 0.5 + 0.2 * (blurred - mean) / (spread + 1e-3)


@pytest.mark.parametrize('name', ['standardized', 'tiles', 'nafnet', 'srcnn', 'wiener'])
def test_a_result_does_not_depend_on_the_other_files(tmp_path, name):
  """Alone, and in a folder of five sizes: byte for byte the same file."""
  if name in ('standardized', 'tiles'):
    needs = Needs(16, 'approximate', 8)
    restorer = Restorer(zoo.Method(name, standardized, needs), 80 if name == 'tiles' else None)
  elif name == 'wiener':
    restorer = load(name, psf=np.ones((3, 3)) / 9)
  else:
    arguments = {'variant': 'smoke'} if name == 'nafnet' else {}
    _, params = random_network(name, **arguments)
    weights.write(tmp_path / 'w.safetensors', params, {'network': name, 'arguments': arguments})
    restorer = load(tmp_path / 'w.safetensors')
  (tmp_path / 'in').mkdir()
  sizes = [(120, 90), (61, 100), (33, 47), (118, 87), (90, 120)]
  for i, (height, width) in enumerate(sizes):
    noise = np.random.default_rng(i).integers(0, 100, (height, width, 3), np.uint8)
    image = picture(height, width, seed=i) // 2 + noise
    PIL.Image.fromarray(image).save(tmp_path / f'in/{i}.png')
  assert restored(tmp_path / 'in', tmp_path / 'together', restorer).restored == 5
  for i in range(5):
    assert restored(tmp_path / f'in/{i}.png', tmp_path / 'alone', restorer).restored == 1
    together = (tmp_path / f'together/{i}.png').read_bytes()
    assert together == (tmp_path / f'alone/{i}.png').read_bytes(), sizes[i]


def test_an_array_in_a_batch_is_restored_as_alone():
  images = np.random.default_rng(0).random((3, 40, 30, 3), np.float32)
  method = zoo.Method('m', lambda blurred: blurred - blurred.mean(), Needs())
  together = Restorer(method)(images)
  for image, result in zip(images, together, strict=True):
    np.testing.assert_array_equal(Restorer(method)(image), result)


def test_methods_of_one_size_get_no_other(tmp_path):
  shapes = set()

  def note(blurred):
    shapes.add(blurred.shape)
    return blurred

  sizes = [(20, 30), (64, 64), (65, 10), (100, 150)]
  for i, (height, width) in enumerate(sizes):
    pyvips.Image.new_from_array(picture(height, width)).pngsave(str(tmp_path / f'{i}.png'))
  method = zoo.Method('note', note, Needs(tiling='approximate', halo=4, side=64))
  report = restored(tmp_path, tmp_path / 'out', Restorer(method))
  assert shapes == {(1, 64, 64, 3)}
  assert [outcome.tiles for outcome in report.outcomes] == [1, 1, 2, 3 * 5]
  for i in range(len(sizes)):
    np.testing.assert_array_equal(pixels(tmp_path / f'out/{i}.png'), pixels(tmp_path / f'{i}.png'))


def test_grey_alpha_and_depth_go_through_a_network(tmp_path, restorer):
  for channels, interpretation in ((1, 'grey16'), (2, 'grey16'), (3, 'rgb16'), (4, 'rgb16')):
    image = picture(23, 31, channels, np.uint16)
    path = tmp_path / f'{channels}.tif'
    vips = pyvips.Image.new_from_array(image, interpretation=interpretation)
    vips.tiffsave(str(path))
    assert restored(path, tmp_path / 'out', restorer).restored == 1
    np.testing.assert_array_equal(pixels(tmp_path / 'out' / path.name), image)


class Seen:
  """Notes what a watch is told."""

  def __init__(self):
    self.pixels, self.done, self.outcomes = 0, 0, []

  def start(self, pixels):
    self.pixels = pixels

  def advance(self, pixels):
    self.done += pixels

  def finish(self, outcome):
    self.outcomes.append(outcome)


def test_a_dry_run_does_nothing_but_look(tmp_path):
  PIL.Image.fromarray(picture(300, 500)).save(tmp_path / 'a.png')
  PIL.Image.fromarray(picture(30, 50)).save(tmp_path / 'b.png')

  def never(blurred):
    raise AssertionError

  method = zoo.Method('never', never, Needs(8, 'exact', 4))
  watch = Seen()
  report = restored(tmp_path, tmp_path / 'out', Restorer(method, 128), dry_run=True, watch=watch)
  assert [o.status for o in report.outcomes] == ['planned'] * 2
  assert [o.size for o in report.outcomes] == [(300, 500), (30, 50)]
  # Tiles of 128 that overlap by 8: three over 300 pixels, five over 500.
  assert [o.tiles for o in report.outcomes] == [15, 1]
  assert not (tmp_path / 'out').exists()
  seen = []
  counted = zoo.Method('counted', broken_above(1e9, None, seen), method.needs)
  report = restored(tmp_path, tmp_path / 'out', Restorer(counted, 128))
  assert len(seen) == sum(o.tiles for o in report.outcomes) == 16


def test_progress_ends_where_it_was_to_end(folder, tmp_path):
  def fails_on_wide(blurred):
    if blurred.shape[2] > 45:
      raise RuntimeError('too wide')
    return blurred

  watch = Seen()
  method = zoo.Method('picky', fails_on_wide, Needs())
  report = restored(folder, tmp_path / 'out', Restorer(method), watch=watch)
  assert watch.done == watch.pixels == 20 * 50 + 27 * 45 + 34 * 40 + 41 * 35 + 20 * 50 * 0
  assert {o.message for o in report.outcomes if o.source.name == 'a.png'} == {'too wide'}
  assert set(watch.outcomes) == set(report.outcomes)


def test_mask_compare_and_strip_reach_the_files(tmp_path):
  image = picture(30, 40)
  exif = PIL.Image.Exif()
  exif[0x010F] = 'A camera'
  PIL.Image.fromarray(image).save(tmp_path / 'a.png', exif=exif)
  mask = np.zeros((30, 40), np.uint8)
  mask[:, 20:] = 255
  PIL.Image.fromarray(mask).save(tmp_path / 'mask.png')
  options = {'mask': tmp_path / 'mask.png', 'compare': True, 'strip': True}
  report = restored(tmp_path / 'a.png', tmp_path / 'out', brighter(1), **options)
  assert report.restored == 1, report
  result = pixels(tmp_path / 'out/a.png')
  np.testing.assert_array_equal(result[:, :20], image[:, :20])
  assert (result[:, 20:] == 255).all()
  both = pixels(tmp_path / 'out/a.png.compare.png')
  np.testing.assert_array_equal(both[-30:, :40], image)
  np.testing.assert_array_equal(both[-30:, -40:], result)
  assert b'A camera' not in (tmp_path / 'out/a.png').read_bytes()
  PIL.Image.fromarray(mask[:-1]).save(tmp_path / 'mask.png')
  (outcome,) = restored(tmp_path / 'a.png', tmp_path / 'new', brighter(), **options).outcomes
  assert 'is 40x29 pixels, but the picture is 40x30' in outcome.message


@pytest.mark.parametrize('name', ['compare', 'uncertainty'])
def test_a_file_beside_a_result_that_cannot_be_written_is_a_note(tmp_path, name):
  PIL.Image.fromarray(picture(30, 40)).save(tmp_path / 'a.png')
  (tmp_path / f'out/a.png.{name}.png').mkdir(parents=True)  # a folder of that name
  known = stored.Stored(conformal.Calibration(1.0, 0.1, 0.1, 30), None)
  options = {'compare': True, 'uncertainty': known}
  (outcome,) = restored(tmp_path / 'a.png', tmp_path / 'out', brighter(1), **options).outcomes
  assert outcome.status == 'restored'
  (note,) = (note for note in outcome.notes if 'could not be written' in note)
  assert note.startswith(f'a.png.{name}.png could not be written (')
  assert pixels(tmp_path / 'out/a.png').shape == (30, 40, 3)
  other = {'compare': 'uncertainty', 'uncertainty': 'compare'}[name]
  assert (tmp_path / f'out/a.png.{other}.png').is_file()


def test_incidents_and_warnings_are_told(tmp_path):
  y, x = np.mgrid[:200, :300]
  image = np.where((x // 40 + y // 40) % 2, 200, 50).astype(np.uint8)
  PIL.Image.fromarray(np.stack([image] * 3, -1)).save(tmp_path / 'a.png')
  method = zoo.Method('m', broken_above(10_000, MemoryError(), []), Needs(8, 'exact', 4))
  (outcome,) = restored(tmp_path / 'a.png', tmp_path / 'out', Restorer(method)).outcomes
  assert outcome.notes[0].startswith('out of memory with tiles of 304x200')
  assert outcome.notes[1] == 'out of memory with tiles of 112x104: reduced to at most 56 pixels'
  assert 'the picture was already sharp' in outcome.notes
  assert outcome.diagnosis.blur.kind == 'sharp'
  (same,) = restored(tmp_path / 'a.png', tmp_path / 'same', brighter(0)).outcomes
  assert 'the result equals the input' in same.notes


def test_a_failed_write_leaves_nothing(folder, tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(weights.os, 'fsync', full)
  report = restored(folder / 'a.png', tmp_path / 'out', brighter())
  assert [o.message for o in report.outcomes] == ['No space left on device']
  assert not list((tmp_path / 'out').iterdir())


# Names.


def test_weights_in_the_package_go_by_name(tmp_path, monkeypatch, identity):
  monkeypatch.setattr(methods, 'SHIPPED', tmp_path)
  monkeypatch.chdir(tmp_path)
  name = methods.DEFAULT
  with pytest.raises(FileNotFoundError, match=rf"{name}: no such weights; available: a run's fold"):
    zoo.load()
  params, manifest = weights.read(identity)
  weights.write(tmp_path / f'{name}.safetensors', params, manifest, dtype='bfloat16')
  assert list(methods.shipped()) == [name]
  np.testing.assert_array_equal(load()(picture()), picture())
  (tmp_path / name).mkdir()
  assert methods.find(name) == tmp_path / f'{name}.safetensors'
  with pytest.raises(FileNotFoundError, match=r'no weights.safetensors in this folder'):
    methods.find(f'./{name}')
  with pytest.raises(FileNotFoundError, match=f'available: {name}, a run'):
    methods.find('other')


def test_weights_that_ship_say_where_they_come_from():
  trained_here = {'command', 'settings', 'data', 'hours', 'hardware', 'step'}
  sizes = {'mobile': 2e6, 'general': 7e6, 'maxim': 24e6}
  assert methods.shipped().keys() == sizes.keys()
  for name, path in methods.shipped().items():
    params, manifest = weights.read(path)
    network = models.make(manifest['network'], **manifest['arguments'])
    # `zoo.load` takes this for granted.
    weights.check_fit(params, models.shapes(network), what=name)
    assert path.stat().st_size < sizes[name]
    assert manifest['license'] == 'Apache-2.0'
    made_of = manifest.get('made of', {'whole': manifest})
    for part in made_of.values():
      assert trained_here <= part.keys() or {'attribution', 'origin', 'source'} <= part.keys()
      assert all(one['what'] and one['license'] for one in part.get('data', []))
    assert len(manifest['scores']) >= 3
    if name == 'maxim':  # knows motion alone; tests/test_maxim.py restores a real pair with it
      continue
    assert min(v['psnr'] for k, v in manifest['scores'].items() if k.startswith('sharp')) > 40
    assert all('blurred' in v for k, v in manifest['scores'].items() if not k.startswith('sharp'))
    sharp = builtin.photograph('coffee.png')[100:228, 200:328].astype(np.float32) / 255
    blurred = scipy.ndimage.gaussian_filter(color.SRGB.to_linear(sharp), (1.5, 1.5, 0))
    soft = np.asarray(color.SRGB.from_linear(blurred))
    error = [np.square(one - sharp).mean() for one in (soft, *map(load(name), (soft, sharp)))]
    assert error[1] < 0.7 * error[0] and error[2] < 1e-4


def test_wrong_strengths_and_tiles_are_told_before_any_work(identity):
  with pytest.raises(ValueError, match='from 0 to 1, not 2'):
    load(identity, strength=2)
  with pytest.raises(ValueError, match='too small'):
    load(identity, tile=4)


def test_importing_the_package_is_light():
  code = (
    'import sys, deblur_jax; assert deblur_jax.__version__; '
    'heavy = {"jax", "flax", "numpy", "pyvips", "tensorflow", "torch"} & set(sys.modules); '
    'assert not heavy, heavy; deblur_jax.load; '
    'heavy = {"tensorflow", "torch"} & set(sys.modules); assert not heavy, heavy'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


def test_one_file_raises_and_what_a_tick_raises_stops_it(tmp_path):
  path, target = tmp_path / 'a.png', tmp_path / 'out' / 'a.png'
  PIL.Image.fromarray(picture(80, 120)).save(path)
  (tmp_path / 'none.png').write_bytes(b'no picture')
  with pytest.raises(pictures.UnsupportedError, match='not a JPEG'):
    restore.restore_file(jobs.Job(tmp_path / 'none.png', tmp_path / 'b.png'), brighter())

  def stop():
    raise TimeoutError

  with pytest.raises(TimeoutError):
    restore.restore_file(jobs.Job(path, target), brighter(), tick=stop)
  assert not target.exists()
  outcome = restore.restore_file(jobs.Job(path, target), brighter())
  assert (outcome.status, outcome.size, outcome.tiles) == ('restored', (80, 120), 1)
  assert outcome.plain()['diagnosis'].keys() >= {'blur', 'confidence'}
