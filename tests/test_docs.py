"""Every code block of README, CONTRIBUTING and docs/ runs, or at least is something that would.

Python blocks run, those of a page one after the other in an empty folder with a few small pictures.
Shell blocks are read by the parsers of the commands; cheap commands of `deblur-jax` run. A block
after `<!-- needs: ... -->` requires data or an accelerator: its Python is compiled only.
"""

import copy
import importlib
import itertools
import pathlib
import re
import shlex
import shutil
import sys
import tomllib

from absl import flags
import jax.numpy as jnp
from ml_collections import config_flags
import PIL.Image
import pytest
from skimage import data
import test_house

from deblur_jax import benchmark, cli, losses, main, methods, metrics, models, spec
from deblur_jax.blur import synthesis
from deblur_jax.cli.parser import Parser
from deblur_jax.data import ops

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
BLOCK = re.compile(r'(?:<!-- needs: ([^\n]+) -->\n)?^```(\w*)[^\n]*\n(.*?)^```', re.M | re.S)
FILE = re.compile(r'^```python title="(my_\w+)\.py"\n(.*?)^```', re.M | re.S)

OTHER_PROGRAMS = {
  '.',
  'cd',
  'curl',
  'git',
  'mkdocs',
  'pip',
  'pre-commit',
  'pyright',
  'ruff',
  'sbatch',
}
"""Programs of other people, whose arguments are theirs to check."""


def blocks(language):
  """(page, number, what it needs, text) of every block in a language."""
  found = []
  for page in PAGES:
    for number, (needs, name, text) in enumerate(BLOCK.findall(page.read_text())):
      if name == language:
        found.append((page, number, needs, text))
  return found


def commands():
  """(place, what it needs, words) of every command in a shell block."""
  found = []
  for page, number, needs, text in blocks('bash'):
    for line in text.replace('\\\n', ' ').splitlines():
      words = shlex.shlex(line, posix=True, punctuation_chars='&|;<>')
      words.whitespace_split = True
      before = ''
      for separator, command in itertools.groupby(words, lambda word: set(word) <= set('&|;<>')):
        command = list(command)
        while re.fullmatch(r'[A-Z_]+=.*', command[0]):  # environment variables
          del command[0]
        if not separator and not set(before) & set('<>'):  # after those, it is a file
          found.append((f'{page.name}:{number}', needs, command))
        before = command[0]
  return found


COMMANDS = commands()
CHEAP = [
  words
  for _, needs, words in COMMANDS
  if not needs and words[0] == 'deblur-jax' and words[1:2] in (['restore'], ['models'], ['doctor'])
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """An empty current folder but for the files that the pages speak of, 48 pixels a side."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(methods, 'DEFAULT', 'mobile')  # `general` takes ten times as long to compile
  image = PIL.Image.fromarray(data.astronaut()[20:68, 200:248])
  for name in ('photo.jpg', 'shaken.jpg', 'soft.jpg', 'scan.tif', 'holiday/1.jpg', 'holiday/2.jpg'):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    image.save(path)
  PIL.Image.new('L', (48, 48), 255).save('mask.png')
  for split, number in (('train', 1), ('train', 2), ('test', 3)):
    path = tmp_path / 'my_pictures' / split / f'{number}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
  return tmp_path


@pytest.fixture
def extension(folder, monkeypatch):
  """The files of docs/extending.md, importable; gone after the test."""
  files = dict(FILE.findall((ROOT / 'docs' / 'extending.md').read_text()))
  for name, text in files.items():
    (folder / f'{name}.py').write_text(text)
  monkeypatch.syspath_prepend(folder)
  yield
  for name in files:
    sys.modules.pop(name, None)


def read_config(words):
  """The config of `python -m deblur_jax.main WORDS`; raises for flags that do not exist."""
  values = flags.FlagValues()
  config_flags.DEFINE_config_file('config', lock_config=True, flag_values=values)
  for name in flags.FLAGS.flags_by_module_dict()['deblur_jax.main']:
    if name.name != 'config':
      values[name.name] = copy.deepcopy(name)
  arguments = ['main', *map(main._with_file, words)]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, 'argv', arguments)  # where ml_collections looks for settings
    assert values(arguments) == ['main']
  return values['config'].value


def check_main(words):
  """Raises if the flags do not exist, or the config's parts do not."""
  config = read_config(words)
  models.make(**config.model, dtype=jnp.dtype(config.dtype))
  synthesis.parse(config.blur)
  losses.parse(config.more_loss)
  ops.parse(config.data.ops)
  for settings in config.evaluate.values():
    metrics.parse(settings['metrics'])
    synthesis.parse(settings['blur'])


def check_pip(words):
  """Raises for an extra that does not exist."""
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  groups = [group for word in words for group in re.findall(r'\[(.*)\]', word)]
  extras = {extra for group in groups for extra in group.split(',')}
  assert extras <= project['optional-dependencies'].keys()


def check_tool(words):
  """Raises for a tool that does not exist, or options that its text does not have."""
  path = ROOT / words[0]
  assert path.is_file(), words[0]
  options = {word.partition('=')[0] for word in words[1:] if word.startswith('--')}
  if path.name == 'ray_serve.py':
    text = path.read_text() + (ROOT / 'deblur_jax/cli/serve.py').read_text()
    assert all(f"'{option}'" in text for option in options)
  elif path.parent.name == 'launch':
    check_main([word for word in words[1:] if word.startswith('--config')])
  else:
    text = path.read_text()
    assert all(f"'{option}'" in text for option in options if not option.startswith('--config'))


def check(words):
  """Raises unless a command could be given."""
  if words[:3] == ['python', '-m', 'deblur_jax.main']:
    check_main(words[3:])
  elif words[0] == 'python' and words[1] == '-m':
    assert words[2] in ('pytest', 'venv')
  elif words[0] == 'python':
    check_tool(words[1:])
  elif words[0] == 'deblur-jax':
    arguments = parse(words[1:])
    if getattr(arguments, 'mix', None):
      synthesis.parse(arguments.mix)
    if arguments.command == 'benchmark':
      benchmark.plan(arguments.methods, arguments.sets.split(','), arguments.output)
  elif words[0].startswith(('launch/', '.ci/')):
    check_tool(words)
  else:
    assert words[0] in OTHER_PROGRAMS, words[0]
    if words[0] == 'pip':
      check_pip(words)
    elif words[0] == 'sbatch':
      check_tool(next(words[i:] for i, word in enumerate(words) if word.startswith('launch/')))


def parse(words):
  """The arguments of `deblur-jax WORDS`; exits for wrong ones."""
  parser = Parser(prog='deblur-jax')
  parser.add_argument('--version', action='store_true')
  kinds = parser.add_subparsers(dest='command')
  for command in cli.COMMANDS:
    command.add(kinds)
  return parser.parse(words)


def test_there_are_blocks():
  assert len(COMMANDS) > 40 and len(blocks('python')) > 10 and len(CHEAP) > 10


# ml_collections loads configs in the old way.
@pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')
def test_commands_exist(extension, folder, monkeypatch):
  monkeypatch.chdir(ROOT)
  files = {'--config=my_config.py': f'--config={folder}/my_config.py'}
  for place, _, words in COMMANDS:
    words = [files.get(word, word) for word in words]
    try:
      check(words)
    except (Exception, SystemExit) as error:
      raise AssertionError(f'{place}: {shlex.join(words)}: {error}') from error


def test_cheap_commands_run(folder, capfd):
  for words in {tuple(words) for words in CHEAP}:
    for word in words:
      if word.startswith('runs/') or word.endswith('.safetensors'):
        path = pathlib.Path(
          word if word.endswith('.safetensors') else f'{word}/weights.safetensors'
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(methods.shipped()['mobile'], path)
    test = ['--dry-run'] if words[1] == 'restore' else []
    assert cli.main([*words[1:], *test]) == 0, shlex.join(words)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, folder):
  space = {'__name__': page.stem}
  for number, (needs, language, text) in enumerate(BLOCK.findall(page.read_text())):
    if language == 'python':
      code = compile(text, f'{page.name}:{number}', 'exec')
      if not needs:
        exec(code, space)


def test_extension_from_outside(extension, key):
  (_, (weight, loss)) = losses.parse('0.1*my_losses:gradients(order=2)').popitem()
  ramp = jnp.broadcast_to(
    jnp.arange(4.0)[:, None, None], (2, 4, 4, 3)
  )  # a slope of 1 along one axis
  assert weight == 0.1 and loss(ramp, 0 * ramp).tolist() == [1, 1]
  score = metrics.parse('my_metrics:worst')['worst']
  assert score(0.5 * ramp, 0 * ramp).tolist() == [1.5, 1.5]
  config = importlib.import_module('my_config').get_config()
  model = models.make(**config.model)
  assert model.features == 32 and model.needs.halo == 4
  trainer = spec.find('trainer', 'my_training:make', {})(config, model)
  sharp = jnp.full((1, 16, 16, 3), 0.5)
  state = trainer.init(key, {'sharp': sharp})
  assert trainer.predict(state, 9 * sharp).max() <= 1
  hazy = synthesis.parse('my_blur:Haze(1)')(key, sharp)
  assert jnp.allclose(hazy, 1, atol=1e-5)


def test_the_table_of_ranks_is_that_of_test_house():
  text = (ROOT / 'docs' / 'how_it_works.md').read_text()
  rows = re.findall(r'^\| (\d+) \| (.*) \|$', text, re.M)
  assert [int(rank) for rank, _ in rows] == list(range(len(test_house.RANKS)))
  assert tuple(set(re.findall(r'`(\w+)`', names)) for _, names in rows) == test_house.RANKS


def test_the_site_has_every_page():
  nav = (ROOT / 'mkdocs.yml').read_text()
  pages = [path.relative_to(ROOT / 'docs') for path in (ROOT / 'docs').rglob('*.md')]
  assert all(f' {page}\n' in nav for page in pages)
