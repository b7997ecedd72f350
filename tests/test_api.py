"""The public names of every package: that they are there, documented and listed by `dir`."""

import importlib
import inspect
import pathlib
import subprocess
import sys
import types

import pytest

import deblur_jax

ROOT = pathlib.Path(deblur_jax.__file__).parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob('*/__init__.py'))
LIGHT = ('blur', 'data', 'datasets', 'evaluation', 'formats', 'guidance', 'nn', 'pair_making')
LIGHT += ('photos', 'serve')


@pytest.mark.parametrize('package', PACKAGES)
def test_public_names_exist_and_are_documented(package):
  module = importlib.import_module(f'deblur_jax.{package}')
  assert module.__doc__ and module.__all__ == sorted(set(module.__all__))
  for name in module.__all__:
    found = getattr(module, name)
    if isinstance(found, types.ModuleType) or (inspect.isroutine(found) or inspect.isclass(found)):
      assert found.__doc__, f'{package}.{name}'
    assert name in dir(module)


@pytest.mark.parametrize('package', LIGHT)
def test_every_module_of_a_light_package_is_public(package):
  module = importlib.import_module(f'deblur_jax.{package}')
  files = {path.stem for path in (ROOT / package).glob('*.py')} - {'__init__'}
  assert files <= set(module.__all__)
  with pytest.raises(AttributeError, match=f'deblur_jax.{package}. has no attribute .nothing'):
    module.nothing  # noqa: B018


def test_the_package_leads_to_its_parts():
  parts = {'load', 'restore', 'models', 'solvers', 'metrics', 'blur', 'losses'}
  assert parts <= set(dir(deblur_jax)) == set(deblur_jax.__all__)
  for part in parts:
    assert getattr(deblur_jax, part).__doc__
  assert deblur_jax.blur.kernels.disk(2.0, 5).shape == (5, 5)


def test_light_packages_start_neither_jax_nor_anything_of_their_own():
  imports = ', '.join(f'deblur_jax.{package}' for package in LIGHT)
  code = f'import sys, {imports}; print([n for n in sys.modules if n in ("jax", "numpy")])'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == '[]'
