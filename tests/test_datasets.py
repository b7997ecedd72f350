"""The TFDS builders: from the published layout into ArrayRecord and back, without TensorFlow."""

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from deblur_jax.data import sources
from deblur_jax.datasets import files, gopro, pairs

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def prepare():
  spec = importlib.util.spec_from_file_location('prepare', ROOT / 'tools/prepare.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.main


def make_gopro(root, kinds=('blur', 'blur_gamma', 'sharp')):
  """Two sequences to train on, one to test on, four and two frames each."""
  rng = np.random.default_rng(0)
  for sequence, count in (('train/GOPR1', 4), ('train/GOPR2', 2), ('test/GOPR3', 2)):
    for kind in kinds:
      folder = root / sequence / kind
      folder.mkdir(parents=True)
      for i in range(count):
        Image.fromarray(rng.integers(0, 256, (9, 16, 3), np.uint8)).save(folder / f'{i:06d}.png')
  return root


def test_prepared_pictures_are_those_of_the_folder(tmp_path, prepare, capsys):
  root = make_gopro(tmp_path / 'from')
  assert prepare(['gopro', '--from', str(root), '--to', str(tmp_path / 'to')]) == 0
  said = capsys.readouterr().out
  assert 'gopro/blur: 6 train pairs and 2 test pairs' in said
  assert 'gopro/blur_gamma: 6 train pairs and 2 test pairs' in said
  assert '--config=configs/nafnet.py:gopro' in said
  for config in gopro.CONFIGS:
    for split, count in (('train', 6), ('test', 2)):
      source = sources.open(f'gopro/{config}', split, directory=tmp_path / 'to')
      assert source.paired and len(source) == count and source.size(0) == (9, 16)
      examples = [source[i] for i in range(count)]
      for example in examples:
        sequence, frame = example['name'].split('/')
        for key, kind in (('blurred', config), ('sharp', 'sharp')):
          file = root / split / sequence / kind / f'{frame}.png'
          np.testing.assert_array_equal(example[key], files.read(file))
      assert len({example['name'] for example in examples}) == count
  unfinished = [p for p in (tmp_path / 'to').rglob('*') if 'incomplete' in p.name]
  assert unfinished == []


def test_preparing_again_leaves_what_is_there(tmp_path, prepare, capsys):
  root = make_gopro(tmp_path / 'from', ('blur', 'sharp'))
  arguments = ['gopro', '--from', str(root), '--to', str(tmp_path / 'to')]
  assert prepare(arguments) == 0
  before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'to').rglob('*.array_record*')}
  assert len(before) == 2  # only `blur` is in the folder
  assert prepare(arguments) == 0
  assert 'already in' in capsys.readouterr().out
  assert before == {p: p.stat().st_mtime_ns for p in before}
  for kind in ('blur', 'sharp'):
    (root / 'train/GOPR1' / kind / '000000.png').unlink()
  assert prepare(arguments) == 1
  error = capsys.readouterr().err
  assert 'holds 6 train pairs' in error and '5 train pairs' in error


def test_a_cut_picture_leaves_nothing_half_done(tmp_path, prepare, capsys):
  root = make_gopro(tmp_path / 'from', ('blur', 'sharp'))
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


def remove(path):
  for inside in sorted(path.rglob('*'), reverse=True):
    inside.rmdir() if inside.is_dir() else inside.unlink()
  path.rmdir()


@pytest.mark.parametrize('gone, config, message', [
  ('test', 'blur', r'no test/; expected .*found train/'),
  ('train/GOPR2/blur_gamma', 'blur_gamma', r'GOPR2: expected a folder blur_gamma/, found blur/'),
  ('train/GOPR1/sharp', 'blur', r'GOPR1: expected a folder sharp/'),
])  # fmt: skip
def test_missing_folders_are_told_with_what_was_found(tmp_path, gone, config, message):
  root = make_gopro(tmp_path)
  remove(root / gone)
  with pytest.raises(FileNotFoundError, match=message):
    gopro.scan(root, config)


def test_frames_without_partner_and_of_unequal_size_are_named(tmp_path):
  root = make_gopro(tmp_path)
  frame = root / 'train/GOPR1/blur/000002.png'
  whole = frame.read_bytes()
  Image.new('RGB', (16, 8)).save(frame)
  with pytest.raises(pairs.WrongPairs, match=r'GOPR1/blur/000002.png: 16x8 pixels, but .* 16x9'):
    gopro.scan(root)
  frame.unlink()
  with pytest.raises(pairs.WrongPairs, match=r'GOPR1/sharp/000002.png: no picture of that name'):
    gopro.scan(root)
  frame.write_bytes(whole)
  assert [len(found) for found in gopro.scan(root).values()] == [6, 2]
  assert gopro.scan(root)['train'][4].name == 'GOPR2/000000'


def test_wrong_folder_is_told_in_one_line(tmp_path, prepare, capsys):
  assert prepare(['gopro', '--from', str(tmp_path / 'nowhere')]) == 1
  assert 'no such folder; download GOPRO_Large.zip' in capsys.readouterr().err
  (tmp_path / 'pictures').mkdir()
  assert prepare(['gopro', '--from', str(tmp_path)]) == 1
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and 'no train/ and no test/' in error and 'found pictures/' in error


def test_missing_data_says_what_to_download_and_how_to_prepare(tmp_path):
  with pytest.raises(FileNotFoundError) as error:
    sources.open('gopro/blur_gamma', 'train', directory=tmp_path)
  for part in (
    'GOPRO_Large.zip', 'https://seungjunnah.github.io/Datasets/gopro',
    f'tools/prepare.py gopro --from GOPRO_Large --to {tmp_path} --config blur_gamma',
  ):  # fmt: skip
    assert part in str(error.value)
  assert '\n' not in str(error.value)


def test_left_overs_of_a_killed_run_go(tmp_path, prepare):
  import os

  root = make_gopro(tmp_path / 'from', ('blur', 'sharp'))
  old, new = (tmp_path / f'to/gopro/blur/incomplete.{name}_1.0.0' for name in ('OLD', 'NEW'))
  for folder in (old, new):
    folder.mkdir(parents=True)
    (folder / 'bucket.tmp').touch()
  for path in (old / 'bucket.tmp', old):
    os.utime(path, (0, 0))
  assert prepare(['gopro', '--from', str(root), '--to', str(tmp_path / 'to')]) == 0
  assert not old.exists() and new.exists()  # the new one may belong to another process


def test_neither_tensorflow_nor_torch_is_imported(tmp_path):
  root = make_gopro(tmp_path / 'from', ('blur', 'sharp'))
  code = (
    'import runpy, sys\n'
    'from deblur_jax.data import sources\n'
    f'sys.argv = ["prepare", "gopro", "--from", {str(root)!r}, "--to", {str(tmp_path / "to")!r}]\n'
    'try:\n'
    f'  runpy.run_path({str(ROOT / "tools/prepare.py")!r}, run_name="__main__")\n'
    'except SystemExit as end:\n'
    '  assert end.code == 0, end.code\n'
    f'source = sources.open("gopro/blur", "test", directory={str(tmp_path / "to")!r})\n'
    'assert source[1]["sharp"].shape == (9, 16, 3)\n'
    'assert not {"tensorflow", "torch"} & set(sys.modules)\n'
  )
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


def test_real_gopro(tmp_path, prepare, shared):
  root = shared('data/gopro_mini')
  assert prepare(['gopro', '--from', str(root), '--to', str(tmp_path), '--config', 'blur']) == 0
  train, test = (sources.open('gopro/blur', s, directory=tmp_path) for s in sources.SPLITS)
  assert (len(train), len(test), train.size(0)) == (4, 7, (720, 1280))
  example = next(test[i] for i in range(7) if test[i]['name'] == 'GOPR0384_11_02/000698')
  folder = root / 'test/GOPR0384_11_02'
  np.testing.assert_array_equal(example['blurred'], files.read(folder / 'blur/000698.png'))
  np.testing.assert_array_equal(example['sharp'], files.read(folder / 'sharp/000698.png'))
