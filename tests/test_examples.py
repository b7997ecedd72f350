"""The scripts of examples/ run, with few steps on small pictures."""

import dataclasses
import pathlib
import runpy
import sys

import jax
import numpy as np
import PIL.Image
import pytest
from skimage import data

from deblur_jax import models, weights

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / 'examples'


@pytest.fixture
def run(tmp_path, monkeypatch):
  """`run(name, *arguments)` runs an example and returns width and height of its picture."""
  monkeypatch.chdir(tmp_path)

  def call(name, *arguments):
    monkeypatch.setattr(sys, 'argv', [name, *arguments])
    runpy.run_path(str(EXAMPLES / f'{name}.py'), run_name='__main__')
    with PIL.Image.open(f'{name}.webp') as picture:
      return picture.size

  return call


def test_restore_photograph(run, capsys):
  assert run('restore_photograph', '--weights=mobile', '--side=48') == (4 * 48, 48)
  scores = {
    line.split()[0]: float(line.split()[1]) for line in capsys.readouterr().out.splitlines()
  }
  assert scores['total_variation'] > scores['mobile'] > scores['blurred']


@pytest.mark.slow
def test_fine_tune(run, capsys):
  for path, corner in (('train', 0), ('test', 100)):
    pathlib.Path('pictures', path).mkdir(parents=True)
    part = data.astronaut()[corner : corner + 48, 200:248]
    PIL.Image.fromarray(part).save(f'pictures/{path}/1.png')
  model = models.make('nafnet', 'smoke')
  params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))['params']
  arguments = {
    field.name: getattr(model, field.name)
    for field in dataclasses.fields(model)
    if field.name not in ('parent', 'name', 'dtype')
  }
  weights.write('w.safetensors', params, {'network': 'nafnet', 'arguments': arguments})
  arguments = ('--weights=w.safetensors', '--steps=2', '--crop=32', '--blur=gaussian(1)')
  assert run('fine_tune', 'pictures', *arguments) == (4 * 48, 48)
  assert pathlib.Path('runs/fine_tuned/weights.safetensors').is_file()
  assert 'fine-tuned' in capsys.readouterr().out


def test_differentiable_deconvolution(run, capsys):
  assert run('differentiable_deconvolution', '--steps=6', '--side=48') == (4 * 48, 3 * 48)
  errors = [
    float(line.split()[-1]) for line in capsys.readouterr().out.splitlines() if 'step' in line
  ]
  assert errors[-1] < 0.9 * errors[0]  # a gradient that leads somewhere
