"""Plans, what is skipped and why, and interruption."""

import contextlib
import json
import os
import signal

import numpy as np
import PIL.Image
import pytest

from deblur_jax import cli, zoo
from deblur_jax.photos import history, interrupt, jobs, restore
from deblur_jax.photos.restorer import Restorer, load
from deblur_jax.types import Needs


def save(path, seed=0, side=24):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = np.random.default_rng(seed).integers(50, 200, (side, side, 3), np.uint8)
  PIL.Image.fromarray(image).save(path)


def names(todo, folder):
  return [str(job.source.relative_to(folder)) for job in todo]


def test_linked_folders_are_followed_once(tmp_path):
  save(tmp_path / 'real/1.png')
  save(tmp_path / 'real/deep/2.png')
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in/linked').symlink_to(tmp_path / 'real')
  (tmp_path / 'real/back').symlink_to(tmp_path / 'in')  # a ring
  (tmp_path / 'in/again').symlink_to(tmp_path / 'real/deep')
  found = jobs.plan([tmp_path / 'in'], tmp_path / 'out', recursive=True)
  assert len(found) == 2 and all(not job.problem for job in found)
  assert names(found, tmp_path / 'in')[-1] == 'linked/1.png'
  assert jobs.plan([tmp_path / 'in'], tmp_path / 'out') == []


def test_a_linked_folder_counts_as_in_case_25(tmp_path):
  """Two pictures of its own and six behind a link; two of eight were found."""
  for name in ('own.png', 'own2.png'):
    save(tmp_path / 'L' / name)
  for i in range(6):
    save(tmp_path / f'real/{i}.png')
  (tmp_path / 'L/sub').symlink_to(tmp_path / 'real')
  assert len(jobs.plan([tmp_path / 'L'], tmp_path / 'out', recursive=True)) == 8


def test_jfif_is_found_and_unsupported_formats_are_named(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  save(tmp_path / 'in/a.png')
  PIL.Image.open(tmp_path / 'in/a.png').save(tmp_path / 'in/b.jfif', 'jpeg')
  for name in ('c.PSD', 'd.jxl', 'e.gif', 'f.bmp', 'g.jp2', 'notes.txt', '.hidden.gif'):
    (tmp_path / 'in' / name).write_bytes(b'x')
  assert names(jobs.plan(['in'], 'out'), 'in') == ['a.png', 'b.jfif']
  assert jobs.left_out(['in'], 'out') == ['c.PSD', 'd.jxl', 'e.gif', 'f.bmp', 'g.jp2']
  assert jobs.left_out(['in/e.gif'], 'out') == []  # named: fails with a reason instead
  assert cli.main(['restore', 'in', '--weights', 'polyblur', '--dry-run']) == 0
  said = capsys.readouterr().out
  assert 'skipped, unsupported formats: c.PSD, d.jxl, e.gif and 2 more' in said


def test_results_of_formats_that_are_only_read_are_named_by_what_is_written(tmp_path, capsys):
  for name in ('a.HEIC', 'b.nef', 'c.webp'):
    (tmp_path / name).write_bytes(b'x')
  plan = jobs.plan(
    [tmp_path], tmp_path / 'out', rename=lambda path: path.with_stem(path.stem + '_')
  )
  assert [job.target.name for job in plan] == ['a_.jpg', 'b_.tif', 'c_.webp']
  plan = jobs.plan([tmp_path / 'a.HEIC'], 'out', rename=lambda path: path.with_suffix('.png'))
  assert plan[0].target.name == 'a.png'
  arguments = [str(tmp_path / 'c.webp'), '-o', str(tmp_path / 'c.heic')]
  assert cli.main(['restore', *arguments, '--weights', 'polyblur']) == 2
  assert 'cannot write .heic files; supported: .jpg' in capsys.readouterr().err


def test_a_result_is_made_again_only_if_it_was_made_otherwise(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  save(tmp_path / 'a.png')
  restorer = Restorer(zoo.Method('same', lambda blurred: blurred, Needs()))

  def run(made, overwrite=False):
    options = restore.Options(made=made, overwrite=overwrite)
    todo = jobs.plan(['a.png'], 'out')
    (outcome,) = restore.restore_files(todo, restorer, options).outcomes
    return outcome.status, outcome.message or outcome.notes[0]

  mobile = {'weights': 'mobile', 'weights_sha256': 'aa', 'strength': 0.5}
  assert run(mobile)[0] == 'restored'
  assert run(mobile) == ('skipped', 'already restored with --weights mobile --strength 0.5')
  general = {'weights': 'general', 'weights_sha256': 'bb'}
  again = 'restored again: the old one was made with --weights mobile --strength 0.5'
  assert run(general) == ('restored', again)
  other = 'restored again: the old one was made with another file of the same name'
  assert run(general | {'weights_sha256': 'cc'}) == ('restored', other)
  save(tmp_path / 'a.png', side=30)
  changed = general | {'weights_sha256': 'cc'}
  assert run(changed) == ('restored', 'restored again: the input has changed')
  # What people did to a result is never lost.
  save(tmp_path / 'out/a.png', seed=7)
  edited = (tmp_path / 'out/a.png').read_bytes()
  assert run(mobile) == ('skipped', 'already exists and was edited since; --overwrite replaces it')
  assert (tmp_path / 'out/a.png').read_bytes() == edited
  assert run(mobile, overwrite=True)[0] == 'restored'
  (tmp_path / 'out' / history.FILE).unlink()
  assert run(general)[1].startswith('already exists, with unknown options')
  (tmp_path / 'out' / history.FILE).write_bytes(b'\xff\n{"file": 3}\n[]\n')
  assert run(general)[0] == 'skipped'


def test_options_change_what_counts_as_the_same(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  save(tmp_path / 'a.png', side=60)
  common = ['restore', 'a.png', '--weights', 'wiener', '--psf']
  assert cli.main([*common, 'disk:1']) == 0
  capsys.readouterr()
  assert cli.main([*common, 'disk:1']) == 0
  said = capsys.readouterr().out
  assert '1 skipped (already restored with --weights wiener --psf disk:1)' in said
  assert cli.main([*common, 'disk:2']) == 0
  assert (
    '  restored again: the old one was made with --weights wiener --psf disk:1'
    in capsys.readouterr().out
  )
  # A PSF in a file counts by its content.
  np.save(tmp_path / 'psf.npy', np.ones((3, 3)))
  for psf, count in (
    (np.ones((3, 3)), '1 restored'),
    (np.ones((3, 3)), '0 restored'),
    (np.eye(3), '1 r'),
  ):
    np.save(tmp_path / 'psf.npy', psf)
    assert cli.main([*common, 'psf.npy']) == 0
    assert count in capsys.readouterr().out
  last = json.loads((tmp_path / 'restored' / history.FILE).read_text().splitlines()[-1])
  assert last['options']['psf'] == 'psf.npy' and len(last['options']['psf_sha256']) == 64


def test_unwritable_outputs_are_found_before_anything_is_computed(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  save(tmp_path / 'a.png')
  (tmp_path / 'file').write_text('text')

  def never(*_, **__):
    raise AssertionError

  monkeypatch.setattr('deblur_jax.photos.restorer.load', never)
  wrong = {
    'file/out': 'file/out: cannot write here (Not a directory)',
    '/proc/none': '/proc/none: cannot write here',
    'out.gif': '-o out.gif: cannot write .gif files; supported: .jpg, .jpeg,',
    'out.HEIC': 'cannot write .HEIC files',
  }
  for output, message in wrong.items():
    assert cli.main(['restore', 'a.png', '-o', output, '--weights', 'polyblur']) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1, error
  assert sorted(path.name for path in tmp_path.iterdir()) == ['a.png', 'file']


def test_an_interrupt_that_is_swallowed_ends_the_work_at_the_next_tile(tmp_path):
  seen = []

  def swallowing(blurred):
    seen.append(blurred.shape)
    with contextlib.suppress(KeyboardInterrupt):  # As when it lands in a callback from C.
      os.kill(os.getpid(), signal.SIGINT)
    return blurred

  save(tmp_path / 'a.png', side=200)
  save(tmp_path / 'b.png', side=200)
  method = zoo.Method('m', swallowing, Needs(tiling='exact', halo=2))
  todo = jobs.plan([tmp_path / 'a.png', tmp_path / 'b.png'], tmp_path / 'out')
  with pytest.raises(KeyboardInterrupt), interrupt.remembered():
    restore.restore_files(todo, Restorer(method, tile=64))
  assert len(seen) == 1
  interrupt.check()  # forgotten afterwards
  assert not list(tmp_path.glob('out/*'))


def test_progress_counts_every_tile(tmp_path):
  class Watch:
    pixels, steps = 0, []

    def start(self, pixels):
      self.pixels = pixels

    def advance(self, pixels):
      self.steps.append(pixels)

    def finish(self, outcome):
      pass

  save(tmp_path / 'a.png', side=300)
  method = zoo.Method('m', lambda blurred: blurred, Needs(tiling='approximate', halo=8))
  watch = Watch()
  todo = jobs.plan([tmp_path / 'a.png'], tmp_path / 'out')
  restore.restore_files(todo, Restorer(method, tile=128), watch=watch)
  assert len(watch.steps) == 16 and sum(watch.steps) == watch.pixels == 300 * 300


def test_a_network_in_float32_is_loaded_once_for_all_bad_tiles(tmp_path, monkeypatch):
  loads = []

  def loaded(name, **options):
    loads.append(options.get('dtype'))
    bad = options.get('dtype') is None
    return zoo.Method('m', lambda blurred: blurred * (np.inf if bad else 1), Needs())

  monkeypatch.setattr(zoo, 'load', loaded)
  restored = load('anything', tile=64)(np.full((200, 200, 3), 0.5, np.float32))
  assert np.all(restored == 0.5) and loads == [None, 'float32']
