"""The loop as its users meet it: trains, resumes, evaluates and says what is wrong."""

import csv
import functools
import importlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from deblur_jax import checkpoints as checkpoints_file
from deblur_jax import cli, main, models, opening, runs, sharding, train, weights, writers
from deblur_jax.checkpoints import Checkpoints, Damaged, DiskFull
from deblur_jax.configs import dbgan, hinet, nafnet, srcnn
from deblur_jax.data import sources
from deblur_jax.evaluation import blurred_set, evaluator, figures, protocols, restoration
from deblur_jax.nn import conv, parameters
from deblur_jax.trainers import TRAINERS, supervised
from deblur_jax.weights import DoesNotFit

CONFIGS = sorted(
  path.stem
  for path in pathlib.Path('configs').glob('*.py')
  if path.stem not in ('common', '__init__')
)
FAST = {'JAX_NUM_CPU_DEVICES': '1'}


def command(*flags: str, **environment: str) -> subprocess.Popen:
  """`python -m deblur_jax.main` with flags, as a process."""
  return subprocess.Popen(
    [sys.executable, '-m', 'deblur_jax.main', *flags],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, **FAST, **environment},
  )


def run(*flags: str, **environment: str) -> tuple[int, str]:
  """Exit code and everything that was printed."""
  process = command(*flags, **environment)
  out, err = process.communicate(timeout=300)
  return process.returncode, out + err


def short():
  """The config of the finished run."""
  config = nafnet.get_config('smoke')
  config.evaluate.builtin.protocol = 'keras'
  return config


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
  """The folder of a smoke run."""
  workdir = tmp_path_factory.mktemp('run')
  train.train(short(), workdir)
  return workdir


def test_a_run_leaves_weights_scores_and_pictures(finished):
  scores = json.loads((finished / 'results.json').read_text())
  assert set(scores) == {'builtin'} and set(scores['builtin']) == {'blurred', finished.name}
  assert 10 < scores['builtin']['blurred']['psnr'] < 50
  with (finished / 'results.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert {row['method'] for row in rows} == {'blurred', finished.name}
  for name in ('gallery.png', 'loss.png'):
    assert (finished / name).stat().st_size > 10_000
  params, manifest = weights.read(finished / 'weights.safetensors')
  assert manifest['network'] == 'nafnet' and manifest['step'] == 4
  model = models.make(manifest['network'], **manifest['arguments'])
  assert np.isfinite(
    model.apply({'params': params}, jnp.full((1, 16, 16, 3), 0.5))['restored']
  ).all()


def test_metrics_are_one_line_a_log_step(finished):
  lines = writers.read_metrics(finished)
  assert [line['step'] for line in lines if 'loss' in line] == [2, 4]
  for line in lines:
    if 'loss' in line:
      assert 0 <= line['data_wait'] <= 1 and line['learning_rate'] > 0
  assert [line['step'] for line in lines if 'builtin/psnr' in line] == [4]


def test_running_a_finished_run_again_changes_nothing(finished, capsys):
  before = (finished / 'weights.safetensors').read_bytes()
  # A run from before the network had this argument, whose default it was made with.
  config = json.loads((finished / 'config.json').read_text())
  del config['model']['tlc']
  (finished / 'config.json').write_text(json.dumps(config))
  train.train(short(), finished)
  told = capsys.readouterr().out
  assert 'builtin/accuracy' in told  # the table
  assert (finished / 'weights.safetensors').read_bytes() == before
  assert [line['step'] for line in writers.read_metrics(finished) if 'loss' in line] == [2, 4]


def test_metrics_that_are_not_finite_are_null(tmp_path):
  with writers.Writer(tmp_path, steps=2) as writer:
    for step, psnr in ((1, 20.0), (2, float('inf'))):
      writer.scalars(step, {'loss': 0.5, 'psnr': psnr})
  lines = writers.read_metrics(tmp_path)
  assert lines == [{'step': 1, 'loss': 0.5, 'psnr': 20.0}, {'step': 2, 'loss': 0.5, 'psnr': None}]
  assert figures.curves(lines).shape[2] == 3


@pytest.mark.parametrize(
  'name',
  [pytest.param(name, marks=pytest.mark.slow if name == 'maxim' else ()) for name in CONFIGS],
)
def test_every_recipe_builds_and_locks(name):
  module = importlib.import_module(f'deblur_jax.configs.{name}')
  with pytest.raises(ValueError, match=r'known: builtin, ') as told:
    module.get_config('no_such_recipe')
  smallest = models.make(**module.get_config('smoke').model)
  for recipe in (None, *re.search(r'known: (.*)\)', str(told.value)).group(1).split(', ')):
    config = module.get_config(recipe).lock()
    model = models.make(**config.model)
    with config.unlocked():
      config.perceptual.weight = 0.0  # needs a file
      if config.trainer == 'guided':
        config.first = ''  # weights of another size
    trainer = TRAINERS[config.trainer](config, model)
    if recipe is None:
      # Larger variants tell no more and take minutes; tests/test_models.py traces each of them.
      model = smallest
      trainer = TRAINERS[config.trainer](config, model)
      side = model.needs.square(2 * model.needs.multiple)
      halves = ('sharp',) if config.trainer == 'guided' else ('sharp', 'blurred')
      batch = dict.fromkeys(halves, jnp.zeros((1, side, side, 3)))
      with conv.plain(), parameters.only_shapes():
        init = jax.eval_shape(trainer.init, jax.random.key(0), batch)
        state, metrics = jax.eval_shape(trainer.step, init, batch)
      assert state.step.shape == metrics['loss'].shape == ()


def test_one_device_and_four_agree_after_five_steps():
  config = srcnn.get_config('smoke')
  config.optim.schedule = 'constant'
  config.ema = 0.9
  model = models.make(**config.model)
  trainer = supervised.make(config, model)
  rng = np.random.default_rng(0)
  batch = {'sharp': rng.integers(0, 256, (4, 32, 32, 3), np.uint8)}

  def params_after_five(count):
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:count]), ('data',))
    everywhere = sharding.replicated(mesh)
    quickly = functools.partial(
      jax.jit, compiler_options={'xla_backend_optimization_level': 0}, out_shardings=everywhere
    )
    state = quickly(trainer.init)(jax.random.key(0), batch)
    step = quickly(trainer.step, in_shardings=(everywhere, sharding.batched(mesh)))
    for _ in range(5):
      state, metrics = step(state, sharding.put(batch, mesh))
    return jax.device_get((state.ema, metrics['loss']))

  one, four = params_after_five(1), params_after_five(4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, four)


@pytest.mark.slow
def test_killed_at_any_step_a_run_ends_with_the_same_parameters(tmp_path):
  flags = ['--config=configs/srcnn.py:smoke', '--config.steps=12', '--config.save_every=3']
  flags += ['--config.evaluate_every=12', '--config.evaluate.builtin.limit=1']
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  assert run(*flags, f'--workdir={whole}')[0] == 0
  for least in (4, 8):  # killed twice
    process = command(*flags, '--config.log_every=1', f'--workdir={broken}')
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
      path = broken / 'metrics.jsonl'
      if path.exists() and path.read_text().count('"loss"') >= least:
        break
      time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
  code, text = run(*flags, '--config.log_every=1', f'--workdir={broken}')
  assert code == 0, text
  assert 'resuming from step' in text
  expected, found = (weights.read(one / 'weights.safetensors')[0] for one in (whole, broken))
  jax.tree.map(np.testing.assert_array_equal, expected, found)
  steps = [line['step'] for line in writers.read_metrics(broken) if 'loss' in line]
  assert steps == list(range(1, 13))


@pytest.mark.slow
def test_sigterm_saves_and_leaves(tmp_path):
  flags = ['--config=configs/srcnn.py:smoke', '--config.steps=100000', '--config.log_every=1']
  flags += ['--config.save_every=100000', '--config.evaluate_every=100000', f'--workdir={tmp_path}']
  process = command(*flags)
  while process.poll() is None and not (
    (tmp_path / 'metrics.jsonl').exists() and '"loss"' in (tmp_path / 'metrics.jsonl').read_text()
  ):
    time.sleep(0.05)
  process.terminate()
  out, err = process.communicate(timeout=120)
  assert process.returncode == 143, out + err
  assert 'run the same command to resume' in out
  with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
    assert checkpoints.latest() == writers.read_metrics(tmp_path)[-1]['step']


def test_a_run_goes_on_from_given_weights(finished, tmp_path):
  config = nafnet.get_config('smoke')
  begin = shutil.copy(finished / 'weights.safetensors', tmp_path / 'begin.safetensors')
  config.start, config.steps, config.optim.learning_rate = str(begin), 1, 1e-12
  config.evaluate = {}
  config.model.middle_blk_num += 1  # A block more, which does nothing yet.
  train.train(config, tmp_path / 'deeper')
  expected, found = (
    weights.read(one / 'weights.safetensors')[0] for one in (finished, tmp_path / 'deeper')
  )
  more = f'middle_blks_{config.model.middle_blk_num - 1}'
  assert found.keys() - expected.keys() == {more} and np.isfinite(found.pop(more)['beta']).all()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
  digest = weights.read(begin)[1]['sha256']
  begin.unlink()  # A run that has begun needs them no more, and still says which they were.
  config.steps = 2
  train.train(config, tmp_path / 'deeper')
  provenance = weights.read(tmp_path / 'deeper' / 'weights.safetensors')[1]['provenance']
  assert provenance['start'] == {'weights': str(begin), 'sha256': digest}
  config.start = str(finished)
  config.model.width = 2 * config.model.width
  with pytest.raises(DoesNotFit, match=r'weights\.safetensors: .*another shape'):
    train.train(config, tmp_path / 'wider')
  config.start = 'general'
  with pytest.raises(DoesNotFit, match=r'general has weights of maxim, .* trains nafnet: '):
    train.train(config, tmp_path / 'wider')
  config.start = 'wiener'
  with pytest.raises(FileNotFoundError, match='wiener is a classical method, which has'):
    train.train(config, tmp_path / 'wider')
  assert not (tmp_path / 'wider').exists()  # so that the right command is not another run


def test_a_network_of_fewer_stages_begins_with_the_first_ones(tmp_path):
  config = hinet.get_config('smoke')
  whole = models.shapes(models.make(**config.model, dtype=jnp.float32))
  given = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, np.float32), whole)
  arguments = {key: value for key, value in config.model.items() if key != 'name'}
  weights.write(tmp_path / 'two', given, {'network': 'hinet', 'arguments': arguments})
  config.start, config.model.stages, config.steps = str(tmp_path / 'two'), 1, 1
  config.optim.learning_rate = 1e-12
  config.evaluate = {}
  train.train(config, tmp_path / 'run')
  found = weights.read(tmp_path / 'run/weights.safetensors')[0]
  assert found.keys() < given.keys()
  jax.tree.map(lambda leaf: np.testing.assert_allclose(leaf, 0.01, atol=1e-6), found)


def test_the_best_is_chosen_on_validation_never_on_a_test_set():
  assert evaluator.ranking({'test': None, 'train': None, 'validation': None}) == 'validation/psnr'
  assert evaluator.ranking({'kodak': None, 'test': None}) == ''


def pairs_folder(folder: pathlib.Path, count: int) -> str:
  """A folder of `count` pairs to train on and two to test, 32x40."""
  for split, number in (('train', count), ('test', 2)):
    for index in range(number):
      sharp = np.random.default_rng(index).integers(0, 255, (32, 40, 3), np.uint8)
      blurred = (sharp // 2 + np.roll(sharp, 1, axis=1) // 2).astype(np.uint8)
      for kind, image in (('sharp', sharp), ('blur', blurred)):
        path = folder / split / kind / f'{index:02}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
  return str(folder)


def test_of_ones_own_pictures_a_share_is_held_out_to_choose_by(tmp_path, monkeypatch):
  config = srcnn.get_config('pairs')
  assert config.data.validation == 0.05
  config.data.directory = pairs_folder(tmp_path / 'data', 8)
  config.data.validation, config.data.ops, config.batch_size = 0.25, 'crop(32)', 4
  config.steps, config.evaluate_every = 2, 1
  source, held_out = opening.open_source(config)
  assert [source[i]['name'] for i in range(6)] == [f'{i:02}' for i in range(6)]
  assert [held_out[i]['name'] for i in range(2)] == ['06', '07'] and len(source) == 6
  # The test set grows better all the time, validation worse: the first step is the best.
  evaluate, found = restoration.evaluate, []

  def scored(*arguments, **options):
    reports = evaluate(*arguments, **options)
    found.append(reports)
    worse = {
      picture: {method: one | {'psnr': one['psnr'] - len(found)} for method, one in scores.items()}
      for picture, scores in reports['validation'].scores.items()
    }
    return reports | {'validation': reports['validation']._replace(scores=worse)}

  monkeypatch.setattr(restoration, 'evaluate', scored)
  train.train(config, tmp_path / 'run')
  assert list(found[0]) == ['pairs', 'validation'] and len(found) == 2
  manifest = weights.read(tmp_path / 'run/weights.safetensors')[1]
  chosen = 'step 1 of 2, best PSNR on 2 validation pictures'
  assert manifest['step'] == 1 and manifest['chosen'] == chosen
  results = json.loads((tmp_path / 'run/results.json').read_text())
  assert {one['run']['weights'] for one in results.values()} == {chosen}
  with Checkpoints(tmp_path / 'run/checkpoints', best='validation/psnr') as checkpoints:
    assert checkpoints.latest() == 2


def test_a_run_and_its_weights_say_where_they_come_from(tmp_path, capsys):
  config = srcnn.get_config('pairs')
  folder = pairs_folder(tmp_path / 'data', 4)
  config.data.directory, config.data.ops, config.batch_size = folder, 'crop(32)', 4
  config.steps = 2
  train.train(config, tmp_path / 'run')
  (session,) = runs.read(tmp_path / 'run')['sessions']
  assert session['step'] == 2 and session['changes'] == {} and 0 < session['hours'] < 0.1
  found = weights.read(tmp_path / 'run/weights.safetensors')[1]['provenance']
  assert found['command'] == shlex.join(sys.orig_argv) == session['command']
  assert found['packages']['jax'] == jax.__version__ and found['python'] in sys.version
  assert found['config'] == json.loads(config.to_json()) and found['seed'] == config.seed
  assert found['devices'].startswith('4 x ') and found['processes'] == 1
  assert {name: (one['source'], one['pictures']) for name, one in found['data'].items()} == {
    'train': ('pairs', 4),
    'pairs': ('pairs', 2),
  }
  commit = subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True)
  if commit.returncode == 0:
    assert found['commits']['code'].startswith(commit.stdout.strip())
  assert cli.main(['models', '--weights', str(tmp_path / 'run')]) == 0
  printed = capsys.readouterr().out
  for line in (
    f'command: {found["command"]}',
    f'learning_rate: {config.optim.learning_rate}',
    found['data']['train']['digest'],
  ):
    assert line in printed

  # Another session adds its hours and its changes; the config is the one that ran last.
  config.steps = 4
  train.train(config, tmp_path / 'run')
  later = weights.read(tmp_path / 'run/weights.safetensors')[1]['provenance']
  assert later['sessions'] == 2 and later['changes'] == [{'steps': [2, 4]}]
  assert later['hours'] > found['hours'] and later['began'] == found['began']
  assert later['config']['steps'] == 4 and later['data'] == found['data']


def test_a_run_on_a_mixture_names_its_parts(tmp_path, capsys):
  config = srcnn.get_config('smoke')
  folder = pairs_folder(tmp_path / 'data', 4)
  config.data.mixture = parts = {
    'mine': {'source': 'pairs', 'directory': folder, 'share': 0.75},
    'builtin': {'source': 'builtin', 'directory': '', 'share': 0.25},
  }
  config.steps = 1
  train.train(config, tmp_path / 'run')
  found = weights.read(tmp_path / 'run/weights.safetensors')[1]['provenance']['data']['train']
  assert found['source'] == parts and found['pictures'] > 4
  assert cli.main(['models', '--weights', str(tmp_path / 'run')]) == 0
  assert folder in capsys.readouterr().out


def test_without_validation_the_last_weights_are_kept(finished):
  assert weights.read(finished / 'weights.safetensors')[1]['chosen'] == 'step 4 of 4, the latest'
  config = nafnet.get_config('gopro')
  assert config.data.validation == 0 and list(config.evaluate) == ['gopro']


def test_other_weights_leave_the_scores_of_a_run_alone(finished, tmp_path, capsys):
  names = ('results.json', 'results.csv', 'gallery.png')
  before = [(finished / name).read_bytes() for name in names]
  params, manifest = weights.read(finished / 'weights.safetensors')
  shutil.copy(finished / 'weights.safetensors', tmp_path / 'copy.safetensors')
  params['ending']['bias'] = params['ending']['bias'] + 0.1
  weights.write(tmp_path / 'other.safetensors', params, manifest)
  for name in ('other', 'copy'):
    main.evaluate(short(), finished, str(tmp_path / f'{name}.safetensors'))
  assert [(finished / name).read_bytes() for name in names] == before
  # The copy is known to be the run's own weights, and goes by the run's name.
  assert sorted(path.name for path in (finished / 'evaluated').iterdir()) == sorted(
    ['other', finished.name]
  )
  own, copy, other = (
    json.loads((folder / 'results.json').read_text())['builtin']
    for folder in (finished, *(finished / 'evaluated' / name for name in (finished.name, 'other')))
  )
  assert set(own) == set(copy) == {'blurred', finished.name}
  assert copy[finished.name]['psnr'] == pytest.approx(own[finished.name]['psnr'], abs=1e-3)
  assert other['other']['psnr'] < own[finished.name]['psnr'] - 1


CHANGES = [
  # what is changed; how the run goes on, or the refusal's list
  ({}, 'resumes'),
  ({'steps': 8}, 'resumes'),
  ({'log_every': 1, 'save_every': 1, 'evaluate_every': 2}, 'resumes'),
  ({'fsdp': 2, 'accumulate': 2}, 'resumes'),
  ({'seed': 1}, 'seed 0 -> 1'),
  ({'optim.learning_rate': 0.5, 'optim.clip': 9.0}, 'optim.clip 1.0 -> 9.0, optim.learning_rate'),
  ({'loss.l1': 0.25}, 'loss.l1 0.0 -> 0.25'),
  ({'blur': 'disk(2)'}, r'blur gaussian\(1\.\.2\) -> disk\(2\)'),
  ({'batch_size': 8}, 'batch_size 4 -> 8'),
  ({'data.ops': 'crop(16)'}, r'data.ops crop\(32\) -> crop\(16\)'),
  ({'model.width': 8}, 'model.width 4 -> 8'),
  ({'evaluate.builtin.protocol': 'plain'}, 'evaluate.builtin.protocol keras -> plain'),
  ({'data.directory': '/elsewhere', 'seed': 2}, r"seed 0 -> 2, data\.directory '' -> /elsewhere"),
]


def changed(changes):
  config = short()
  config.update_from_flattened_dict(changes)
  return config


@pytest.mark.parametrize('changes, outcome', CHANGES, ids=[','.join(one) for one, _ in CHANGES])
def test_a_changed_command_resumes_only_if_the_changes_cannot_matter(changes, outcome, tmp_path):
  runs.claim(tmp_path, short())
  before = (tmp_path / 'config.json').read_bytes()
  if outcome == 'resumes':
    expected = {name: [short()[name], value] for name, value in changes.items()}
    assert runs.claim(tmp_path, changed(changes)) == expected
  else:
    with pytest.raises(ValueError, match=rf'other settings: {outcome}.*--workdir.*--allow_changes'):
      runs.claim(tmp_path, changed(changes))
    assert len(runs.read(tmp_path)['sessions']) == 1
    accepted = runs.claim(tmp_path, changed(changes), allow_changes=True)
    assert {name: new for name, (_, new) in accepted.items()} == changes
    # From here on these are the run's settings: the same command resumes, the first one does not.
    assert runs.claim(tmp_path, changed(changes)) == {}
    with pytest.raises(ValueError, match='other settings'):
      runs.claim(tmp_path, short())
    assert runs.read(tmp_path)['sessions'][1]['changes'] == accepted
  assert (tmp_path / 'config.json').read_bytes() == before


def test_another_config_in_the_folder_of_a_run_is_refused(finished):
  with pytest.raises(ValueError, match=r'model\.name nafnet -> srcnn'):
    train.train(srcnn.get_config('smoke'), finished)
  config = short()
  config.optim.learning_rate = 1e-5
  before = sorted(finished.rglob('*'))
  with pytest.raises(ValueError, match=r'optim\.learning_rate 0\.003 -> 1e-05'):
    train.train(config, finished)
  assert sorted(finished.rglob('*')) == before


def test_settings_newer_than_a_run_count_as_off(tmp_path):
  runs.claim(tmp_path, short())
  config = json.loads((tmp_path / 'config.json').read_text())
  del config['model']['tlc'], config['mixup'], config['data']['phases']
  (tmp_path / 'config.json').write_text(json.dumps(config))
  assert runs.claim(tmp_path, short()) == {}
  with pytest.raises(ValueError, match=r'mixup not set -> 0\.5'):
    runs.claim(tmp_path, changed({'mixup': 0.5}))
  with pytest.raises(ValueError, match=r'model\.tlc 0 -> 384'):
    runs.claim(tmp_path, changed({'model.tlc': 384}))


def test_a_checkpoint_that_does_not_fit_names_what_differs(finished):
  config = nafnet.get_config('smoke')
  config.model.width = 2 * config.model.width
  trainer = supervised.make(config, models.make(**config.model))
  target = jax.eval_shape(
    trainer.init, jax.random.key(0), {'sharp': jnp.zeros((1, 16, 16, 3), jnp.float32)}
  )
  with (
    Checkpoints(finished / 'checkpoints') as checkpoints,
    pytest.raises(DoesNotFit, match='intro'),
  ):
    checkpoints.restore(target)


def diverging(**changes):
  """Steps of SRCNN whose learning rate no parameters survive."""
  config = srcnn.get_config('smoke')
  config.steps, config.save_every, config.evaluate_every = 400, 2, 400
  config.optim.update({'learning_rate': 1e18, 'warmup': 0, 'clip': 0.0, 'schedule': 'constant'})
  config.update_from_flattened_dict(changes)
  return config


def saved_params(workdir: pathlib.Path, config) -> list:
  """The parameters of every checkpoint."""
  trainer = supervised.make(config, models.make(**config.model))
  target = jax.eval_shape(
    trainer.init, jax.random.key(0), {'sharp': jnp.zeros((1, 16, 16, 3), jnp.float32)}
  )
  with Checkpoints(workdir / 'checkpoints') as checkpoints:
    step = checkpoints.latest()
    return [] if step is None else jax.tree.leaves(checkpoints.restore(target).params)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(tmp_path):
  with pytest.raises(
    train.Diverged,
    match=r'(loss|gradient norm) is (nan|inf) at step \d+, learning rate 1e\+18, bat',
  ):
    train.train(diverging(), tmp_path)
  for leaf in saved_params(tmp_path, diverging()):
    assert np.isfinite(leaf).all()


@pytest.mark.parametrize('broken', ['gradient_norm', 'params', 'ema'])
def test_what_is_not_finite_is_never_saved(tmp_path, monkeypatch, broken):
  config = diverging(**{'optim.learning_rate': 1e-6, 'steps': 8, 'ema': 0.9, 'evaluate_every': 8})
  make = supervised.make

  def breaking(config, model):
    """A trainer whose loss stays a number, while something else breaks at step 5."""
    trainer = make(config, model)

    def step(state, batch):
      factor = jnp.where(state.step == 4, jnp.inf, 1.0)
      state, metrics = trainer.step(state, batch)
      if broken == 'gradient_norm':
        return state, metrics | {broken: metrics[broken] * factor}
      first, *others = jax.tree.leaves(getattr(state, broken))
      tree = jax.tree.unflatten(jax.tree.structure(state.params), [first * factor, *others])
      return state.replace(**{broken: tree}), metrics

    return trainer._replace(step=step)

  monkeypatch.setitem(TRAINERS, 'supervised', breaking)
  with pytest.raises(train.Diverged, match='the checkpoint of step 4 is intact; lower'):
    train.train(config, tmp_path)
  monkeypatch.undo()
  assert runs.read(tmp_path)['sessions'][0]['step'] == 4
  for leaf in saved_params(tmp_path, config):
    assert np.isfinite(leaf).all()


def test_a_full_disk_is_reported_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
  usage = shutil.disk_usage(tmp_path)
  free = iter([4000, 3999])
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage._replace(free=next(free)))
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {'params': {'scale': jnp.ones(1000)}})
    with pytest.raises(DiskFull, match=r'no space left .* run the same command'):
      checkpoints.save(2, {'params': {'scale': jnp.zeros(1000)}})
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest() == 1
    state = checkpoints.restore({'params': {'scale': jnp.zeros(1000)}})
    assert state['params']['scale'].sum() == 1000


def test_checkpoints_are_sealed_apart_from_training(tmp_path, monkeypatch):
  threads, digests = set(), checkpoints_file._digests

  def reading(folder):
    threads.add(threading.current_thread().name)
    return digests(folder)

  monkeypatch.setattr(checkpoints_file, '_digests', reading)
  with Checkpoints(tmp_path) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, {'params': {'scale': jnp.arange(1000.0)}}, {'psnr': 30.0 - step})
  assert threads == {'seal_0'}
  sealed = {path.parent.name for path in tmp_path.glob('*/sha256.json')}
  assert sealed == {'1', '3'}  # the best and the newest


def test_a_checkpoint_that_has_changed_is_reported(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    for step, psnr in ((1, 30.0), (2, 20.0)):
      checkpoints.save(step, {'params': {'scale': jnp.arange(1000.0) + step}}, {'psnr': psnr})
  target = {'params': {'scale': jnp.zeros(1000)}}
  largest = max((tmp_path / '2').rglob('d/*'), key=lambda path: path.stat().st_size)
  whole = largest.read_bytes()
  for torn in (whole[:-9] + b'x' + whole[-8:], b'', None):
    largest.unlink() if torn is None else largest.write_bytes(torn)
    with (
      Checkpoints(tmp_path) as checkpoints,
      pytest.raises(Damaged, match=rf'2: .*{largest.name} is missing or has changed.* from step 1'),
    ):
      checkpoints.restore(target)
  shutil.rmtree(tmp_path / '2')
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore(target)['params']['scale'][0] == 1


@pytest.mark.slow
def test_two_stages_go_on_within_either(tmp_path, monkeypatch, capsys):
  config = dbgan.get_config('smoke')
  config.steps = config.before.steps = 3
  config.evaluate = config.before.evaluate = {}
  step = writers.Writer.step
  asked = [1, 1]  # by a scheduler: in the first stage, then in the second

  def interrupt(writer, number):
    step(writer, number)
    if asked and number == asked[0]:
      asked.pop(0)
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(writers.Writer, 'step', interrupt)
  for stage in (tmp_path / 'bgan', tmp_path):
    with pytest.raises(train.Stopped, match='stopped at step 1 and saved'):
      train.train(config.copy_and_resolve_references(), tmp_path)
    with Checkpoints(stage / 'checkpoints') as checkpoints:
      assert checkpoints.latest() == 1
  train.train(config, tmp_path)
  assert capsys.readouterr().out.count('resuming from step') == 3  # the first twice
  for name, folder in (('bgan', tmp_path / 'bgan'), ('dbgan', tmp_path)):
    assert weights.read(folder / 'weights.safetensors')[1]['network'] == name
    steps = [line['step'] for line in writers.read_metrics(folder) if 'loss' in line]
    assert steps[-1] == 3


def test_what_is_wrong_with_the_second_stage_is_reported_before_the_first(tmp_path):
  config = dbgan.get_config('smoke')
  config.data.source = 'sharp'
  with pytest.raises(ValueError, match="'sharp' requires a directory"):
    train.train(config, tmp_path)
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize('phases', [(), ((2, 'crop(16)', 4), (2, 'crop(32)', 3))])
def test_parts_that_do_not_divide_a_batch_are_reported(phases):
  config = srcnn.get_config('smoke')
  config.batch_size, config.accumulate, config.data.phases = 3, 2, phases
  with pytest.raises(ValueError, match='accumulate 2 does not divide a batch of 3 pictures'):
    supervised.make(config, models.make(**config.model))


def test_pictures_that_cannot_be_trained_on_are_named(tmp_path):
  for folder in ('blur', 'sharp'):
    for number in range(3):
      path = tmp_path / 'data' / folder / f'{number}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      shade = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
      Image.fromarray(shade).save(path)
  config = nafnet.get_config('pairs')
  config.data.directory = str(tmp_path / 'data')
  whole = path.read_bytes()
  path.write_bytes(whole[:2000])
  with pytest.raises(ValueError, match=r'sharp/2\.png.*truncated'):
    train.train(config, tmp_path / 'run')
  Image.fromarray(shade[:, :60]).save(path)
  with pytest.raises(ValueError, match=r'blur/2\.png: 64x48 .*sharp/2\.png has 60x48'):
    train.train(config, tmp_path / 'run')


WRONG_USE = [
  # flags; what the error says
  (['--config=configs/nafnet.py:smoke', '--config.model.widht=4'], 'width'),
  (['--config=configs/nafnet.py:nothing'], 'known: builtin'),
  (['--config=configs/nafnet.py:smoke', '--config.batch_size=6'], 'multiple of 4'),
  (['--config=configs/nafnet.py:smoke', '--config.blur=shak(3..5)'], 'did you mean shake'),
  (['--config=configs/nafnet.py:smoke', '--config.data.source=pairs'], 'data.directory'),
  (['--config=configs/nafnet.py:laptop_gopro'], 'tools/prepare.py gopro'),
  (['--config=configs/nafnet.py:smoke', '--config.start=mobile'], ' more (--verbosity=1 shows'),
]
# Runs `python -m deblur_jax.main ARGUMENTS > OUTPUT` for each line of standard input and prints the
# exit code. Importing takes longer than all of them, so it is done once.
PROGRAMS = """
import os, runpy, shlex, sys
from deblur_jax import train, zoo
from deblur_jax.evaluation import figures, restoration
for line in sys.stdin:
  output, *arguments = shlex.split(line)
  child = os.fork()
  if not child:
    with open(output, 'w') as file:
      os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
    sys.argv = ['main', *arguments]
    runpy.run_module('deblur_jax.main', run_name='__main__', alter_sys=True)
    os._exit(0)
  print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope='module')
def wrong_use(tmp_path_factory):
  """(exit code, output, run folder) for each of `WRONG_USE`."""
  folder = tmp_path_factory.mktemp('wrong')
  lines = [
    shlex.join([f'{folder}/{number}.txt', *flags, f'--workdir={folder}/{number}'])
    for number, (flags, _) in enumerate(WRONG_USE)
  ]
  done = subprocess.run(
    [sys.executable, '-c', PROGRAMS],
    input='\n'.join(lines),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    env={**os.environ, 'JAX_NUM_CPU_DEVICES': '4', 'TFDS_DATA_DIR': str(folder)},
  )
  return [
    (int(code), (folder / f'{number}.txt').read_text(), folder / str(number))
    for number, code in enumerate(done.stdout.split())
  ]


@pytest.mark.parametrize('number', range(len(WRONG_USE)))
def test_wrong_use_gets_one_line_and_an_exit_code(wrong_use, number):
  code, text, workdir = wrong_use[number]
  assert code != 0
  assert WRONG_USE[number][1] in text and len(text.splitlines()[-1]) < 1000
  assert 'Traceback' not in text
  assert not workdir.exists()


def test_a_sharp_picture_is_blurred_anew_for_each_draw_and_the_same_in_every_run():
  source = sources.open('builtin', 'test')
  first, again = (blurred_set.Blurred(source, 'motion(3..9)', limit=1, draws=2) for _ in range(2))
  assert [first[i]['name'] for i in range(2)] == ['astronaut 1', 'astronaut 2']
  np.testing.assert_array_equal(first[0]['sharp'], first[1]['sharp'])
  assert (first[0]['blurred'] != first[1]['blurred']).mean() > 0.1
  np.testing.assert_array_equal(first[1]['blurred'], again[1]['blurred'])


def test_scores_are_those_of_the_8_bit_file():
  sharp = np.full((32, 32, 3), 100, np.uint8)
  # 3 of 255 levels off everywhere: 20 log10(255 / 3) = 38.59 dB
  plain = protocols.find('plain')
  score = protocols.score(sharp + 3, sharp, plain)
  assert score['psnr'] == pytest.approx(38.588, abs=1e-3)
  np.testing.assert_array_equal(protocols.as_uint8(np.array([-1, 0.4999, 1.2])), [0, 127, 255])


class Untouched(nn.Module):
  """Gives its input back."""

  @nn.compact
  def __call__(self, blurred, *, train=False):
    return {'restored': blurred + self.param('offset', nn.initializers.zeros, (1, 1, 1, 1))}


def test_every_scale_and_stage_is_judged_by_its_own_target():
  sharp = jnp.arange(2 * 16 * 16 * 3, dtype=jnp.float32).reshape(2, 16, 16, 3)
  model = models.make('deepdeblur', 'smoke', downscale='mean', n_scales=2)
  scales = jnp.zeros((2, 16, 16, 3)), jnp.zeros((2, 8, 8, 3))
  judged = supervised.supervised(model, {'restored': scales[0], 'scales': scales}, sharp)
  means = sharp.reshape(2, 8, 2, 8, 2, 3).mean((2, 4))
  for (found, target), scale, expected in zip(judged, scales, (sharp, means), strict=True):
    assert found is scale
    np.testing.assert_allclose(target, expected, rtol=1e-6)
  stages = jnp.ones((2, 16, 16, 3)), scales[0]
  judged = supervised.supervised(model, {'restored': scales[0], 'stages': stages}, sharp)
  assert [
    (found is stage, target is sharp) for (found, target), stage in zip(judged, stages, strict=True)
  ] == [(True, True)] * 2


def test_parts_of_a_batch_give_the_step_of_the_whole(key):
  config = srcnn.get_config('smoke')
  config.blur = 'gaussian(1.5)'
  model = models.make(**config.model)
  batch = {'sharp': np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)}
  states = []
  for parts in (1, 2):
    config.accumulate = parts
    trainer = supervised.make(config, model)
    step = jax.jit(trainer.step, compiler_options={'xla_backend_optimization_level': 0})
    states.append(step(jax.jit(trainer.init)(key, batch), batch))
  (whole, expected), (parted, found) = states
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), parted.opt_state, whole.opt_state
  )


def test_mixup_blends_pairs(key):
  config = nafnet.get_config('smoke')
  pair = np.random.default_rng(0).integers(0, 256, (2, 4, 8, 8, 3), np.uint8)
  batch = {'sharp': pair[0], 'blurred': pair[1]}
  config.mixup = 1.2
  blurred, sharp = supervised.pairing(config)(batch, key)
  x, y = (images.astype(np.float64) / 255 for images in pair)
  difference = x - np.roll(x, 1, axis=0)
  share = np.nanmedian((sharp - np.roll(x, 1, axis=0)) / np.where(difference, difference, np.nan))
  assert 0 < share < 1
  np.testing.assert_allclose(sharp, share * x + (1 - share) * np.roll(x, 1, axis=0), atol=1e-5)
  np.testing.assert_allclose(blurred, share * y + (1 - share) * np.roll(y, 1, axis=0), atol=1e-5)


def test_in_a_mixture_only_sharp_pictures_are_blurred(key):
  config = nafnet.get_config('smoke')
  config.blur = 'gaussian(2)'
  trainer = supervised.make(config, Untouched())
  sharp = jax.random.uniform(key, (2, 32, 32, 3))
  batch = {'sharp': sharp, 'blurred': sharp}
  state, step = trainer.init(key, batch), jax.jit(trainer.step)
  psnr = [
    float(step(state, batch | {'paired': jnp.array(paired)})[1]['psnr'])
    for paired in ([True, True], [False, False])
  ]
  assert psnr[0] == np.inf and 10 < psnr[1] < 20
