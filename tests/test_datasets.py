"""The TFDS builders: from the published layout into ArrayRecord and back, without TensorFlow."""

import importlib
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
import warnings

import numpy as np
from PIL import Image
import pytest

from deblur_jax.data import builtin, ops, pipeline, sources
from deblur_jax.datasets import averaging, builders, catalog, files, gopro, pairs, published

ROOT = pathlib.Path(__file__).resolve().parents[1]
SPEED = np.array([3, 2])  # pixels from frame to frame of a made film


@pytest.fixture(scope='module')
def tool():
  spec = importlib.util.spec_from_file_location('prepare', ROOT / 'tools/prepare.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope='module')
def prepare(tool):
  return tool.main


def picture(seed, height=18, width=32):
  """Smooth random color, so that every picture has its own large structure."""
  coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
  resized = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
  return np.asarray(resized)


def save(path, image):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path)
  return path


def save_pair(sharp, blurred, seed):
  image = picture(seed)
  save(sharp, image)
  save(blurred, image // 2 + np.roll(image, 1, 1) // 2)


def make_gopro(root, kinds=('blur', 'blur_gamma')):
  """Two sequences to train on, one to test on, four and two frames each."""
  seed = 0
  for sequence, count in (('train/GOPR1', 4), ('train/GOPR2', 2), ('test/GOPR3', 2)):
    for i in range(count):
      seed += 1
      for kind in kinds:
        folder = root / sequence
        save_pair(folder / f'sharp/{i:06d}.png', folder / f'{kind}/{i:06d}.png', seed)
  return root


def make_hide(root):
  for i, folder in enumerate(['train'] * 3 + ['test/test-close-ups'] * 2 + ['test/test-long-shot']):
    name = f'{i}fromGOPR0{i}.png'
    save_pair(root / 'GT' / name, root / folder / name, i)
  return root


def make_realblur(root, kind='j'):
  """Two scenes, with the authors' lists: the sharp path first, a space at the end of a line."""
  inner = {'j': 'RealBlur-J_ECC_IMCORR', 'r': 'RealBlur-R_BM3D_ECC_IMCORR'}[kind]
  inner += '_centroid_itensity_ref'
  for split, scene, numbers in (('train', 'scene183', (7, 12, 1)), ('test', 'scene010', (2, 20))):
    lines = []
    for number in numbers:
      sharp = f'{inner}/{scene}/gt/gt_{number}.png'
      blurred = f'{inner}/{scene}/blur/blur_{number}.png'
      save_pair(root / sharp, root / blurred, number)
      lines.append(f'{sharp} {blurred} ')
    (root / f'RealBlur_{kind.upper()}_{split}_list.txt').write_text('\n'.join(lines))
  return root


def make_kaggle(root, count=12):
  """Scenes whose photographs differ in size, with extensions as they come."""
  for i in range(count):
    suffix = ('JPG', 'jpg', 'jpeg')[i % 3]
    for letter, folder, height in (('S', 'sharp', 18), ('M', 'motion_blurred', 20 + i % 2),
                                   ('F', 'defocused_blurred', 18)):  # fmt: skip
      image = picture(1000 + 10 * i + height, height, 30)
      save(root / folder / f'{i}_NIKON-D3400-35MM_{letter}.{suffix}', image)
  return root


def make_mcblur(root, subset='motion_avg'):
  for i, part in enumerate(('Train', 'Train', 'Test')):
    folder = root / subset / part
    save_pair(folder / f'sharp/{i}.png', folder / f'blurry/{i}.png', i)
  return root


def make_unpaired(root):
  """Thirty sharp pictures, one of them grey, and eleven larger blurred ones in subfolders."""
  for i in range(30):
    image = picture(i, 20, 24)
    save(root / f'sharp/{i:012d}.jpg', image[..., 0] if i == 0 else image)
  for i in range(11):
    save(root / f'blurred/{"ab"[i % 2]}/{i}.png', picture(100 + i, 40, 30))
  return root


MAKE = {
  'gopro': make_gopro, 'hide': make_hide, 'realblur': make_realblur, 'kaggle': make_kaggle,
  'mcblur': make_mcblur, 'unpaired': make_unpaired,
}  # fmt: skip


def read(name, root, kind=''):
  return published.scan(catalog.SETS[name], root, kind)


def remove(path):
  for inside in sorted(path.rglob('*'), reverse=True):
    inside.rmdir() if inside.is_dir() else inside.unlink()
  path.rmdir()


# All sets


def test_every_set_states_its_origin_and_has_a_builder(tmp_path):
  assert list(catalog.SETS) == list(builders.BUILDERS) == list(MAKE)
  names = [name for one in catalog.SETS.values() for name in catalog.names(one)]
  assert set(sources.SOURCES) == {'builtin', 'sharp', 'pairs', *names}
  for name in names:
    builder = builders.make(name, tmp_path)
    info = builder.info
    assert builder.data_dir == str(tmp_path / name / '1.0.0')
    assert info.as_proto.redistribution_info.license == builder.published.license != ''
    assert info.homepage.startswith('http') and len(info.description) > 200
    entries = re.findall(r'^@(\w+)\{(\w+),', info.citation, re.M)
    assert entries and info.citation.count('{') == info.citation.count('}')
    assert all(f'{field}={{' in info.citation for field in ('title', 'author'))


@pytest.mark.parametrize('name', MAKE)
def test_prepared_pictures_are_those_of_the_folder(tmp_path, prepare, capsys, name):
  root = MAKE[name](tmp_path / 'from')
  arguments = [name, '--from', str(root), '--to', str(tmp_path / 'to')]
  assert prepare(arguments) == 0
  said = capsys.readouterr().out
  one = catalog.SETS[name]
  for source_name in catalog.names(one):
    kind = source_name.partition('/')[2]
    if kind and kind not in one.kinds_in(root):
      assert source_name not in said
      continue
    assert f'{source_name}: ' in said
    found = read(name, root, kind)
    for split in sources.SPLITS:
      source = sources.open(source_name, split, directory=tmp_path / 'to', unaligned=True)
      assert source.paired and source.aligned == (not one.unaligned)
      assert source.files and all(path.is_file() for path in source.files.values())
      assert len(sources.digest(source)) == 64
      examples = [source[i] for i in range(len(source))]
      if name == 'unpaired':
        assert len(examples) == len(found[f'{split}_sharp']) == {'train': 27, 'test': 3}[split]
        continue
      by_name = {pair.name: pair for pair in found[split]}
      assert sorted(example['name'] for example in examples) == sorted(by_name)
      for i, example in enumerate(examples):
        pair = by_name[example['name']]
        np.testing.assert_array_equal(example['sharp'], files.read(pair.sharp))
        np.testing.assert_array_equal(example['blurred'], files.read(pair.blurred))
        assert source.size(i) == example['blurred'].shape[:2]
  assert [p for p in (tmp_path / 'to').rglob('*') if 'incomplete' in p.name] == []
  before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'to').rglob('*.array_record*')}
  assert prepare(arguments) == 0
  assert 'already in' in capsys.readouterr().out
  assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / 'to').rglob('*.array_record*')}


@pytest.mark.parametrize('name', sorted(set(sources.SOURCES) - {'builtin', 'sharp', 'pairs'}))
def test_missing_data_says_what_to_download_and_how_to_prepare(tmp_path, tool, name):
  with pytest.raises(FileNotFoundError) as error:
    sources.open(name, 'train', directory=tmp_path, unaligned=True)
  message = str(error.value)
  one = catalog.SETS[name.partition('/')[0]]
  assert '\n' not in message and one.download in message and 'https://' in one.download
  command = shlex.split(message[message.index('tools/prepare.py') :])
  arguments = tool._parser().parse_args(command[1:])
  assert arguments.to == tmp_path and str(arguments.source) == one.folder
  assert '/'.join([arguments.set, *filter(None, [getattr(arguments, 'config', '')])]) == name


@pytest.mark.parametrize('name', MAKE)
def test_wrong_folder_is_reported_in_one_line(tmp_path, prepare, capsys, name):
  assert prepare([name, '--from', str(tmp_path / 'nowhere')]) == 1
  error = capsys.readouterr().err
  assert 'nowhere: no such folder; ' in error and catalog.SETS[name].download in error
  (tmp_path / 'pictures').mkdir()
  assert prepare([name, '--from', str(tmp_path), '--to', str(tmp_path / 'to')]) == 1
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and 'found pictures/' in error
  assert catalog.SETS[name].layout in error and catalog.SETS[name].download in error
  assert not (tmp_path / 'to').exists()


@pytest.mark.parametrize('name, kind, gone, message', [
  ('gopro', 'blur', 'test', r'expected a folder test/, found train/; GoPro is laid out as'),
  ('gopro', 'blur_gamma', 'train/GOPR2/blur_gamma', r'GOPR2: .* folder blur_gamma/, found blur/'),
  ('gopro', 'blur', 'train/GOPR1/sharp', r'GOPR1: expected a folder sharp/'),
  ('hide', '', 'GT', r'expected a folder GT/, found test/, train/; HIDE is .*test-long-shot'),
  ('hide', '', 'test/test-long-shot', r'expected a folder test-long-shot/, found test-close-ups/'),
  ('realblur', 'j', 'RealBlur-J_ECC_IMCORR_centroid_itensity_ref',
   r'J_train_list.txt: 6 of its 6 pictures are missing \(the first is .*/gt/gt_7.png\), found'),
  ('realblur', 'r', '', r'no RealBlur_R_train_list.txt and no RealBlur_R_test_list.txt, found R'),
  ('kaggle', 'motion', 'motion_blurred', r'folder motion_blurred/, found defocused_blurred/, sha'),
  ('mcblur', 'lsd', '', r'expected a folder defocus_crop/, found motion_avg/; MC-Blur is laid out'),
  ('mcblur', 'rhm', 'motion_avg/Test/blurry', r'Test: expected a folder blurry/, found sharp/'),
  ('unpaired', '', 'blurred', r'expected a folder blurred/, found sharp/; an unpaired set'),
])  # fmt: skip
def test_what_is_missing_is_reported_with_what_was_found(tmp_path, name, kind, gone, message):
  root = MAKE[name](tmp_path)
  if gone:
    remove(root / gone)
  with pytest.raises(FileNotFoundError, match=message):
    read(name, root, kind)


@pytest.mark.parametrize('name, kind, file', [
  ('hide', '', 'train/1fromGOPR01.png'), ('mcblur', 'rhm', 'motion_avg/Train/blurry/1.png'),
  ('realblur', 'j', 'RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene183/blur/blur_12.png'),
])  # fmt: skip
def test_pairs_that_do_not_match_are_named(tmp_path, name, kind, file):
  root = MAKE[name](tmp_path)
  whole = files.read(root / file)
  save(root / file, whole[:-1])
  with pytest.raises(pairs.WrongPairs, match=rf'{file}: 32x17 pixels, but .* has 32x18'):
    read(name, root, kind)
  save(root / file, 255 - whole)
  with pytest.raises(pairs.WrongPairs, match=rf'{file}: (looks like|shows a different scene)'):
    read(name, root, kind)


# Preparing


def test_preparing_another_folder_into_the_same_place_is_reported(tmp_path, prepare, capsys):
  root = make_gopro(tmp_path / 'from', ('blur',))
  arguments = ['gopro', '--from', str(root), '--to', str(tmp_path / 'to')]
  assert prepare(arguments) == 0
  assert len(list((tmp_path / 'to').rglob('*.array_record*'))) == 2  # only `blur` is there
  for kind in ('blur', 'sharp'):
    (root / 'train/GOPR1' / kind / '000000.png').unlink()
  assert prepare(arguments) == 1
  error = capsys.readouterr().err
  assert 'has 6 train pairs' in error and '5 train pairs' in error


def test_a_truncated_picture_leaves_nothing_unfinished(tmp_path, prepare, capsys):
  root = make_gopro(tmp_path / 'from', ('blur',))
  file = root / 'test/GOPR3/sharp/000001.png'
  whole = file.read_bytes()
  file.write_bytes(whole[: len(whole) // 2])
  arguments = ['gopro', '--from', str(root), '--to', str(tmp_path / 'to')]
  assert prepare(arguments) == 1
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and 'test/GOPR3/sharp/000001.png' in error
  assert not list((tmp_path / 'to').rglob('*.array_record*'))
  file.write_bytes(whole)
  assert prepare(arguments) == 0


def test_leftovers_of_a_killed_run_are_removed(tmp_path, prepare):
  root = make_gopro(tmp_path / 'from', ('blur',))
  old, new = (tmp_path / f'to/gopro/blur/incomplete.{name}_1.0.0' for name in ('OLD', 'NEW'))
  for folder in (old, new):
    folder.mkdir(parents=True)
    (folder / 'bucket.tmp').touch()
  for path in (old / 'bucket.tmp', old):
    os.utime(path, (0, 0))
  assert prepare(['gopro', '--from', str(root), '--to', str(tmp_path / 'to')]) == 0
  assert not old.exists() and new.exists()  # the new one may belong to another process


@pytest.mark.parametrize('name', [name for name, one in catalog.SETS.items() if not one.unaligned])
def test_the_command_to_train_with_fits_the_config(tmp_path, prepare, capsys, name):
  root = MAKE[name](tmp_path / 'from')
  assert prepare([name, '--from', str(root), '--to', str(tmp_path / 'to')]) == 0
  command = shlex.split(capsys.readouterr().out.rpartition('train: ')[2])
  module, recipe = command[3].removeprefix('--config=').split(':')
  config = importlib.import_module(module.removesuffix('.py').replace('/', '.')).get_config(recipe)
  with config.unlocked():
    for change in command[4:]:
      setting, value = change.removeprefix('--config.').split('=')
      assert setting in ('data.source', 'data.directory', 'evaluate.gopro.source')
      config.update_from_flattened_dict({setting: value})
  for one in (config.data, config.evaluate.gopro):
    split = one.get('split', 'train')
    assert len(sources.open(one.source, split, directory=one.directory)) > 0
    assert one.source.partition('/')[0] == name


def test_neither_tensorflow_nor_torch_is_imported(tmp_path):
  make_gopro(tmp_path / 'gopro', ('blur',)), make_kaggle(tmp_path / 'kaggle')
  code = (
    'import runpy, sys\n'
    'from deblur_jax.data import sources\n'
    f'root = {str(tmp_path)!r}\n'
    'for name in ("gopro", "kaggle"):\n'
    '  sys.argv = ["prepare", name, "--from", f"{root}/{name}", "--to", f"{root}/to"]\n'
    '  try:\n'
    f'    runpy.run_path({str(ROOT / "tools/prepare.py")!r}, run_name="__main__")\n'
    '  except SystemExit as end:\n'
    '    assert end.code == 0, end.code\n'
    'for name in ("gopro/blur", "kaggle/motion"):\n'
    '  source = sources.open(name, "test", directory=f"{root}/to", unaligned=True)\n'
    '  assert source[0]["sharp"].shape[0] == 18\n'
    'assert not {"tensorflow", "torch"} & set(sys.modules)\n'
  )
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


# Each set


def test_gopro_frames_without_partner_and_of_unequal_size_are_named(tmp_path):
  root = make_gopro(tmp_path)
  frame = root / 'train/GOPR1/blur/000002.png'
  whole = frame.read_bytes()
  Image.new('RGB', (16, 8)).save(frame)
  with pytest.raises(pairs.WrongPairs, match=r'GOPR1/blur/000002.png: 16x8 pixels, but .* 32x18'):
    read('gopro', root, 'blur')
  frame.unlink()
  with pytest.raises(pairs.WrongPairs, match=r'GOPR1/sharp/000002.png: no picture of that name'):
    read('gopro', root, 'blur')
  frame.write_bytes(whole)
  found = read('gopro', root, 'blur')
  assert [len(found[split]) for split in ('train', 'test')] == [6, 2]
  assert found['train'][4].name == 'GOPR2/000000'


def test_hide_distinguishes_close_ups_and_long_shots(tmp_path):
  root = make_hide(tmp_path)
  found = read('hide', root)
  assert [pair.name for pair in found['train']] == [f'{i}fromGOPR0{i}' for i in range(3)]
  assert [pair.name for pair in found['test']] == [
    'test-close-ups/3fromGOPR03', 'test-close-ups/4fromGOPR04', 'test-long-shot/5fromGOPR05',
  ]  # fmt: skip
  assert found['test'][2].sharp == root / 'GT/5fromGOPR05.png'
  (root / 'GT/5fromGOPR05.png').unlink()
  with pytest.raises(pairs.WrongPairs, match=r'test-long-shot/5fromGOPR05.png: .*name in .*GT'):
    read('hide', root)
  remove(root / 'train')
  (root / 'train').mkdir()
  with pytest.raises(FileNotFoundError, match=r'train: no pictures \(.png, .*found nothing'):
    read('hide', root)


def test_realblur_takes_the_pairs_of_the_authors_lists(tmp_path, prepare, capsys):
  root = make_realblur(make_realblur(tmp_path), 'r')
  inner = 'RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref/scene010'
  save_pair(root / inner / 'gt/gt_3.png', root / inner / 'blur/blur_3.png', 3)  # in no list
  found = read('realblur', root, 'r')
  assert [pair.name for pair in found['train']] == ['scene183/7', 'scene183/12', 'scene183/1']
  assert found['test'] == [
    pairs.Pair(
      f'scene010/{i}', root / inner / f'blur/blur_{i}.png', root / inner / f'gt/gt_{i}.png'
    )
    for i in (2, 20)
  ]
  listed = root / 'RealBlur_R_test_list.txt'
  whole = listed.read_text()
  listed.write_text(f'{whole}\n\n{inner}/gt/gt_3.png')
  with pytest.raises(pairs.WrongPairs, match=r'R_test_list.txt, line 4: not a sharp and a blurred'):
    read('realblur', root, 'r')
  listed.write_text('\n')
  with pytest.raises(pairs.WrongPairs, match=r'R_test_list.txt: lists no pairs'):
    read('realblur', root, 'r')
  # The errors of one kind do not affect the other.
  assert prepare(['realblur', '--from', str(root), '--config', 'j', '--to', str(root / 'to')]) == 0
  assert 'realblur/j: 3 train pairs, 2 test pairs' in capsys.readouterr().out


def test_kaggle_holds_out_the_same_scenes_for_both_kinds(tmp_path):
  root = make_kaggle(tmp_path, 25)
  motion, defocus = (read('kaggle', root, kind) for kind in ('motion', 'defocus'))
  names = {split: {pair.name for pair in motion[split]} for split in motion}
  assert len(names['test']) == 2 and len(names['train']) == 23
  assert names == {split: {pair.name for pair in defocus[split]} for split in defocus}
  pair = next(p for p in (*motion['train'], *motion['test']) if p.name == '3_NIKON-D3400-35MM')
  assert pair.blurred.name == '3_NIKON-D3400-35MM_M.JPG' and pair.sharp.parent.name == 'sharp'
  (root / 'sharp/3_NIKON-D3400-35MM_S.JPG').rename(root / 'sharp/3_IPHONE_S.JPG')
  with pytest.raises(
    pairs.WrongPairs, match=r'3_NIKON-D3400-35MM_M.JPG: no picture of the scene 3_NIKON-D3400-35MM'
  ):
    read('kaggle', root, 'motion')
  save(root / 'sharp/4_NIKON-D3400-35MM_S.png', picture(0))
  with pytest.raises(pairs.WrongPairs, match=r'4_NIKON.*: same scene as 4_NIKON.* in that folder'):
    read('kaggle', root, 'motion')


def test_real_kaggle_triples(tmp_path, prepare, shared):
  for file in shared('data/real_triples').glob('*.jpg'):
    letter = file.stem[-1]
    folder = {'S': 'sharp', 'F': 'defocused_blurred', 'M': 'motion_blurred'}[letter]
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / file.name).symlink_to(file)
  assert prepare(['kaggle', '--from', str(tmp_path), '--to', str(tmp_path / 'to')]) == 0
  for name, letter in (('kaggle/motion', 'M'), ('kaggle/defocus', 'F')):
    counts = {}
    for split in sources.SPLITS:
      source = sources.open(name, split, directory=tmp_path / 'to', unaligned=True)
      counts[split] = len(source)
      for example in (source[i] for i in range(len(source))):
        for key, end in (('sharp', 'S'), ('blurred', letter)):
          file = shared(f'data/real_triples/{example["name"]}_{end}.jpg')
          np.testing.assert_array_equal(example[key], files.read(file))
    assert counts == {'train': 2, 'test': 1}


# Unaligned pictures


@pytest.mark.parametrize('name, reason', [
  ('kaggle/motion', 'one after another'), ('unpaired', 'show different scenes'),
])  # fmt: skip
def test_unaligned_sources_are_rejected_unless_allowed(tmp_path, name, reason):
  with pytest.raises(ValueError, match=rf'{name}.* not aligned \(.*{reason}\).* unpaired training'):
    sources.open(name, 'test', directory=tmp_path)


def test_unpaired_pictures_come_from_both_folders(tmp_path, prepare, capsys):
  root = make_unpaired(tmp_path / 'from')
  assert prepare(['unpaired', '--from', str(root), '--to', str(tmp_path / 'to')]) == 0
  said = capsys.readouterr().out
  assert '27 train_sharp pictures, 10 train_blurred pictures, 3 test_sharp' in said
  source = sources.open('unpaired', 'train', directory=tmp_path / 'to', unaligned=True)
  examples = [source[i] for i in range(len(source))]
  assert {example['sharp'].shape for example in examples} == {(20, 24, 3)}
  assert {example['blurred'].shape for example in examples} == {(40, 30, 3)}
  assert source.size(26) == (40, 30)
  found = read('unpaired', root)
  for key in ('sharp', 'blurred'):
    expected = {files.read(one.picture).tobytes() for one in found[f'train_{key}']}
    held_out = {files.read(one.picture).tobytes() for one in found[f'test_{key}']}
    assert {example[key].tobytes() for example in examples} == expected
    assert not expected & held_out
  with pytest.raises(IndexError):
    source[27]


def test_unaligned_pictures_are_never_cropped_as_a_pair(tmp_path, prepare):
  y, x = np.mgrid[:40, :30]
  example = {
    'name': 'a', 'sharp': np.dstack([y, x, x])[:24, :26].astype(np.uint8),
    'blurred': np.dstack([y, x, x]).astype(np.uint8),
  }  # fmt: skip
  separately = sources.Separately(ops.parse('crop(16)'))
  corners = []
  for seed in range(60):
    out = separately(example, np.random.default_rng(seed))
    assert out['name'] == 'a' and out['sharp'].shape == out['blurred'].shape == (16, 16, 3)
    corners.append([*out['sharp'][0, 0, :2], *out['blurred'][0, 0, :2]])
  corners = np.array(corners, float)
  assert corners[:, 2].max() > 20 and corners[:, 0].max() == 8  # each as far as its own size goes
  assert np.abs(np.corrcoef(corners.T)[:2, 2:]).max() < 0.35  # independent: 0.13 expected
  root = make_unpaired(tmp_path / 'from')
  assert prepare(['unpaired', '--from', str(root), '--to', str(tmp_path / 'to')]) == 0
  source = sources.open('unpaired', 'train', directory=tmp_path / 'to', unaligned=True)
  batch = pipeline.batches(source, separately, batch_size=5, seed=0)[3]
  assert batch['sharp'].shape == batch['blurred'].shape == (5, 16, 16, 3)


# How the frames behind GoPro's blur were averaged


def film(name, count=9):
  """Frames of a photograph passing by."""
  image = builtin.photograph(name)
  h, w = np.array(image.shape[:2]) - (count - 1) * SPEED
  return [image[i * SPEED[0] :][:h, i * SPEED[1] :][:, :w] for i in range(count)]


def averaged(frames, gamma):
  """Mean of the frames in light, the camera's response being x^(1/gamma); cut to whole numbers."""
  mean = np.mean([(frame / 255.0) ** gamma for frame in frames], axis=0)
  return np.floor(mean ** (1 / gamma) * 255 + 1e-6).astype(np.uint8)


@pytest.mark.parametrize('name', ['astronaut.png', 'coffee.png', 'chelsea.png'])
def test_averaging_is_determined_from_the_pixels(name):
  frames = film(name) if name != 'chelsea.png' else film(name, 5)
  cut = [np.ascontiguousarray(frame) for frame in frames]
  sharp = cut[len(cut) // 2]
  if min(sharp.shape[:2]) < 320:  # too small to determine
    assert averaging.slope(averaged(cut, 2.2), sharp) == (0.5, np.inf)
    return
  for gamma, expected in ((1, 0), (2.2, 1)):
    slope, error = averaging.slope(averaged(cut, gamma), sharp)
    assert abs(slope - expected) < 0.25 and abs(slope - 0.5) > 3 * error


def test_stills_are_inconclusive():
  sharp = builtin.photograph('astronaut.png')
  assert averaging.slope(sharp, sharp)[1] == np.inf
  pair = pairs.Pair('a', *[pathlib.Path(importlib.util.find_spec('skimage').origin).parent
                           / 'data/astronaut.png'] * 2)  # fmt: skip
  assert averaging.sample([pair]) == {}


def test_gopro_folders_with_the_wrong_name_are_reported(tmp_path, prepare, capsys):
  frames = [film(name) for name in ('astronaut.png', 'coffee.png')]
  for folder, (astronaut, coffee) in (('train/A', frames), ('test/B', frames)):
    for i, one in enumerate((astronaut, coffee)):
      save(tmp_path / folder / f'sharp/{i}.png', np.ascontiguousarray(one[4]))
      for kind, gamma in (('blur', 1), ('blur_gamma', 2.2)):
        save(tmp_path / folder / kind / f'{i}.png', averaged(one, gamma))
  for kind in gopro.SET.kinds:
    with warnings.catch_warnings():
      warnings.simplefilter('error')
      builders.make(f'gopro/{kind}', tmp_path / 'to').examples(tmp_path)
  for folder in ('train/A', 'test/B'):
    one = tmp_path / folder
    (one / 'blur').rename(one / 'aside')
    (one / 'blur_gamma').rename(one / 'blur')
    (one / 'aside').rename(one / 'blur_gamma')
  with pytest.warns(UserWarning, match=r'4 of 4 .* in blur/ .* linear light, like blur_gamma'):
    builders.make('gopro/blur', tmp_path / 'to').examples(tmp_path)
  assert prepare(['gopro', '--from', str(tmp_path), '--to', str(tmp_path / 'to')]) == 0
  said = capsys.readouterr().out.splitlines()
  assert [line.startswith('warning: ') for line in said[:3]] == [True, True, False]
  assert 'in blur_gamma/ seem to be averaged as file values, like blur ' in said[1]


def test_averaging_of_a_real_film(shared):
  """Windows of a 240 Hz film; the scene passes at several speeds."""
  folder = shared('data/gopro_frames/GOPR0477_11_00')
  for middle in (50, 203, 285):
    frames = [files.read(folder / f'{middle + i:06d}.webp') for i in range(-4, 5)]
    for gamma, expected in ((1, 0), (2.2, 1)):
      slope, error = averaging.slope(averaged(frames, gamma), frames[4])
      assert abs(slope - expected) < 0.35 and abs(slope - 0.5) > 3 * error


def test_averaging_of_published_frames_is_that_of_the_film_behind_them(shared):
  """The frames of the film, 5 off in number, say which of the two a published one is."""
  film_of = shared('data/gopro_frames/GOPR0477_11_00')
  found = shared('data/gopro_mini/test/GOPR0477_11_00')
  for number, gamma in ((171, 1), (178, 2.2)):
    sharp, blurred = (files.read(found / kind / f'{number:06d}.png') for kind in ('sharp', 'blur'))
    frames = [files.read(film_of / f'{number + 5 + i:06d}.webp') for i in range(-4, 4)]
    off = {
      tried: np.square(averaged(frames, tried).astype(float) - blurred).mean() for tried in (1, 2.2)
    }
    assert min(off, key=off.get) == gamma and off[gamma] * 3 < max(off.values())
    slope, error = averaging.slope(blurred, sharp)
    assert (slope > 0.5) == (gamma == 2.2) and abs(slope - 0.5) > 3 * error


def test_real_gopro(tmp_path, prepare, shared, capsys):
  root = shared('data/gopro_mini')
  assert prepare(['gopro', '--from', str(root), '--to', str(tmp_path), '--config', 'blur']) == 0
  assert '8 of 11 sampled pictures in blur/ seem' in capsys.readouterr().out
  train, test = (sources.open('gopro/blur', s, directory=tmp_path) for s in sources.SPLITS)
  assert (len(train), len(test), train.size(0)) == (4, 7, (720, 1280))
  example = next(test[i] for i in range(7) if test[i]['name'] == 'GOPR0384_11_02/000698')
  folder = root / 'test/GOPR0384_11_02'
  np.testing.assert_array_equal(example['blurred'], files.read(folder / 'blur/000698.png'))
  np.testing.assert_array_equal(example['sharp'], files.read(folder / 'sharp/000698.png'))
