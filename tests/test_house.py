"""The house rules: imports point down only, the base install stays light, the API is documented."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import deblur_jax

ROOT = pathlib.Path(deblur_jax.__file__).parent
RANKS = (
  {'lazy'},
  {'types', 'spec', 'color', 'atomic', 'cached', 'checks', 'methods', 'heap'},
  {'formats', 'sharding', 'tiling', 'writers', 'optim', 'weights'},
  {'preemption', 'nn', 'blur', 'datasets', 'checkpoints', 'guidance'},
  {'data', 'models', 'losses', 'metrics'},
  {'exported', 'runs', 'solvers', 'trainers', 'convert', 'provenance', 'uncertainty'},
  {'evaluation', 'zoo', 'pair_making'},
  {'opening'},
  {'train', 'benchmark', 'photos', 'export', 'compress'},
  {'serve'},
  {'cli', 'main'},
)
RANK = {package: rank for rank, packages in enumerate(RANKS) for package in packages}
FILES = sorted(path for path in ROOT.rglob('*.py') if path != ROOT / '__init__.py')


def imported(tree: ast.AST) -> set[str]:
  """The parts of deblur_jax that a file imports."""
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found |= {name.name for name in node.names}
    elif isinstance(node, ast.ImportFrom):
      found |= {f'{node.module}.{name.name}' for name in node.names}
  return {name.split('.')[1] for name in found if name.startswith('deblur_jax.')}


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
  own = path.relative_to(ROOT).parts[0].removesuffix('.py')
  assert own in RANK, f'{own} has no rank'
  for other in imported(ast.parse(path.read_text())) - {own}:
    assert RANK[other] < RANK[own], f'{own} imports {other}'


def test_every_part_of_the_package_has_a_rank():
  there = {path.name.removesuffix('.py') for path in ROOT.iterdir()}
  there -= {'__init__', '__pycache__', 'py.typed', 'pretrained'}
  assert there == RANK.keys()


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_package_never_imports_configs(path):
  tree = ast.parse(path.read_text())
  names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
  names += [
    one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names
  ]
  assert not [name for name in names if name and 'configs' in name.split('.')]


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_public_is_documented(path):
  tree = ast.parse(path.read_text())
  if tree.body:
    assert ast.get_docstring(tree), 'the file'
  for node in ast.walk(tree):
    if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith('_'):
      top_level = node in tree.body
      assert not top_level or ast.get_docstring(node), node.name


def test_importing_pulls_in_neither_tensorflow_nor_torch(tmp_path):
  modules = ', '.join(
    'deblur_jax.' + str(path.relative_to(ROOT)).removesuffix('.py').replace('/', '.')
    for path in FILES
    if path.name != '__init__.py'
  )
  code = (
    f'import pathlib, sys; import {modules}\n'
    'with deblur_jax.writers.Writer(pathlib.Path(sys.argv[1]), steps=1): pass\n'
    'print(sorted({"tensorflow", "torch"} & set(sys.modules)), "tensorboardX" in sys.modules)'
  )
  command = [sys.executable, '-c', code, tmp_path]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert done.stdout.strip() == '[] True'


def test_importing_the_package_alone_does_not_start_jax():
  code = 'import sys, deblur_jax; print("jax" in sys.modules)'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == 'False'


BENT = re.compile(
  r'\b(told|of a kind|found sound|asked to leave|ails|hangs on|sees to|taken for|'
  r'makes of (it|them)|goes on from|all the same|where none|lies? (in|at|beside)|stands? beside|'
  r'best there is|no game|pieces?|there already|would else|for want of|what there is|'
  r'comes? back|came back)\b'
)


def test_plain_english():
  top = ROOT.parent
  folders = ('deblur_jax', 'configs', 'tools', 'launch', 'examples', 'docs')
  files = [path for folder in folders for path in (top / folder).rglob('*')]
  files = [path for path in files if path.suffix in ('.py', '.md', '.sh', '.sbatch')]
  found = [
    f'{path.relative_to(top)}:{number}: {match[0]}'
    for path in [*files, top / 'README.md']
    for number, line in enumerate(path.read_text().splitlines(), 1)
    if (match := BENT.search(line))
  ]
  assert not found
