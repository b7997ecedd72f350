"""The benchmark as its users meet it: measures, resumes, goes on after a failure, says how."""

import csv
import json
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from deblur_jax import benchmark, cli, models, weights
from deblur_jax.configs import common
from deblur_jax.data import builtin
from deblur_jax.evaluation import blurred_set, code, costs, protocols, tables

# One 1x1 convolution after another: quick to compile and to run at any size.
SMALL = {'kernel_sizes': [1, 1, 1], 'features': [8, 4], 'channels': 3}


def write_weights(path: pathlib.Path, seed: int, **arguments) -> None:
  model = models.make('srcnn', **SMALL)
  image = jnp.zeros((1, 16, 16, 3))
  params = jax.jit(model.init)(jax.random.key(seed), image)['params']
  manifest = {'network': 'srcnn', 'arguments': {**SMALL, **arguments}}
  weights.write(path, jax.device_get(params), manifest)


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  """A folder of two held-out pairs, 40x56."""
  folder = tmp_path_factory.mktemp('photos') / 'mine'
  for index in range(2):
    sharp = builtin.photograph('coffee.png')[100:140, 60 * index : 60 * index + 56]
    blurred = ((sharp.astype(np.float32) + np.roll(sharp, 2, axis=1)) / 2).astype(np.uint8)
    for kind, image in (('sharp', sharp), ('blur', blurred)):
      path = folder / 'test' / kind / f'{index}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(image).save(path)
  return folder


@pytest.fixture
def in_process(monkeypatch):
  """Jobs run in this process, where what they find is tested and not how they are started."""

  def start(command, **_):
    if command[-1] == 'device':
      return subprocess.CompletedProcess(command, 0, costs.device_name())
    return subprocess.CompletedProcess(command, benchmark._main(command[-1]))

  monkeypatch.setattr(subprocess, 'run', start)
  monkeypatch.setattr(costs, 'PATIENCE', 0.0)  # one repeat


def run(methods, sets, output) -> tuple[int, list[str]]:
  """How many parts failed, and the lines that were said."""
  said = []
  plan = benchmark.plan(list(map(str, methods)), sets, output)
  failed = benchmark.run(plan, said.append, command='deblur-jax benchmark ...')
  return failed, [line for line in said if isinstance(line, str)]


@pytest.mark.slow
def test_it_measures_resumes_and_goes_on_after_a_failure(pairs, tmp_path, capfd, request):
  run_folder = tmp_path / 'network'
  run_folder.mkdir()
  write_weights(run_folder / 'weights.safetensors', seed=0)
  # Weights that are sound but do not fit their network fail in the process that loads them.
  write_weights(tmp_path / 'broken.safetensors', seed=1, kernel_sizes=[3, 1, 1])
  methods = [tmp_path / 'broken.safetensors', run_folder, tmp_path / 'missing']
  out, sets = tmp_path / 'out', [f'pairs:{pairs}@gopro']
  failed, said = run(methods, sets, out)
  assert failed == 3  # speed and score of the one, the other as a whole
  assert any(line.startswith('missing: ') and 'no such weights' in line for line in said)
  assert 'broken: ' in capfd.readouterr().err

  results = json.loads((out / 'results.json').read_text())['mine']
  assert set(results) == {'blurred', 'network'}
  pictures = blurred_set.open_set('pairs', directory=str(pairs), protocol='gopro')
  expected = [
    protocols.score(one['blurred'], one['sharp'], protocols.find('gopro'))
    for one in (pictures[0], pictures[1])
  ]
  each = [{'picture': str(index)} | one for index, one in enumerate(expected)]
  assert results['blurred']['each'] == each
  assert results['blurred']['protocol'] == 'gopro' and results['blurred']['pictures'] == 2

  found = json.loads((out / 'costs.json').read_text())['network']
  parameters = 3 * 8 + 8 + 8 * 4 + 4 + 4 * 3 + 3
  assert found['parameters'] == parameters
  assert found['gmacs'] == pytest.approx(256 * 256 * (3 * 8 + 8 * 4 + 4 * 3) / 1e9)
  assert 0 < found['ms_256x256'] < found['ms_1280x720']
  assert found['compile_s'] > 0 and 100 < found['memory_mib'] < 20_000 and found['device']

  assert found['ms_256x256_q1'] <= found['ms_256x256'] <= found['ms_256x256_q3']

  rows = list(csv.DictReader((out / 'pictures.csv').read_text().splitlines()))
  assert [(row['method'], row['picture']) for row in rows] == [
    (method, picture) for method in ('blurred', 'network') for picture in '01'
  ]
  rows = list(csv.DictReader((out / 'benchmark.csv').read_text().splitlines()))
  assert float(rows[0]['psnr']) == pytest.approx(np.mean([one['psnr'] for one in expected]))
  assert [row['method'] for row in rows[:2]] == ['blurred', 'network']
  assert all(row['source'].startswith('quoted') for row in rows[2:])
  assert 'MPRNet' in {row['method'] for row in rows[2:]}
  markdown = (out / 'benchmark.md').read_text()
  assert 'protocol gopro' in markdown and 'deblur-jax benchmark ...' in markdown
  with Image.open(out / 'benchmark.png') as figure:
    assert figure.size[0] > 400

  before = (out / 'costs.json').read_bytes(), (out / 'results.json').read_bytes()
  failed, said = run([run_folder], sets, out)
  assert failed == 0 and len(said) == 1 and said[0].startswith('wrote benchmark.md')
  assert before == ((out / 'costs.json').read_bytes(), (out / 'results.json').read_bytes())

  request.getfixturevalue('in_process')  # a second start of the same processes tells no more
  write_weights(run_folder / 'weights.safetensors', seed=2)
  failed, said = run([run_folder], sets, out)
  assert failed == 0 and said[:2] == ['network: speed and memory', 'network: on mine']
  scores = json.loads((out / 'results.json').read_text())['mine']
  assert scores['network']['each'] != results['network']['each']
  assert scores['blurred'] == results['blurred']


def test_sets_are_named_by_folder_or_source(tmp_path):
  texts = ['builtin', f'pairs:{tmp_path}/mine@gopro', 'gopro/blur:/data', 'sharp:photos']
  sets = benchmark.plan([], texts, tmp_path, blur='motion(3..9)').sets
  assert list(sets) == ['builtin', 'mine', 'gopro/blur', 'photos']
  assert sets['builtin']['draws'] == 4 and sets['photos']['draws'] == 1
  assert sets['mine'] == {
    'source': 'pairs', 'directory': str(tmp_path / 'mine'), 'draws': 1, 'protocol': 'gopro',
    'blur': 'motion(3..9)',
  }  # fmt: skip
  assert sets['gopro/blur']['directory'] == '/data' and sets['gopro/blur']['protocol'] == ''


def test_names_that_would_collide_are_refused(tmp_path):
  with pytest.raises(ValueError, match="two methods have the name 'a'"):
    benchmark.plan(['x/a', 'y/a.safetensors'], ['builtin'], tmp_path)
  with pytest.raises(ValueError, match="two methods have the name 'blurred'"):
    benchmark.plan(['x/blurred/weights.safetensors'], ['builtin'], tmp_path)
  with pytest.raises(ValueError, match="two sets have the name 'builtin'"):
    benchmark.plan([], ['builtin', 'builtin@float'], tmp_path)


@pytest.mark.parametrize(
  'sets, told',
  [
    ('buitlin', 'did you mean builtin'),
    ('builtin@gorpo', "no protocol 'gorpo'"),
    ('pairs:/nowhere', 'no such folder'),
  ],
)
def test_wrong_sets_are_reported_in_a_line_before_any_work(sets, told, tmp_path, capsys):
  assert cli.main(['benchmark', '--sets', sets, '-o', str(tmp_path / 'out')]) == 2
  err = capsys.readouterr().err
  assert told in err and err.count('\n') == 1
  assert not (tmp_path / 'out').exists()


def test_the_builtin_set_is_that_of_the_configs(tmp_path):
  ours = blurred_set.open_set(**benchmark.plan([], ['builtin'], tmp_path).sets['builtin'])
  theirs = blurred_set.open_sets(common.base().evaluate)['builtin']
  assert len(ours) == len(theirs) and ours.protocol == theirs.protocol
  np.testing.assert_array_equal(ours[5]['blurred'], theirs[5]['blurred'])


def test_tables_of_a_benchmark_fit_80_columns(pairs, tmp_path, capsys, in_process):
  code = cli.main(['benchmark', '--sets', f'pairs:{pairs}', '-o', str(tmp_path)])
  assert code == 0
  text = capsys.readouterr().out
  assert 'mine, 2 pictures (plain: 8-bit, 2-D SSIM)' in text and 'blurred' in text
  assert max(len(line) for line in text.splitlines() if 'wrote' not in line) <= 80


def test_solvers_have_rows_where_the_psf_is_known(tmp_path, in_process):
  (tmp_path / 'mine/test').mkdir(parents=True)
  sharp = builtin.photograph('coffee.png')[100:148, 200:264]
  Image.fromarray(sharp).save(tmp_path / 'mine/test/a.png')
  out, sets = tmp_path / 'out', [f'sharp:{tmp_path / "mine"}']
  plan = benchmark.plan(['wiener'], sets, out, blur='gaussian(2)')
  assert benchmark.run(plan, lambda line: None) == 0
  costs = json.loads((out / 'costs.json').read_text())['wiener']
  assert (costs['parameters'], costs['gmacs']) == (0, 0) and costs['ms_256x256'] > 0
  scores = json.loads((out / 'results.json').read_text())['mine']
  wiener, blurred = (scores[name]['each'][0]['psnr'] for name in ('wiener', 'blurred'))
  assert wiener > blurred + 1


def test_edited_code_has_another_digest(tmp_path, monkeypatch):
  package = tmp_path / 'deblur_jax_trial'
  (package / 'solvers').mkdir(parents=True)
  files = {
    '__init__.py': '',
    'shared.py': 'import numpy\n',
    'other.py': '',
    'solvers/__init__.py': '',
    'solvers/one.py': 'from deblur_jax_trial import shared\n',
  }
  for name, text in files.items():
    (package / name).write_text(text)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(code, '_PACKAGE', 'deblur_jax_trial')

  def digest():
    return code.digest('deblur_jax_trial.solvers.one')

  first = digest()
  (package / 'other.py').write_text('y = 1\n')
  assert digest() == first
  for name in ('shared.py', 'solvers/one.py'):
    before = digest()
    (package / name).write_text(files[name] + '\nx = 1\n')
    assert digest() != before


def test_methods_go_by_the_code_that_they_use(tmp_path):
  write_weights(tmp_path / 'net.safetensors', seed=0)
  names = ('wiener', 'richardson_lucy', str(tmp_path / 'net.safetensors'))
  assert len({benchmark._source(name) for name in names}) == 3
  assert benchmark._source('wiener') == code.digest('deblur_jax.solvers.wiener')
  assert benchmark._outside('ssim | my.metrics:a | b.c:d(2)') == ['my.metrics', 'b.c']


def test_means_of_methods_are_over_the_same_pictures(tmp_path):
  each = {'blurred': [20.0, None, 30.0], 'network': [25.0, 40.0, 32.0]}
  lines = [
    tables.Line(method, {'mine': {'each': [{'picture': str(i), 'psnr': value}
                                           for i, value in enumerate(values)]}}, {})
    for method, values in each.items()
  ]  # fmt: skip
  blurred, network = benchmark._means(tmp_path, lines)
  # Picture 1 was sharp already: its PSNR counts for neither method.
  assert (blurred.scores['mine'], network.scores['mine']) == ({'psnr': 25.0}, {'psnr': 28.5})
  rows = list(csv.DictReader((tmp_path / 'pictures.csv').read_text().splitlines()))
  assert [row['psnr'] for row in rows] == ['20.0', '', '30.0', '25.0', '40.0', '32.0']
