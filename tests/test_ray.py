"""Restoring on a Ray cluster: the same files, reports and exit codes as without."""

import functools
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import types

import numpy as np
import PIL.Image
import pytest

import deblur_jax
from deblur_jax import cli, zoo
from deblur_jax.photos import cluster, jobs, restore
from deblur_jax.photos.restorer import Restorer
from deblur_jax.types import Needs

needs_ray = pytest.mark.skipif(
  importlib.util.find_spec('ray') is None, reason="requires pip install 'deblur-jax[ray]'"
)


def picture(seed, height=40, width=60, channels=3):
  shape = (height, width, channels) if channels > 1 else (height, width)
  return np.random.default_rng(seed).integers(20, 180, shape, np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder of good and bad files, the current one."""
  monkeypatch.chdir(tmp_path)
  pathlib.Path('in/deep').mkdir(parents=True)
  for i in range(3):
    PIL.Image.fromarray(picture(i)).save(f'in/{i}.png')
  PIL.Image.fromarray(picture(3)).save('in/deep/3.jpg')
  PIL.Image.fromarray(picture(4, channels=1)).save('in/deep/4.tif')
  pathlib.Path('in/text.png').write_text('text')
  whole = pathlib.Path('in/2.png').read_bytes()
  pathlib.Path('in/cut.png').write_bytes(whole[: len(whole) // 2])
  return tmp_path


def run(*arguments):
  """(exit code, lines without times, sorted) of `deblur-jax restore`."""
  command = [sys.executable, '-m', 'deblur_jax.cli', 'restore', *arguments]
  done = subprocess.run(command, capture_output=True, text=True)
  lines = (done.stdout + done.stderr).splitlines()
  return done.returncode, sorted(re.sub(r'[\d.]+ s\b', 'S', line) for line in lines)


def files(folder):
  """Name -> content of all results."""
  paths = (path for path in pathlib.Path(folder).rglob('*') if path.is_file())
  return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name[0] != '.'}


def report(path, output):
  """A report without times, for results in any folder."""
  found = json.loads(pathlib.Path(path).read_text().replace(f'"{output}/', '"'))
  for one in found['files']:
    one.pop('seconds', None)
  return found


def descendants(pid):
  """(process, its command line) of all processes that a process has started."""
  parents, names = {}, {}
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      parents[int(path.name)] = int((path / 'stat').read_text().rpartition(')')[2].split()[1])
      names[int(path.name)] = (path / 'cmdline').read_bytes().decode(errors='replace')
    except OSError:
      continue
  found = [pid]
  for one in found:
    found += [child for child, parent in parents.items() if parent == one]
  return [(one, names[one]) for one in found[1:]]


def kill_a_worker(pid, title):
  """Kills a process with that title which `pid` has started, once there is one."""
  deadline = time.monotonic() + 900
  while time.monotonic() < deadline:
    for one, name in descendants(pid):
      if title in name:
        os.kill(one, signal.SIGKILL)
        return
    time.sleep(0.002)
  raise AssertionError(f'no process {title}')


@needs_ray
@pytest.mark.slow
def test_two_workers_write_what_one_process_writes(folder, brighter):
  common = ['in', '-r', '--weights', os.path.relpath(brighter), '--compare']
  here = run(*common, '-o', 'here', '--report', 'here.json')
  there = [*common, '-o', 'there', '--report', 'there.json', '--ray', 'local', '--workers', '2']
  code, lines = run(*there)
  assert code == here[0] == 1
  assert [line.replace('there', 'here') for line in lines] == here[1]
  assert files('there') == files('here') and len(files('here')) == 10
  assert report('there.json', 'there') == report('here.json', 'here')
  # Without the bad files, a second run has nothing to do, and needs no cluster.
  for name in ('text', 'cut'):
    pathlib.Path(f'in/{name}.png').unlink()
  again = run(*there[:-4], '--ray', 'nowhere:1')
  assert again == run(*common, '-o', 'there', '--report', 'there.json')
  assert any('5 skipped (already restored with' in line for line in again[1])


@needs_ray
@pytest.mark.slow
def test_a_worker_is_killed_and_no_file_is_lost(tmp_path, monkeypatch, brighter):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('in').mkdir()
  for i in range(12):
    PIL.Image.fromarray(picture(i, 300, 400)).save(f'in/{i}.png')
  command = [sys.executable, '-m', 'deblur_jax.cli', 'restore', 'in', '--weights', brighter]
  command += ['--ray', 'local', '--workers', '2', '--report', 'report.json']
  with subprocess.Popen(command) as running:
    while not list(pathlib.Path('restored').glob('*.png')):
      assert running.poll() is None
      time.sleep(0.01)
    kill_a_worker(running.pid, 'ray::_Worker.restore')
  assert running.returncode == 0
  for i in range(12):
    image = np.asarray(PIL.Image.open(f'restored/{i}.png'))
    np.testing.assert_array_equal(image, np.rint(picture(i, 300, 400) + 63.75))
  found = json.loads(pathlib.Path('report.json').read_text())
  assert [one['status'] for one in found['files']] == ['restored'] * 12


POISON = """
import os, pathlib, sys
from deblur_jax import zoo
from deblur_jax.photos import cluster, jobs, restore
from deblur_jax.photos.restorer import Restorer
from deblur_jax.types import Needs

def kills(images):
  if images.shape[2] == 61:
    os._exit(9)
  return images

def prepare():
  return Restorer(zoo.Method('kills', kills, Needs())), restore.Options()

todo = jobs.plan(['in'], 'out')
with cluster.connect('local', prepare, workers=2) as found:
  report = restore.restore_by(found.run, todo, restore.Options())
for one in report.outcomes:
  print(one.source.name, one.status, one.message)
"""


@needs_ray
@pytest.mark.slow
def test_a_picture_that_kills_its_workers_fails_alone(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('in').mkdir()
  for i in range(5):
    PIL.Image.fromarray(picture(i, 40, 61 if i == 1 else 60)).save(f'in/{i}.png')
  done = subprocess.run([sys.executable, '-c', POISON], capture_output=True, text=True)
  lines = [line for line in done.stdout.splitlines() if '(raylet)' not in line]  # Ray's own
  assert lines == [
    '0.png restored ',
    '1.png failed the worker died 2 times; the picture may need more memory than there is',
    *(f'{i}.png restored ' for i in (2, 3, 4)),
  ], done.stderr


# Without Ray.


class Ray:
  """Stands in for Ray: calls run at once, in this process."""

  class exceptions:
    class RayError(Exception):
      pass

    class RayTaskError(RayError):
      def __init__(self, cause):
        super().__init__('a traceback')
        self.cause = cause

  def __init__(self, gpus=0, machines=1):
    self._gpus, self._machines = gpus, machines

  def cluster_resources(self):
    return {'GPU': self._gpus} if self._gpus else {}

  def nodes(self):
    head = {'Alive': True, 'Resources': {}}
    dead = {'Alive': False, 'Resources': {'CPU': 2.0}}
    return [head, dead, *[{'Alive': True, 'Resources': {'CPU': 2.0}}] * self._machines]

  def wait(self, references, timeout):
    return references[-1:], references[:-1]  # the last call ends first

  def get(self, reference):
    try:
      return reference()
    except self.exceptions.RayError:
      raise
    except Exception as error:
      raise self.exceptions.RayTaskError(error) from error


class Remote:
  """Stands in for the handle of an actor."""

  def __init__(self, actor):
    self._actor = actor

  def __getattr__(self, name):
    call = getattr(self._actor, name)
    return types.SimpleNamespace(remote=lambda *given: functools.partial(call, *given))


def test_workers_are_one_for_each_gpu_or_machine():
  assert cluster._shares(Ray(gpus=4), None, True) == (4, {'num_gpus': 1})
  assert cluster._shares(Ray(gpus=4), 2, True) == (2, {'num_gpus': 1})
  for ray, workers, count in ((Ray(machines=3), None, 3), (Ray(), 5, 5)):
    assert cluster._shares(ray, workers, True)[0] == count
  assert cluster._shares(Ray(gpus=4, machines=2), None, False)[0] == 2
  with pytest.raises(ValueError, match='--workers 5: the cluster has 4 GPUs'):
    cluster._shares(Ray(gpus=4), 5, True)


class Worker(cluster._Worker):
  """Dies of one file."""

  def restore(self, step):
    if step.job.source.name == '1.png':
      raise Ray.exceptions.RayError('the actor died')
    return super().restore(step)


def connected(prepare):
  workers = [Remote(Worker(os.getcwd(), prepare)) for _ in range(2)]
  return cluster.Cluster(Ray(), workers)


def test_a_worker_that_dies_costs_one_file(folder):
  restorer = Restorer(zoo.Method('same', lambda images: images, Needs()))
  found = connected(lambda: (restorer, restore.Options()))
  todo = jobs.plan(['in'], 'out', recursive=True)
  outcomes = restore.restore_by(found.run, todo, restore.Options()).outcomes
  assert {one.source.name: one.status for one in outcomes} == {
    '0.png': 'restored',
    '1.png': 'failed',
    '2.png': 'restored',
    '3.jpg': 'restored',
    '4.tif': 'restored',
    'cut.png': 'failed',
    'text.png': 'failed',
  }
  assert [one.source for one in outcomes] == [job.source for job in todo]
  assert found.device == 'cpu'


def test_what_is_wrong_for_all_files_ends_the_run_with_its_own_message(folder):
  def prepare():
    raise ValueError('--weights x: no such weights')

  todo = jobs.plan(['in'], 'out')
  with pytest.raises(ValueError, match=r'^--weights x: no such weights$'):
    restore.restore_by(connected(prepare).run, todo, restore.Options())


def test_workers_with_other_weights_are_refused(folder, brighter):
  from deblur_jax.cli import guide
  from deblur_jax.cli import restore as command

  arguments = types.SimpleNamespace(weights=brighter)
  run = guide.Run([], {'weights_sha256': 'x'}, None)
  with pytest.raises(ValueError, match=r'has deblur-jax .*, not 0\.0\.1'):
    command._prepare_elsewhere(arguments, run, None, '0.0.1')
  with pytest.raises(ValueError, match='differ from those here'):
    command._prepare_elsewhere(arguments, run, None, deblur_jax.__version__)


@pytest.mark.parametrize(
  'options,message',
  [
    (['--ray', 'local'], "no ray: --ray requires pip install 'deblur-jax[ray]'"),
    (['--ray', 'local', '-o', '-'], '--ray needs files that all machines see'),
    (['--workers', '2'], '--workers requires --ray'),
  ],
)
def test_wrong_use_is_one_line(folder, brighter, monkeypatch, capsys, options, message):
  found = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda name: None if name == 'ray' else found(name)
  )
  assert cli.main(['restore', 'in/0.png', '--weights', brighter, *options]) == 2
  err = capsys.readouterr().err
  assert message in err and err.count('\n') == 1


def test_reports_list_files_in_the_order_of_the_plan(folder, brighter):
  common = ['restore', 'in', '-r', '--weights', brighter, '--report', 'report.json']
  for _ in range(2):  # the second time, what is skipped is known first
    assert cli.main(common) == 1
    names = [one['source'] for one in json.loads(pathlib.Path('report.json').read_text())['files']]
    assert names == [str(job.source) for job in jobs.plan(['in'], 'restored', recursive=True)]
