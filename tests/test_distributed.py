"""Several devices and several processes: the same training, and what happens when one is lost."""

import csv
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import numpy as np
import pytest

from deblur_jax import models, sharding, train, writers
from deblur_jax.blur import synthesis
from deblur_jax.checkpoints import Checkpoints
from deblur_jax.configs import deblurgan, srcnn
from deblur_jax.trainers import TRAINERS

FLAGS = ('--config=configs/srcnn.py:smoke', '--config.log_every=1')
FLAGS += ('--config.optim.schedule=constant', '--config.steps=100000', '--config.evaluate_every=12')
FLAGS += ('--config.evaluate.builtin.limit=2',)


def mesh_of(data: int, fsdp: int) -> Mesh:
  """A mesh over the first `data * fsdp` devices."""
  devices = np.asarray(jax.devices()[: data * fsdp]).reshape(data, fsdp)
  return Mesh(devices, ('data', 'fsdp'))


def begin(config, mesh):
  """The state before the first step, and the step."""
  trainer = TRAINERS[config.trainer](config, models.make(**config.model))
  images = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), np.uint8)
  batch = dict(zip(('blurred', 'sharp'), images, strict=True))
  # On one device, so that it compiles once for all meshes.
  init = jax.jit(trainer.init, compiler_options={'xla_backend_optimization_level': 0})
  state = init(jax.random.key(0), batch)
  step = sharding.distributed(trainer.step, state, mesh)
  state = jax.device_put(state, sharding.spread(state, mesh))
  return state, lambda state: step(state, sharding.put(batch, mesh))


def start_two(workdir: pathlib.Path, *flags: str) -> list[subprocess.Popen]:
  """Two processes of two devices that train together in `workdir`."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  command = [sys.executable, '-m', 'deblur_jax.main', *FLAGS, *flags, f'--workdir={workdir}']
  command += [f'--coordinator=localhost:{port}', '--processes=2']
  return [
    subprocess.Popen(
      [*command, f'--process={index}'],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env={**os.environ, 'JAX_NUM_CPU_DEVICES': '2'},
    )
    for index in range(2)
  ]


def wait_for(workdir: pathlib.Path, step: int, processes: list[subprocess.Popen]) -> None:
  """Returns once `step` is told and a checkpoint lies there."""
  deadline = time.monotonic() + 240
  while time.monotonic() < deadline and all(process.poll() is None for process in processes):
    path = workdir / 'metrics.jsonl'
    saved = [path for path in workdir.glob('checkpoints/*') if path.name.isdecimal()]
    if saved and f'"step": {step},' in path.read_text():
      return
    time.sleep(0.05)
  for process in processes:
    process.kill()
  raise AssertionError('\n'.join(sum((process.communicate() for process in processes), ())))


def losses(workdir: pathlib.Path) -> list[float]:
  """The loss of every step, in order."""
  lines = [line for line in writers.read_metrics(workdir) if 'loss' in line]
  assert [line['step'] for line in lines] == list(range(1, len(lines) + 1))
  return [line['loss'] for line in lines]


def scores(workdir: pathlib.Path) -> dict[tuple[str, str], float]:
  """(picture, 'blurred' or 'restored') -> PSNR of the last evaluation."""
  with (workdir / 'results.csv').open() as file:
    rows = list(csv.DictReader(file))
  kinds = {workdir.name: 'restored', 'blurred': 'blurred'}  # a run's weights go by its folder
  return {(row['picture'], kinds[row['method']]): float(row['psnr']) for row in rows}


def test_arrays_are_split_along_the_largest_axis_that_divides():
  shapes = {'kernel': (3, 3, 6, 8), 'square': (8, 8), 'bias': (6,), 'odd': (3, 5), 'count': ()}
  tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
  found = {name: one.spec for name, one in sharding.spread(tree, mesh_of(1, 4)).items()}
  assert found['kernel'] == PartitionSpec(None, None, None, 'fsdp')
  assert found['square'] == PartitionSpec(None, 'fsdp')
  assert found['bias'] == found['odd'] == found['count'] == PartitionSpec()
  halves = sharding.spread(tree, mesh_of(2, 2))
  assert halves['bias'].spec == PartitionSpec('fsdp')
  assert all(one.is_fully_replicated for one in sharding.spread(tree, mesh_of(4, 1)).values())


@pytest.mark.parametrize('fsdp', [0, 3])
def test_fsdp_divides_the_devices(fsdp):
  with pytest.raises(ValueError, match=rf'fsdp {fsdp} does not divide 4 devices: .*config\.fsdp'):
    sharding.make_mesh(fsdp)


def test_machines_with_gpus_are_slices_of_their_own(monkeypatch):
  class Device:
    def __init__(self, id):
      self.id, self.process_index, self.slice_index = id, id // 2, id // 2
      self.platform = self.device_kind = 'gpu'

  devices = [Device(id) for id in (0, 2, 1, 3)]
  monkeypatch.setattr(jax, 'devices', lambda: list(devices))
  for fsdp, expected in ((1, [[0], [1], [2], [3]]), (2, [[0, 1], [2, 3]])):
    mesh = sharding.make_mesh(fsdp)
    assert mesh.axis_names == ('data', 'fsdp')
    assert [[device.id for device in row] for row in mesh.devices] == expected


@pytest.mark.parametrize('name', ['supervised', 'adversarial'])
def test_every_layout_takes_the_same_steps(name):
  config = {'supervised': srcnn, 'adversarial': deblurgan}[name].get_config('smoke')
  config.model, config.ema = srcnn.get_config('smoke').model, 0.9
  config.accumulate = 2 if name == 'supervised' else 1
  if name == 'adversarial':
    config.critic.ndf, config.critic.n_layers, config.critic.steps = 8, 1, 1
  found = []
  for mesh in (mesh_of(4, 1), mesh_of(2, 2)):
    state, step = begin(config, mesh)
    for _ in range(2):
      state, metrics = step(state)
    found.append((metrics['loss'], sharding.local(state.params, mesh)))
  (loss, whole), (split_loss, split) = found
  assert split_loss == pytest.approx(float(loss), abs=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), whole, split)
  held = sum(leaf.addressable_data(0).size for leaf in jax.tree.leaves(state.opt_state))
  assert held < 0.55 * sum(leaf.size for leaf in jax.tree.leaves(state.opt_state))


@pytest.mark.parametrize('before, after', [((2, 2), (1, 1)), ((1, 1), (4, 1))])
def test_a_checkpoint_goes_on_in_another_layout(tmp_path, before, after):
  config = srcnn.get_config('smoke')
  state, step = begin(config, mesh_of(*before))
  state, _ = step(state)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state)
    checkpoints.wait()
    target, step_after = begin(config, mesh_of(*after))
    restored = checkpoints.restore(target)
  leaves = zip(jax.tree.leaves(restored), jax.tree.leaves(target), strict=True)
  assert all(one.sharding.is_equivalent_to(other.sharding, one.ndim) for one, other in leaves)
  _, expected = step(state)
  _, found = step_after(restored)
  assert float(found['loss']) == pytest.approx(float(expected['loss']), abs=1e-6)


def test_each_device_blurs_its_own_pictures_on_two_axes(key):
  degrade = synthesis.parse('gaussian(2)')
  sharp = jax.random.uniform(key, (8, 24, 24, 3))
  expected = jax.jit(degrade)(key, sharp)
  mesh = sharding.make_mesh(2)
  rows, whole = sharding.batched(mesh), sharding.replicated(mesh)
  with jax.set_mesh(mesh):
    apart = jax.jit(degrade, in_shardings=(whole, rows), out_shardings=rows).lower(key, sharp)
  apart = apart.compile()
  assert 'all-gather' not in apart.as_text()
  found = apart(jax.device_put(key, whole), jax.device_put(sharp, rows))
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
  'arguments, told',
  [
    ("'localhost:1', 2", '--coordinator, --processes and --process must be given'),
    ("'localhost:1', 2, 2", '--coordinator=localhost:1: .*process_id < num_processes'),
    ('', 'found no Slurm, .* give --coordinator=HOST:PORT'),
  ],
)
def test_what_does_not_start_is_reported(arguments, told):
  code = f'from deblur_jax import sharding\nsharding.start({arguments})'
  environment = {name: v for name, v in os.environ.items() if not name.startswith('SLURM')}
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, env=environment
  )
  last = done.stderr.splitlines()[-1]
  assert last.startswith('ValueError') and re.search(told, last)


@pytest.mark.slow
def test_two_processes_train_as_one_and_outlive_the_loss_of_one(tmp_path):
  config = srcnn.get_config('smoke')
  config.steps, config.log_every, config.optim.schedule = 12, 1, 'constant'
  config.evaluate.builtin.limit = 2
  train.train(config, tmp_path / 'one')
  expected = losses(tmp_path / 'one')

  workdir = tmp_path / 'two'
  first, second = start_two(workdir, '--config.fsdp=2')
  wait_for(workdir, 6, [first, second])
  second.send_signal(signal.SIGKILL)
  begin = time.monotonic()
  _, told = first.communicate(timeout=60)
  assert time.monotonic() - begin < 60
  assert first.returncode != 0
  assert told.splitlines()[-1].startswith('error: another process of this run has ended')
  second.communicate()
  np.testing.assert_allclose(losses(workdir)[:6], expected[:6], atol=1e-5)

  # The same command resumes, here with other shardings.
  processes = start_two(workdir)
  wait_for(workdir, 12, processes)
  processes[1].terminate()  # whoever is asked to leave, all do
  (out, _), _ = (process.communicate(timeout=60) for process in processes)
  assert [process.returncode for process in processes] == [143, 143]
  assert 'resuming from step' in out and 'run the same command to resume' in out
  np.testing.assert_allclose(losses(workdir)[:12], expected, atol=1e-5)
  # Each scored some of the pictures, and the first wrote down all of them.
  alone, shared = (scores(tmp_path / name) for name in ('one', 'two'))
  assert len(shared) > 2 and shared.keys() == alone.keys()
  for picture, psnr in alone.items():
    assert shared[picture] == pytest.approx(psnr, abs=0.01)

  # And so does one process with other devices.
  config.steps = len(losses(workdir)) + 1
  train.train(config, workdir)
  assert len(losses(workdir)) == config.steps
  with Checkpoints(workdir / 'checkpoints') as checkpoints:
    assert checkpoints.latest() == config.steps


def test_functions_that_compile_fast_are_kept_as_well(tmp_path, monkeypatch):
  seconds = 'jax_persistent_cache_min_compile_time_secs'
  settings = {'jax_compilation_cache_dir': str(tmp_path), seconds: 1.0}
  monkeypatch.setattr(jax.config, 'update', settings.__setitem__)
  sharding.keep_compiled()
  assert settings[seconds] == 1.0  # as the variable that conftest.py sets
  monkeypatch.delenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS')
  sharding.keep_compiled()
  assert settings[seconds] == 0.05
