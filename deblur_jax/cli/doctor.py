"""`deblur-jax doctor`: installed versions, available devices, and a self test."""

import argparse
import importlib.metadata
import pathlib
import platform
import shutil
import tempfile
import time

import deblur_jax
from deblur_jax import cached, methods
from deblur_jax.cli import values

PARTS = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'pyvips')
BINARIES = {'pyvips-binary': 'libvips', 'jax-cuda12-plugin': 'CUDA 12', 'libtpu': 'TPU'}
"""Packages that are listed only if they are installed."""

HEIGHT, WIDTH, TILE = 90, 130, 40
"""Size of the picture in the self test, and of its tiles."""

MISSING = 'MISSING'

AGREEMENT = 1e-4
"""Largest allowed difference between tiled and whole results, as a fraction of the range."""


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax doctor`."""
  parser = commands.add_parser(
    'doctor',
    help='check the installation',
    description='Prints versions, cache and free disk. With --test also lists the devices and '
    'restores a small picture with a random network; exit code 1 if that fails.',
  )
  parser.add_argument(
    '--test', action='store_true', help='list the devices and restore a small picture'
  )
  parser.add_argument('--device', choices=values.DEVICES, help='the device to test')
  parser.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
  _print('deblur-jax', deblur_jax.__version__)
  _print('python', f'{platform.python_version()}, {platform.system()} {platform.machine()}')
  for part in PARTS:
    _print(part, _version(part))
  for package, name in BINARIES.items():
    if (version := _version(package)) != MISSING:
      _print(name, version)
  cache = cached.folder()
  files = [path.stat().st_size for path in cache.rglob('*') if path.is_file()]
  _print('compiled', f'{cache}, {len(files)} files, {sum(files) / 1e6:.1f} MB')
  here = f'{_free(pathlib.Path.cwd())} in the current folder'
  _print('free disk', f'{_free(cache)} in the cache, {here}, {_temporary()}')
  _print('weights', ', '.join(methods.shipped()) or 'none in the package: use --weights')
  if arguments.test or arguments.device:
    return _test(arguments.device)
  missing = [part for part in PARTS if _version(part) == MISSING]
  print('To list the devices and restore a small picture: deblur-jax doctor --test')
  return 1 if missing else 0


def _test(device: str | None) -> int:
  """Prints the devices and whether the self test passes; returns the exit code."""
  import jax

  from deblur_jax import sharding

  values.use_device(device)
  sharding.keep_compiled()
  _print('devices', ', '.join(f'{one.platform} ({one.device_kind})' for one in jax.devices()))
  begin = time.monotonic()
  try:
    difference = self_test()
  except Exception as error:  # Any failure is reported.
    problem = next(iter(str(error).splitlines()), '') or type(error).__name__
    _print('self test', f'FAILED: {problem}')
    return 1
  took = f'{time.monotonic() - begin:.1f} s'
  if difference > AGREEMENT:
    _print('self test', f'FAILED: tiled and whole results differ by {difference:.2g} ({took})')
    return 1
  _print('self test', f'passed in {took}; tiled and whole results differ by {difference:.1g}')
  return 0


def self_test() -> float:
  """The largest difference between the tiled and the whole result of a small random network.

  As a fraction of the range; restores files exactly as `deblur-jax restore` does. Raises ValueError
  if a picture is not restored.
  """
  import jax
  import numpy as np
  import pyvips

  from deblur_jax import models, weights
  from deblur_jax.photos import jobs, restore

  model = models.make('srcnn')
  params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))['params']
  params['conv3']['bias'] += 0.5  # Keeps the results away from clipping.
  rng = np.random.default_rng(0)
  blocks = rng.integers(0, 2**16, (HEIGHT // 10, WIDTH // 10, 3), np.uint16)
  picture = blocks.repeat(10, 0).repeat(10, 1)
  results = []
  with tempfile.TemporaryDirectory() as folder:
    path, weights_path = pathlib.Path(folder, 'a.png'), pathlib.Path(folder, 'w.safetensors')
    pyvips.Image.new_from_array(picture).copy(interpretation='rgb16').pngsave(str(path))
    weights.write(weights_path, jax.device_get(params), {'network': 'srcnn', 'arguments': {}})
    for tile in (None, TILE):
      todo = jobs.plan([path], pathlib.Path(folder, str(tile)))
      (outcome,) = restore.restore_files(todo, restore.load(weights_path, tile=tile)).outcomes
      if outcome.status != 'restored':
        raise ValueError(outcome.message)
      result = pyvips.Image.new_from_file(str(outcome.target)).numpy()
      if result.shape != picture.shape or not 0 < result.mean() < 2**16 - 1:
        raise ValueError('a restored picture has the wrong size or values')
      results.append(result.astype(float) / (2**16 - 1))
  return float(np.abs(results[0] - results[1]).max())


def _print(what: str, value: str) -> None:
  print(f'{what:<18}{value}', flush=True)


def _version(part: str) -> str:
  try:
    return importlib.metadata.version(part)
  except importlib.metadata.PackageNotFoundError:
    return MISSING


def _free(folder: pathlib.Path) -> str:
  """Free disk space at a folder that may not exist yet."""
  while not folder.exists():
    folder = folder.parent
  return f'{shutil.disk_usage(folder).free / 1e9:.1f} GB'


def _temporary() -> str:
  folder = pathlib.Path(tempfile.gettempdir())
  return f'{_free(folder)} in {folder}'
