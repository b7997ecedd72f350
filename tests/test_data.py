"""Sources, host ops and the pipeline: what they return, and their errors for invalid data."""

import os
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
import skimage

from deblur_jax.data import builtin, leaves, mixture, ops, pipeline, sources
from deblur_jax.datasets import files, pairs


def picture(seed, height=40, width=48):
  """Smooth random color, so that every picture has its own large structure."""
  rng = np.random.default_rng(seed)
  coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
  return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def save(path, image, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path, **options)
  return path


def make_pairs(root, count=6, split=''):
  for i in range(count):
    sharp = picture(i)
    save(root / split / 'sharp' / f'{i:03d}.png', sharp)
    save(root / split / 'blur' / f'{i:03d}.png', (sharp // 2 + np.roll(sharp, 3, 1) // 2))
  return root


class Numbers:
  """A source whose pictures contain their own index."""

  def __init__(self, count, paired=False):
    self.count, self.paired = count, paired

  def __len__(self):
    return self.count

  def __getitem__(self, index):
    y, x = np.mgrid[:12, :12]
    sharp = np.stack([np.full((12, 12), index), y * 12 + x, y * 12 + x], -1).astype(np.uint8)
    blurred = {'blurred': 255 - sharp} if self.paired else {}
    return {'name': str(index), 'sharp': sharp, **blurred}


# Picture files


def test_read_gives_upright_rgb_of_8_bits(tmp_path):
  grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
  color = picture(0, 3, 4)
  save(tmp_path / 'grey.png', grey)
  save(tmp_path / 'alpha.png', np.dstack([color, np.full((3, 4), 7, np.uint8)]))
  save(tmp_path / 'deep.png', grey.astype(np.uint16) * 257)
  Image.fromarray(color).quantize(16).save(tmp_path / 'palette.png', transparency=0)
  exif = Image.Exif()
  exif[0x0112] = 6  # shown after a quarter turn clockwise
  save(tmp_path / 'turned.png', color, exif=exif)
  three = np.repeat(grey[..., None], 3, -1)
  np.testing.assert_array_equal(files.read(tmp_path / 'grey.png'), three)
  np.testing.assert_array_equal(files.read(tmp_path / 'alpha.png'), color)
  np.testing.assert_array_equal(files.read(tmp_path / 'deep.png'), three)
  assert files.read(tmp_path / 'palette.png').shape == (3, 4, 3)
  np.testing.assert_array_equal(files.read(tmp_path / 'turned.png'), np.rot90(color, -1))
  assert files.size(tmp_path / 'turned.png') == (4, 3)
  assert files.size(tmp_path / 'grey.png') == (3, 4)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.webp', '.tif'])
def test_truncated_picture_is_named_in_one_line(tmp_path, suffix):
  path = save(
    tmp_path / f'broken{suffix}', np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  )
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(files.UnreadablePicture, match=f'broken{suffix}: cannot read') as error:
    files.read(path)
  assert '\n' not in str(error.value)


def test_a_text_file_named_as_a_picture_is_reported(tmp_path):
  (tmp_path / 'note.png').write_text('no picture')
  save(tmp_path / 'a.png', picture(0))
  with pytest.raises(files.UnreadablePicture, match=r'note\.png'):
    sources.open('sharp', 'all', directory=tmp_path)


def test_find_skips_hidden_and_keeps_extensions_that_distinguish(tmp_path):
  for name in ('b/2.png', 'a.jpg', 'a.png', '.hidden/3.png', '.4.png', 'notes.txt'):
    save(tmp_path / name, picture(0)) if not name.endswith('txt') else (tmp_path / name).touch()
  assert list(files.find(tmp_path)) == ['a.jpg', 'a.png', 'b/2']


# Built-in pictures


def test_builtin_test_pictures_are_never_trained_on():
  train, test = (sources.open('builtin', split) for split in sources.SPLITS)
  names = [{source[i]['name'] for i in range(len(source))} for source in (train, test)]
  assert names[1] == {'astronaut', 'camera', 'coffee'}
  assert not names[0] & names[1]
  assert not set(builtin.PALETTES) & set(builtin.TEST)
  assert len(names[0]) == len(builtin.TRAIN) + builtin.LEAVES
  assert {test.size(i) for i in range(3)} == {(512, 512), (400, 600)}
  assert not train.paired


def test_builtin_photographs_are_scikit_images():
  from skimage import data

  test = sources.open('builtin', 'test')
  np.testing.assert_array_equal(test[0]['sharp'], data.astronaut())
  np.testing.assert_array_equal(test[1]['sharp'], np.repeat(data.camera()[..., None], 3, -1))
  np.testing.assert_array_equal(test[2]['sharp'], data.coffee())


def test_dead_leaves_are_a_function_of_seed_and_number():
  first = builtin.dead_leaves(0, 3)
  again = builtin.dead_leaves.__wrapped__(0, 3)
  np.testing.assert_array_equal(first, again)
  assert first.shape == (256, 256, 3) and first.dtype == np.uint8
  for other in (builtin.dead_leaves(0, 5), builtin.dead_leaves(1, 3)):
    assert np.abs(first.astype(int) - other).mean() > 5
  with pytest.raises(ValueError, match='read-only'):
    first[0, 0] = 0


def spectrum_slope(grey):
  """Exponent of radially averaged power against frequency, 4 to 85 cycles per picture."""
  n = len(grey)
  window = np.hanning(n)[:, None] * np.hanning(n)[None]
  power = np.abs(np.fft.fftshift(np.fft.fft2((grey - grey.mean()) * window))) ** 2
  radius = np.hypot(*(np.indices((n, n)) - n // 2)).astype(int)
  mean = np.bincount(radius.ravel(), power.ravel()) / np.bincount(radius.ravel())
  f = np.arange(4, n // 3)
  return np.polyfit(np.log(f), np.log(mean[f]), 1)[0]


def test_dead_leaves_have_the_statistics_of_photographs():
  grey = [builtin.dead_leaves(0, i).mean(-1) / 255 for i in range(32)]
  gradients = [np.diff(image, axis=1).ravel() for image in grey]
  kurtosis = [((g - g.mean()) ** 4).mean() / g.var() ** 2 for g in gradients]
  assert -2.8 < np.mean([spectrum_slope(image) for image in grey]) < -2.2
  assert 10 < np.mean(kurtosis) < 60
  assert 0.3 < np.mean(grey) < 0.7
  assert all(0.1 < image.mean() < 0.9 for image in grey)


def test_leaves_cover_the_picture_and_radii_follow_the_power_law():
  made = [leaves.layout(np.random.default_rng(i), 512) for i in range(4)]
  assert all((one.visible > 0).mean() > 0.99 for one in made)
  radii = np.concatenate([one.radii for one in made])
  assert radii.min() >= 8 and radii.max() <= 512
  exponent = 1 + 1 / np.log(radii / 8).mean()  # Hill's estimate; the cut at 512 matters little
  assert abs(exponent - 3) < 0.2


def test_the_visible_leaf_is_the_last_one_drawn():
  made = leaves.layout(np.random.default_rng(0), 64, count=200)
  rng = np.random.default_rng(1)
  for y, x in rng.integers(0, 64, (200, 2)):
    inside = ((made.centers - [y, x]) ** 2).sum(1) <= made.radii**2
    inside[0] = True  # the ground
    assert made.visible[y, x] == np.flatnonzero(inside)[-1]


# Folders


def test_sharp_folder_holds_out_a_tenth_that_stays_held_out(tmp_path):
  for i in range(30):
    save(tmp_path / f'{"ab"[i % 2]}/{i:02d}.png', picture(i, 8, 8))
  train, test = (
    [name for name, _ in sources.open('sharp', split, directory=tmp_path).pictures]
    for split in sources.SPLITS
  )
  assert len(test) == 3 and len(train) == 27 and not set(train) & set(test)
  assert len(sources.open('sharp', 'all', directory=tmp_path)) == 30
  for i in range(30, 40):
    save(tmp_path / f'a/{i:02d}.png', picture(i, 8, 8))
  grown = sources.open('sharp', 'train', directory=tmp_path)
  moved = set(test) & {name for name, _ in grown.pictures}
  assert len(moved) <= 2  # a held-out picture only leaves if a new one comes before it


def test_sharp_folder_with_splits(tmp_path):
  save(tmp_path / 'train/a.png', picture(0))
  save(tmp_path / 'test/b.jpg', picture(1))
  train = sources.open('sharp', 'train', directory=tmp_path)
  assert [train[0]['name'], len(train), train.size(0)] == ['a', 1, (40, 48)]
  both = sources.open('sharp', 'all', directory=tmp_path)
  assert [both[i]['name'] for i in range(2)] == ['train/a', 'test/b']
  (tmp_path / 'test/b.jpg').unlink()
  with pytest.raises(FileNotFoundError, match='test: no pictures'):
    sources.open('sharp', 'test', directory=tmp_path)
  (tmp_path / 'test').rmdir()
  with pytest.raises(FileNotFoundError, match='has train/ but no test/'):
    sources.open('sharp', 'test', directory=tmp_path)


def test_one_sharp_picture_cannot_be_split(tmp_path):
  save(tmp_path / 'a.png', picture(0))
  with pytest.raises(ValueError, match='cannot be split'):
    sources.open('sharp', 'train', directory=tmp_path)


def test_pairs_by_name(tmp_path):
  make_pairs(tmp_path, 4, 'train')
  make_pairs(tmp_path, 2, 'test')
  source = sources.open('pairs', 'train', directory=tmp_path)
  assert source.paired and len(source) == 4 and source.size(2) == (40, 48)
  np.testing.assert_array_equal(source[2]['sharp'], picture(2))
  assert source[2]['name'] == '002' and source[2]['blurred'].shape == (40, 48, 3)


def test_pairs_hold_out(tmp_path):
  make_pairs(tmp_path, 12)
  names = [
    {source.pictures[i].name for i in range(len(source))}
    for source in (sources.open('pairs', s, directory=tmp_path) for s in ('train', 'test', 'all'))
  ]
  assert names[0] | names[1] == names[2] and not names[0] & names[1] and len(names[1]) == 1


def test_pair_without_partner_is_named(tmp_path):
  make_pairs(tmp_path)
  (tmp_path / 'sharp/003.png').rename(tmp_path / 'sharp/x.png')
  with pytest.raises(pairs.WrongPairs, match=r'blur/003.png: no picture of that name.*1 of 6'):
    sources.open('pairs', 'all', directory=tmp_path)
  (tmp_path / 'blur/003.png').unlink()
  with pytest.raises(pairs.WrongPairs, match=r'sharp/x.png: no picture of that name'):
    sources.open('pairs', 'all', directory=tmp_path)


def test_pair_of_unequal_sizes_is_named(tmp_path):
  make_pairs(tmp_path)
  save(tmp_path / 'blur/004.png', picture(4, 40, 50))
  with pytest.raises(
    pairs.WrongPairs, match=r'blur/004.png: 50x40 pixels, but .*004.png has 48x40'
  ):
    sources.open('pairs', 'all', directory=tmp_path)


def test_mis_ordered_pairs_are_named(tmp_path):
  make_pairs(tmp_path)
  first, second = (tmp_path / f'sharp/00{i}.png' for i in (1, 4))
  first.rename(tmp_path / 'aside'), second.rename(first), (tmp_path / 'aside').rename(second)
  with pytest.raises(pairs.WrongPairs, match=r'blur/001.png: looks like a blurred 004.png'):
    sources.open('pairs', 'all', directory=tmp_path)


def test_mis_ordered_frames_of_one_scene_are_named(tmp_path, shared):
  frames = shared('data/gopro_mini/test/GOPR0477_11_00')
  for kind, names in (('blur', ('000165', '000171')), ('sharp', ('000171', '000165'))):
    (tmp_path / kind).mkdir()
    for name, frame in zip(('a', 'b'), names, strict=True):
      (tmp_path / kind / f'{name}.png').symlink_to(frames / kind / f'{frame}.png')
  with pytest.raises(pairs.WrongPairs, match=r'blur/a.png: looks like a blurred b.png'):
    sources.open('pairs', 'all', directory=tmp_path)
  assert len(pairs.match(frames / 'blur', frames / 'sharp')) == 6
  pairs.check_order(pairs.match(frames / 'blur', frames / 'sharp'))


def test_shifted_names_are_found_in_a_sample_of_many(tmp_path):
  make_pairs(tmp_path, 60)
  for i in range(60):  # every sharp picture moves on by one name
    save(tmp_path / f'sharp/{i:03d}.png', picture((i + 1) % 60))
  with pytest.raises(pairs.WrongPairs, match='out of order'):
    sources.open('pairs', 'all', directory=tmp_path)


def test_flat_and_strongly_blurred_pairs_pass(tmp_path):
  make_pairs(tmp_path)
  save(tmp_path / 'sharp/flat.png', np.full((40, 48, 3), 200, np.uint8))
  save(tmp_path / 'blur/flat.png', np.full((40, 48, 3), 198, np.uint8))
  blurred = Image.fromarray(picture(5)).resize((4, 4), Image.Resampling.BOX).resize((48, 40))
  save(tmp_path / 'blur/005.png', np.asarray(blurred))
  assert len(sources.open('pairs', 'all', directory=tmp_path)) == 7


def test_parts_of_a_split(tmp_path):
  make_pairs(tmp_path, 5, 'train')
  whole = sources.open('pairs', 'train', directory=tmp_path)
  first, rest = (
    sources.open('pairs', split, directory=tmp_path) for split in ('train[:60%]', 'train[60%:]')
  )
  assert (len(first), len(rest)) == (3, 2)
  assert rest.paired and rest.aligned and rest.size(1) == whole.size(4)
  assert [part[i]['name'] for part in (first, rest) for i in range(len(part))] == [
    whole[i]['name'] for i in range(5)
  ]
  with pytest.raises(IndexError):
    first[3]
  for split in ('train[60%:60%]', 'train[90%:120%]'):
    with pytest.raises(ValueError, match='has none of 5'):
      sources.open('pairs', split, directory=tmp_path)


@pytest.mark.parametrize('name, split, options, message', [
  ('bultin', 'train', {}, 'did you mean builtin'),
  ('builtin', 'val', {}, "no split 'val'"),
  ('builtin', 'train', {'directory': 'somewhere'}, 'takes no directory'),
  ('sharp', 'train', {}, 'requires a directory'),
])  # fmt: skip
def test_wrong_use_is_reported(name, split, options, message):
  with pytest.raises(ValueError, match=message):
    sources.open(name, split, **options)


def test_missing_folders_are_reported(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere: no such folder'):
    sources.open('sharp', 'train', directory=tmp_path / 'nowhere')
  save(tmp_path / 'input/a.png', picture(0))
  with pytest.raises(FileNotFoundError, match='expected a folder blur/, found input/'):
    sources.open('pairs', 'all', directory=tmp_path)


# Ops


def example(height=12, width=12, seed=0):
  sharp = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
  return {'name': 'x', 'sharp': sharp, 'blurred': 255 - sharp}


GEOMETRIC = (
  'crop(8)', 'center_crop(8)', 'subimage(8, 4)', 'flip_horizontal', 'flip_vertical', 'transpose',
  'dihedral', 'dihedral_mprnet', 'crop(20)', 'crop(8) or center_crop(10)', 'shuffle_colors',
)  # fmt: skip
COLORS = ('saturation', 'contrast', 'brightness', 'saturation_hsv')


@pytest.mark.parametrize('text', GEOMETRIC)
def test_blurred_and_sharp_get_the_same_draw(text):
  op, given = ops.parse(text), example()
  kept = given['sharp'].copy()
  for seed in range(20):
    out = op(given, np.random.default_rng(seed))
    np.testing.assert_array_equal(out['blurred'], 255 - out['sharp'])
    assert out['name'] == 'x' and out['sharp'].dtype == np.uint8
    again = op(given, np.random.default_rng(seed))
    np.testing.assert_array_equal(out['sharp'], again['sharp'])
  np.testing.assert_array_equal(given['sharp'], kept)


def test_every_op_is_swept():
  swept = {text.partition('(')[0] for text in GEOMETRIC}
  assert {*swept, *COLORS, 'resize', 'noise_blurred', 'match_means'} == set(ops.OPS)


@pytest.mark.parametrize('name', COLORS)
def test_blurred_and_sharp_get_the_same_colors(name):
  op, given = ops.parse(f'{name}(0.5..1.5)'), example()
  given['blurred'] = given['sharp'].copy()
  out = op(given, np.random.default_rng(0))
  assert np.abs(out['sharp'].astype(int) - given['sharp']).max() > 10
  np.testing.assert_array_equal(out['blurred'], out['sharp'])


def test_contrast_and_brightness():
  given, rng = {'sharp': picture(3)}, np.random.default_rng(0)
  dark = ops.parse('brightness(0.5..0.5)')(given, rng)['sharp']
  np.testing.assert_allclose(dark, given['sharp'] / 2, atol=1)
  flat = ops.parse('contrast(0..0)')(given, rng)['sharp']
  np.testing.assert_allclose(flat, given['sharp'].mean((0, 1)) @ [0.299, 0.587, 0.114], atol=1)


def test_saturation_hsv_is_that_of_scikit_image():
  given = example(40, 30)
  given['sharp'][:4] = given['sharp'][:4, :, :1]  # grey
  given['sharp'][4] = 0
  for factor in (0, 0.5, 1.5, 9):
    hsv = skimage.color.rgb2hsv(given['sharp'])
    hsv[..., 1] = np.clip(factor * hsv[..., 1], 0, 1)
    expected = 255 * skimage.color.hsv2rgb(hsv)
    op = ops.parse(f'saturation_hsv({factor}..{factor})')
    found = op(given, np.random.default_rng(0))['sharp']
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, expected, atol=0.51)


def test_noise_is_added_to_the_blurred_picture_only():
  grey = np.full((60, 60, 3), 128, np.uint8)
  op, given = ops.parse('noise_blurred(8)'), {'sharp': grey, 'blurred': grey}
  outs = [op(given, np.random.default_rng(seed)) for seed in range(300)]
  assert all(out['sharp'] is grey and out['blurred'].dtype == np.uint8 for out in outs)
  strengths = np.array([out['blurred'].std() for out in outs])
  # Half of |N(0, 8)| is below 0.6745 * 8.
  assert np.median(strengths) == pytest.approx(0.6745 * 8, rel=0.15)
  with pytest.raises(ValueError, match='requires pairs'):
    op({'sharp': grey}, np.random.default_rng(0))


def test_pictures_are_resized():
  ramp = np.linspace(0, 255, 60).astype(np.uint8)[:, None, None].repeat(40, 1).repeat(3, 2)
  given = {'name': 'a', 'sharp': ramp, 'blurred': ramp[::-1]}
  found = ops.parse('resize(30, 80)')(given, np.random.default_rng(0))
  assert found['sharp'].shape == (30, 80, 3) and found['sharp'].dtype == np.uint8
  means = ramp[:, 0, 0].reshape(30, 2).mean(1)
  np.testing.assert_allclose(found['sharp'][2:-2, 7, 1], means[2:-2], atol=1)
  np.testing.assert_array_equal(found['blurred'], found['sharp'][::-1])


def test_crop_reaches_every_window():
  given = {'name': '', 'sharp': np.dstack([np.mgrid[:5, :6][0], np.mgrid[:5, :6][1]] * 2)[..., :3]}
  rng = np.random.default_rng(0)
  corners = {tuple(ops.Crop(3)(given, rng)['sharp'][0, 0, :2]) for _ in range(400)}
  assert corners == {(y, x) for y in range(3) for x in range(4)}


def test_small_pictures_are_reflected():
  given = {'name': '', 'sharp': np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, -1)}
  out = ops.Crop(4)(given, np.random.default_rng(0))['sharp'][..., 0]
  np.testing.assert_array_equal(out, [[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]])


@pytest.mark.parametrize('length, starts', [
  (720, [0, 208]), (1280, [0, 256, 512, 768]), (512, [0]), (513, [0, 1]), (300, [0]),
])  # fmt: skip
def test_subimages_are_those_of_basicsr(length, starts):
  assert ops.Subimage(512, 256).starts(length) == starts


def test_subimages_of_gopro_are_as_many_as_published():
  op = ops.Subimage()
  assert 2103 * len(op.starts(720)) * len(op.starts(1280)) == 16824


def draws(op, count=9000):
  """How often each of the eight symmetries is drawn."""
  base = np.arange(9).reshape(3, 3, 1)
  rng = np.random.default_rng(0)
  seen = [op({'sharp': base}, rng)['sharp'].tobytes() for _ in range(count)]
  return np.array([seen.count(turn(base).tobytes()) for turn in ops.SYMMETRIES]) / count


def test_symmetries_have_their_frequencies():
  np.testing.assert_allclose(draws(ops.Dihedral()), np.full(8, 1 / 8), atol=0.015)
  np.testing.assert_allclose(draws(ops.DihedralMPRNet()), [2 / 9, *[1 / 9] * 7], atol=0.015)
  flips = ops.parse('flip_horizontal | flip_vertical | transpose')
  np.testing.assert_allclose(draws(flips), np.full(8, 1 / 8), atol=0.015)


def test_flips_turn_the_right_way():
  rng, given = np.random.default_rng(0), example(2, 3)
  sharp = given['sharp']
  for text, expected in (
    ('flip_horizontal(1)', sharp[:, ::-1]),
    ('flip_vertical(1)', sharp[::-1]),
    ('transpose(1)', sharp.transpose(1, 0, 2)),
    ('flip_vertical(p=0)', sharp),
    ('', sharp),
  ):
    np.testing.assert_array_equal(ops.parse(text)(given, rng)['sharp'], expected)


def test_saturation_keeps_grey_and_luminance():
  rng = np.random.default_rng(0)
  grey = {'sharp': np.full((4, 4, 3), 77, np.uint8)}
  np.testing.assert_array_equal(ops.parse('saturation(0.5..2)')(grey, rng)['sharp'], grey['sharp'])
  given = {'sharp': picture(3) // 2 + 50, 'blurred': picture(3) // 2 + 50}
  none = ops.parse('saturation(0..0)')(given, rng)['sharp']
  assert np.ptp(none, axis=-1).max() == 0
  strong = ops.parse('saturation(1.2..1.2)')(given, rng)
  np.testing.assert_array_equal(strong['sharp'], strong['blurred'])
  weights = np.array([0.299, 0.587, 0.114])
  grey_value = given['sharp'] @ weights
  expected = grey_value[..., None] + 1.2 * (given['sharp'] - grey_value[..., None])
  np.testing.assert_allclose(strong['sharp'], expected.clip(0, 255), atol=1.5)
  op = ops.parse('saturation(0..0, p=0.25)')
  share = np.mean([np.ptp(op(given, rng)['sharp'], axis=-1).max() == 0 for _ in range(400)])
  assert 0.15 < share < 0.35


@pytest.mark.parametrize('text, message', [
  ('crop(0)', 'size must be a whole number'), ('crop(1.5)', 'size must be a whole number'),
  ('flip_horizontal(2)', 'p must be a probability'), ('saturation(1.2)', '0.8..1.2'),
  ('crops(3)', 'did you mean crop'), ('crop', 'missing a required argument'),
])  # fmt: skip
def test_invalid_ops_are_reported(text, message):
  with pytest.raises(ValueError, match=message):
    ops.parse(text)


# Pipeline

TEXT = 'crop(8) | flip_horizontal | dihedral'


def same(a, b):
  assert a.keys() == b.keys()
  for key in a:
    np.testing.assert_array_equal(a[key], b[key])


def open_batches(count=10, *, text=TEXT, paired=False, batch_size=4, seed=0, **processes):
  source = Numbers(count, paired)
  return pipeline.batches(source, ops.parse(text), batch_size=batch_size, seed=seed, **processes)


def test_batch_is_a_pure_function_of_seed_and_step():
  one, two = open_batches(paired=True), open_batches(paired=True)
  for step in (7, 0, 3, 10**9):
    same(one[step], two[step])
    same(one[step], one[step])
  assert one[0]['sharp'].shape == (4, 8, 8, 3) and one[0]['sharp'].dtype == np.uint8
  assert list(one[0]['name']) == [str(i) for i in one[0]['sharp'][:, 0, 0, 0]]
  np.testing.assert_array_equal(one[5]['blurred'], 255 - one[5]['sharp'])
  assert any((one[t]['sharp'] != open_batches(seed=1)[t]['sharp']).any() for t in range(3))


@pytest.mark.parametrize('start, num_threads', [(0, 1), (0, 8), (13, 3), (10**6, 8)])
def test_resuming_at_any_step_gives_the_same_batches(start, num_threads):
  dataset = open_batches()
  resumed = pipeline.iterate(open_batches(), start, num_threads=num_threads, prefetch=4)
  for step in range(start, start + 20):
    same(next(resumed), dataset[step])


def test_each_epoch_has_every_picture_once_in_its_own_order_and_with_its_own_draws():
  dataset = open_batches(12)
  epochs = [
    np.concatenate([dataset[3 * epoch + i]['sharp'][:, 0, 0, 0] for i in range(3)])
    for epoch in range(6)
  ]
  assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 6
  windows = {
    image[..., 1].tobytes() for step in range(30) for image in dataset[step]['sharp']
    if image[0, 0, 0] == 5
  }  # fmt: skip
  assert len(windows) >= 8  # of ten epochs


def test_source_smaller_than_the_batch():
  batch = open_batches(3, batch_size=8)[0]
  assert batch['sharp'].shape[0] == 8 and set(batch['name']) == {'0', '1', '2'}


@pytest.mark.parametrize('count', [4, 3])
def test_processes_together_have_the_batches_of_one(count):
  whole = open_batches(5, paired=True, batch_size=2 * count)
  parts = [
    open_batches(5, paired=True, batch_size=2, process_index=index, process_count=count)
    for index in range(count)
  ]
  for step in (0, 1, 7, 10**9):
    rows = [part[step] for part in parts]
    same({key: np.concatenate([row[key] for row in rows]) for key in rows[0]}, whole[step])


def test_phases_follow_each_other():
  small, large = open_batches(text='crop(4)', batch_size=6), open_batches(batch_size=2)
  dataset = pipeline.in_phases([(3, small), (2, large), (1, small)])
  expected = [small[0], small[1], small[2], large[0], large[1], small[0], small[1], small[2]]
  for step, batch in enumerate(expected):
    same(dataset[step], batch)
  resumed = pipeline.iterate(dataset, 4)
  for step in range(4, 8):
    same(next(resumed), expected[step])


def test_batches_are_not_empty():
  with pytest.raises(ValueError, match='batch_size'):
    open_batches(3, batch_size=0)


def test_unequal_sizes_in_a_batch_are_reported(tmp_path):
  for i in range(4):
    save(tmp_path / f'{i}.png', picture(i, 20, 20 + i))
  source = sources.open('sharp', 'all', directory=tmp_path)
  dataset = pipeline.batches(source, ops.parse(''), batch_size=4, seed=0)
  with pytest.raises(ValueError, match=r'different sizes in a batch.*end data.ops with a crop'):
    dataset[0]


def test_a_damaged_file_stops_the_iterator_with_its_name(tmp_path):
  for i in range(4):
    path = save(tmp_path / f'{i}.png', picture(i))
  path.write_bytes(path.read_bytes()[:-400])
  source = sources.open('sharp', 'all', directory=tmp_path)
  batches = pipeline.iterate(pipeline.batches(source, ops.parse(''), batch_size=4, seed=0))
  with pytest.raises(files.UnreadablePicture, match=r'3\.png'):
    next(batches)


def test_builtin_batches_of_real_pictures():
  source = sources.open('builtin', 'train')
  batch = pipeline.batches(source, ops.parse('crop(64)'), batch_size=4, seed=0)[0]
  assert batch['sharp'].shape == (4, 64, 64, 3)


def test_data_imports_neither_tensorflow_nor_torch_nor_starts_jax():
  code = (
    'import sys\n'
    'from deblur_jax.data import ops, pipeline, sources\n'
    "source = sources.open('builtin', 'train')\n"
    "dataset = pipeline.batches(source, ops.parse('crop(32)'), batch_size=2, seed=0)\n"
    'next(pipeline.iterate(dataset))\n'
    "assert not {'tensorflow', 'torch'} & set(sys.modules)\n"
    'from jax._src import xla_bridge\n'
    'assert not xla_bridge.backends_are_initialized()\n'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


def test_a_mixture_gives_each_part_its_share_and_every_picture_once(tmp_path):
  folders = {'few': 2, 'many': 9}
  for folder, count in folders.items():
    for number in range(count):
      for side in ('blur', 'sharp') if folder == 'few' else ('',):
        path = tmp_path / folder / side / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * number + (side == 'blur'), np.uint8)).save(path)
  parts = {
    'film': {'source': 'pairs', 'directory': str(tmp_path / 'few'), 'share': 1},
    'photos': {'source': 'sharp', 'directory': str(tmp_path / 'many'), 'share': 3},
  }
  mixed = mixture.open(parts, 'all')
  examples = [mixed[i] for i in range(len(mixed))]
  assert len(mixed) == 12 and [bool(one['paired']) for one in examples] == [True] * 3 + [False] * 9
  assert {one['name'] for one in examples[3:]} == {str(number) for number in range(9)}
  assert [(one['blurred'] - one['sharp']).max() for one in examples] == [1] * 3 + [0] * 9
  with pytest.raises(IndexError):
    mixed[12]
  parts['film']['share'] = 0
  with pytest.raises(ValueError, match="share of 'film'"):
    mixture.open(parts, 'all')


@pytest.mark.parametrize(
  'shares, lengths, counts',
  [
    ((0.3, 0.1), (3, 1), (3, 1)),
    ((0.7, 0.1), (7, 1), (7, 1)),
    ((0.6, 0.2, 0.2), (6, 2, 1), (6, 2, 2)),
    ((0.1, 0.2), (1, 3), (2, 3)),
    ((3, 1), (3, 1), (3, 1)),
  ],
)
def test_an_epoch_of_a_mixture_is_exact(shares, lengths, counts):
  assert mixture.Mixed(tuple(map(Numbers, lengths)), shares).counts == counts


def test_a_digest_does_not_depend_on_where_the_files_are(tmp_path):
  first, moved = (make_pairs(tmp_path / name, count=3, split='train') for name in ('a', 'b'))
  digests = [
    sources.digest(sources.open('pairs', 'train', directory=folder)) for folder in (first, moved)
  ]
  assert digests[0] == digests[1] and len(digests[0]) == 64
  file = moved / 'train/blur/001.png'
  data = bytearray(file.read_bytes())
  data[-20] ^= 1
  file.write_bytes(data)
  changed = sources.open('pairs', 'train', directory=first)
  assert sources.digest(changed) == digests[0]
  changed = sources.Pairs(
    tuple(
      pair._replace(blurred=moved / 'train/blur' / pair.blurred.name) for pair in changed.pictures
    )
  )
  assert sources.digest(changed) != digests[0]
  assert sources.digest(sources.open('builtin', 'train')) == ''
  parts = (sources.open('builtin', 'train'), sources.open('pairs', 'train', directory=first))
  assert len(sources.digest(mixture.Mixed(parts, (1, 1)))) == 64


@pytest.mark.parametrize('names', [('Train', 'Test'), ('TRAIN', 'TEST'), ('train', 'Test')])
def test_folders_of_splits_may_be_in_upper_case(tmp_path, names):
  train, test = names
  make_pairs(tmp_path, count=3, split=train)
  make_pairs(tmp_path, count=2, split=test)
  for kind in ('Sharp', 'Blur'):
    (tmp_path / test / kind.lower()).rename(tmp_path / test / kind)
  for name, directory in (('pairs', tmp_path), ('sharp', tmp_path)):
    trained, tested, everything = (
      [one['name'] for one in (source[i] for i in range(len(source)))]
      for source in (
        sources.open(name, split, directory=directory) for split in ('train', 'test', 'all')
      )
    )
    assert len(trained) == (3 if name == 'pairs' else 6) and len(everything) == len(
      trained + tested
    )
    assert len(tested) == (2 if name == 'pairs' else 4)


def test_two_folders_of_one_split_are_rejected(tmp_path):
  make_pairs(tmp_path, split='train')
  if (tmp_path / 'TRAIN').is_dir():
    pytest.skip('names of any capitals are one here')
  make_pairs(tmp_path, split='Train')
  with pytest.raises(ValueError, match=r'both Train/ and train/ could be train/; rename one'):
    sources.open('pairs', 'train', directory=tmp_path)


def test_the_case_of_train_and_test_in_capitals(shared):
  directory = shared('cases/24_train_test_capitals')
  names = {}
  for split in ('train', 'test'):
    source = sources.open('pairs', split, directory=directory)
    names[split] = [source[i]['name'] for i in range(len(source))]
    assert all(
      (directory / split.title() / 'sharp' / f'{one}.png').is_file() for one in names[split]
    )


@pytest.mark.parametrize(
  'affinity, slurm, expected', [(6, None, 6), (64, '8', 8), (3, '8', 3), (64, None, 64)]
)
def test_readers_follow_the_cores_of_the_job(affinity, slurm, expected, monkeypatch):
  monkeypatch.setattr(os, 'sched_getaffinity', lambda process: range(affinity), raising=False)
  monkeypatch.setattr(os, 'cpu_count', lambda: 64)
  monkeypatch.delenv('SLURM_CPUS_PER_TASK', raising=False)
  if slurm:
    monkeypatch.setenv('SLURM_CPUS_PER_TASK', slurm)
  assert pipeline.cores() == expected


def test_match_means_removes_the_gain_of_averaging():
  rng = np.random.default_rng(0)
  sharp = rng.integers(20, 200, (32, 48, 3), dtype=np.uint8)
  blurred = np.rint(sharp * np.float32([1.02, 0.97, 1.05])).astype(np.uint8)
  op = ops.parse('match_means')
  matched = op({'sharp': sharp, 'blurred': blurred, 'paired': np.bool_(True)}, rng)['blurred']
  np.testing.assert_allclose(matched.mean((0, 1)), sharp.mean((0, 1)), rtol=2e-3)
  assert matched.dtype == np.uint8
  filler = {'sharp': sharp, 'blurred': blurred, 'paired': np.bool_(False)}
  assert op(filler, rng)['blurred'] is blurred
  assert op({'sharp': sharp}, rng).keys() == {'sharp'}
