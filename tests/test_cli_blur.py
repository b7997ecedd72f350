"""`deblur-jax blur`: paired data sets, the same however often the command was interrupted."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import scipy.ndimage
import skimage.data

from deblur_jax import cli, color
from deblur_jax.blur import noise
from deblur_jax.data import sources
from deblur_jax.datasets import gopro
from deblur_jax.pair_making import make, plan

MIX = 'motion(3..9) or sharp | noise(0..0.02)'


@pytest.fixture(scope='module')
def photographs(tmp_path_factory) -> pathlib.Path:
  """Eight pictures of six sizes in two folders, and a file that is not a picture."""
  folder = tmp_path_factory.mktemp('photographs')
  astronaut, cat = skimage.data.astronaut(), skimage.data.chelsea()
  (folder / 'city').mkdir()
  for i, (height, width) in enumerate([(97, 121), (100, 128), (112, 113), (100, 128)]):
    Image.fromarray(astronaut[60 * i :, 90 * i :][:height, :width]).save(folder / f'{i}.png')
    Image.fromarray(cat[40 * i :, 60 * i :][:height, :width]).save(folder / 'city' / f'{i}.jpg')
  deep = np.asarray(Image.fromarray(astronaut[:100, :120]).convert('L'), np.uint16) * 257
  Image.fromarray(deep).save(folder / 'city' / 'deep.png')
  return folder


def run(*arguments) -> int:
  return cli.main(['blur', *map(str, arguments)])


def tree(folder) -> dict[str, bytes]:
  folder = pathlib.Path(folder)
  return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob('*') if f.is_file()}


def records(folder) -> list[dict]:
  return [json.loads(line) for line in (folder / 'manifest.jsonl').read_text().splitlines()]


def pixels(path) -> np.ndarray:
  return np.asarray(Image.open(path))


@pytest.fixture(scope='module')
def made(photographs, tmp_path_factory) -> pathlib.Path:
  output = tmp_path_factory.mktemp('made')
  assert run(photographs, '-o', output, '--mix', MIX, '--test', 0.3) == 0
  return output


def test_pairs_are_read_back(made, photographs):
  splits = gopro.read(made, 'blur')
  assert len(splits['train']) + len(splits['test']) == 9
  assert min(len(found) for found in splits.values()) >= 1
  assert len(records(made)) == 9
  for record in records(made):
    sharp, blurred = pixels(made / record['sharp']), pixels(made / record['blurred'])
    assert sharp.dtype == blurred.dtype == np.uint8 and sharp.shape == blurred.shape
    assert sharp.shape[2] == 3
  source = photographs / 'city' / '0.jpg'
  (record,) = [record for record in records(made) if record['sources'] == [str(source)]]
  np.testing.assert_array_equal(pixels(made / record['sharp']), pixels(source))
  (record,) = [record for record in records(made) if record['name'] == 'city/deep']
  deep = pixels(photographs / 'city' / 'deep.png') // 257
  np.testing.assert_array_equal(pixels(made / record['sharp'])[..., 0], deep)
  found = sources.open('pairs', 'train', directory=made)
  assert [pair.name for pair in found.pictures] == [pair.name for pair in splits['train']]
  assert found[0]['sharp'].shape == found[0]['blurred'].shape


@pytest.mark.parametrize('folders', [['sharp'], ['blur'], ['sharp', 'blur', 'photos'], ['Sharp']])
def test_what_is_made_is_read_whatever_the_folders_are_called(tmp_path, monkeypatch, folders):
  """`deblur-jax blur sharp -o pairs` names the scene by its folder, as the halves are named."""
  monkeypatch.chdir(tmp_path)
  for at, folder in enumerate(folders):
    (tmp_path / folder).mkdir()
    for i in range(6):
      crop = skimage.data.astronaut()[60 * i : 60 * i + 64, 100 * at : 100 * at + 64]
      Image.fromarray(crop).save(tmp_path / folder / f'{at}{i}.png')
  assert run(*folders, '-o', 'pairs', '--mix', 'motion(3..5)', '--test', 0.4) == 0
  made = {record['name']: record for record in records(tmp_path / 'pairs')}
  assert len(made) == 6 * len(folders)
  for split in ('train', 'test'):
    found = sources.open('pairs', split, directory='pairs')
    assert len(found) and all(f'{split}/' in made[pair.name]['sharp'] for pair in found.pictures)
    for index, pair in enumerate(found.pictures):
      record, example = made.pop(pair.name), found[index]
      for half in ('sharp', 'blurred'):
        expected = pixels(tmp_path / 'pairs' / record[half])
        np.testing.assert_array_equal(example[half], expected)
  assert not made


def test_the_manifest_reproduces_the_picture(made):
  kinds = set()
  for record in records(made):
    height, width = pixels(made / record['sharp']).shape[:2]
    canvas = record['canvas']
    rest = [(0, canvas[0] - height), (0, canvas[1] - width), (0, 0)]
    image = np.pad(pixels(made / record['sharp']), rest, mode='reflect').astype(np.float32) / 255
    blur, grain = record['steps']
    kinds.add(blur['step'])
    if blur['step'] == 'motion':
      (psf,) = np.load(made / record['arrays']).values()
      linear = np.asarray(color.SRGB.to_linear(image), np.float64)
      linear = scipy.ndimage.convolve(linear, psf[..., None].astype(float), mode='mirror')
      image = color.SRGB.from_linear(jnp.asarray(linear, jnp.float32))
    key = jax.random.wrap_key_data(np.array(grain['key'], np.uint32))
    image = noise.gaussian(key, image, sigma=grain['sigma'])[:height, :width]
    expected = np.clip(image, 0, 1) * 255
    # A value halfway between two levels may round either way.
    assert np.abs(expected - pixels(made / record['blurred'])).max() < 0.51
  assert kinds == {'motion', 'sharp'}


def test_interruptions_do_not_change_the_result(made, photographs, tmp_path, capsys):
  expected = tree(made)
  begun = tmp_path / 'begun'
  shutil.copytree(made, begun)
  lines = (begun / 'manifest.jsonl').read_text().splitlines(keepends=True)
  gone = [json.loads(line) for line in lines]
  (begun / gone[0]['blurred']).unlink()  # deleted by hand
  (begun / gone[4]['sharp']).unlink()  # killed between two files
  (begun / gone[4]['blurred']).unlink()
  # Killed while line 4 was being written, with the lines in another order.
  killed = [*lines[3::-1], *lines[5:], lines[4][:60]]
  (begun / 'manifest.jsonl').write_text(''.join(killed))
  inputs = photographs / 'city', *sorted(photographs.glob('*.png')), photographs
  assert run(*inputs, '-o', begun, '--mix', MIX, '--test', 0.3) == 0
  assert '2 pairs made, 7 skipped (already there)' in capsys.readouterr().out
  assert tree(begun) == expected


def test_each_seed_and_copy_draws_its_own(made, photographs, tmp_path):
  other = tmp_path / 'other'
  assert run(photographs / '0.png', '-o', other, '--mix', MIX, '--seed', 3, '--copies', 3) == 0
  found = records(other)
  names = {f'{photographs.name}/0{copy}' for copy in ('', '-1', '-2')}
  assert {record['name'] for record in found} == names
  grains = [record['steps'][1]['sigma'] for record in (*found, *records(made))]
  assert len(set(grains)) == len(grains)
  sharp = {pixels(other / record['sharp']).tobytes() for record in found}
  assert len(sharp) == 1
  assert len({pixels(other / record['blurred']).tobytes() for record in found}) == 3


def test_pictures_of_many_sizes_share_compiled_shapes(made, photographs):
  sizes = [(97, 121), (100, 128), (112, 113), (112, 128)]
  assert {(make._canvas_side(h), make._canvas_side(w)) for h, w in sizes} == {(112, 128)}
  for side in (1, 15, 97, 720, 1080, 4000):
    assert side <= make._canvas_side(side) <= max(16, 1.25 * side)


def test_a_bad_file_is_reported_and_the_rest_are_made(photographs, tmp_path, capsys):
  folder = tmp_path / 'mixed'
  folder.mkdir()
  shutil.copy(photographs / '0.png', folder / 'good.png')
  (folder / 'cut.png').write_bytes((photographs / '1.png').read_bytes()[:2000])
  (folder / 'notes.jpg').write_text('no picture')
  output = tmp_path / 'out'
  assert run(folder, tmp_path / 'lost.png', '-o', output, '--mix', 'sharp') == 1
  printed = capsys.readouterr()
  assert '1 pairs made, 3 failed' in printed.out
  errors = printed.err.splitlines()
  assert len(errors) == 3
  for name in ('cut.png', 'notes.jpg', 'lost.png'):
    assert sum(name in line for line in errors) == 1
  (record,) = records(output)
  assert record['name'] == 'mixed/good'
  assert not list(output.rglob('*cut*')) and not list(output.rglob('.*'))


def test_pictures_that_would_share_a_name_are_reported(photographs, tmp_path, capsys):
  for part in ('a-b', 'a/b'):
    (tmp_path / 'in' / part).mkdir(parents=True)
    shutil.copy(photographs / '0.png', tmp_path / 'in' / part / 'x.png')
  assert run(tmp_path / 'in', '-o', tmp_path / 'out', '--mix', 'sharp') == 1
  assert 'would be a-b/x' in capsys.readouterr().err


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--mix', 'shak(9)'], 'did you mean shake'),
    (['--frames', '4'], 'the number of frames must be odd'),
    (['--frames', '5', '--mix', 'sharp'], '--mix cannot be used with --frames'),
    (['--step', '5'], '--step requires --frames'),
  ],
)
def test_wrong_use_is_reported_in_one_line(photographs, tmp_path, capsys, arguments, message):
  assert run(photographs, '-o', tmp_path / 'out', *arguments) == 2
  error = capsys.readouterr().err
  assert message in error and error.count('\n') == 1
  assert not (tmp_path / 'out').exists()


def test_wrong_folders_are_reported_in_one_line(made, photographs, tmp_path, capsys):
  assert run(photographs, '-o', photographs / '0.png') == 2
  assert '-o must be a folder' in capsys.readouterr().err
  (tmp_path / 'empty').mkdir()
  assert run(tmp_path / 'empty', '-o', tmp_path / 'out') == 2
  assert 'no pictures in' in capsys.readouterr().err
  before = tree(made)
  assert run(photographs, '-o', made, '--mix', MIX, '--test', 0.3, '--seed', 1) == 2
  error = capsys.readouterr().err
  assert 'with seed 0, not 1: use another folder' in error and error.count('\n') == 1
  assert tree(made) == before


def test_splits_hold_out_a_share_and_keep_what_is_split(tmp_path):
  folder = tmp_path / 'many'
  folder.mkdir()
  for number in range(400):
    (folder / f'{number}.png').touch()
  (folder / 'test').mkdir()
  (folder / 'test' / 'x.png').touch()
  jobs = plan.pictures([folder], tmp_path / 'out', test=0.2)
  assert {job.name: job.split for job in jobs}['many/x'] == 'test'
  held_out = {job.name for job in jobs if job.split == 'test'}
  assert 50 < len(held_out) < 110
  for number in range(200):
    (folder / f'{number}.png').unlink()
  fewer = plan.pictures([folder], tmp_path / 'out', test=0.2)
  assert {job.name for job in fewer if job.split == 'test'} == {
    job.name for job in fewer if job.name in held_out
  }
  assert {job.split for job in plan.pictures([folder], folder, test=0.0)} == set()


@pytest.fixture(scope='module')
def film(tmp_path_factory) -> pathlib.Path:
  """Two films of 12 and 3 frames, numbered 1 .. 12: a window that moves over a photograph."""
  folder = tmp_path_factory.mktemp('films')
  for name, count in (('long', 12), ('short', 3)):
    (folder / name).mkdir()
    for number in range(count):
      frame = skimage.data.astronaut()[50:90, 40 + 4 * number : 100 + 4 * number]
      Image.fromarray(frame).save(folder / name / f'{number + 1}.png')
  return folder


@pytest.mark.parametrize('response', ['linear', 'gamma'])
def test_frames_are_averaged_about_the_middle(film, tmp_path, capsys, response):
  arguments = ['--frames', 5, '--step', 3, '--response', response]
  assert run(film, '-o', tmp_path, *arguments) == 1  # the short film has too few frames
  assert 'only 3 frames, not 5' in capsys.readouterr().err
  found = sorted(records(tmp_path), key=lambda record: len(record['name']))
  assert [record['name'] for record in found] == ['long/3', 'long/6', 'long/9']
  blur = 'blur' if response == 'linear' else 'blur_gamma'
  for record, middle in zip(found, (3, 6, 9), strict=True):
    numbers = range(middle - 2, middle + 3)
    assert record['sources'] == [str(film / 'long' / f'{number}.png') for number in numbers]
    assert record['blurred'].split('/')[-2] == blur
    frames = np.stack([pixels(file) for file in record['sources']]) / 255
    gamma = 1 if response == 'linear' else 2.2
    expected = 255 * np.mean(frames**gamma, axis=0) ** (1 / gamma)
    assert np.abs(expected - pixels(tmp_path / record['blurred'])).max() < 0.51
    np.testing.assert_array_equal(
      pixels(tmp_path / record['sharp']), pixels(film / 'long' / f'{middle}.png')
    )


def test_frames_of_gopro_give_its_blur(shared, tmp_path):
  frames = shared('data/gopro_frames/GOPR0477_11_00')
  theirs = shared('data/gopro_mini/test/GOPR0477_11_00')
  window = [frames / f'{number:06}.webp' for number in range(173, 180)]
  assert run(*window, '-o', tmp_path, '--frames', 7) == 0

  def distance(kind):
    ours = pixels(next(tmp_path.glob(f'*/*/{kind}/000176.png'))).astype(float)
    error = np.mean((ours - pixels(theirs / kind / '000171.png')) ** 2)
    return 10 * np.log10(255**2 / error)

  assert distance('sharp') > 44  # what WebP preserves
  assert distance('blur') > 41
