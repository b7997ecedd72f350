"""`deblur-jax doctor`: what is installed, what there is to compute with, and whether it works."""

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
"""Packages that are worth a line if they are installed."""

HEIGHT, WIDTH, TILE = 90, 130, 40
"""Of the picture of the self test, and of its tiles."""

MISSING = 'MISSING'

AGREEMENT = 1e-4
"""By how much tiles may differ from the whole, in parts of the range."""


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
  _tell('deblur-jax', deblur_jax.__version__)
  _tell('python', f'{platform.python_version()}, {platform.system()} {platform.machine()}')
  for part in PARTS:
    _tell(part, _version(part))
  for package, name in BINARIES.items():
    if (version := _version(package)) != MISSING:
      _tell(name, version)
  cache = cached.folder()
  files = [path.stat().st_size for path in cache.rglob('*') if path.is_file()]
  _tell('compiled', f'{cache}, {len(files)} files, {sum(files) / 1e6:.1f} MB')
  _tell('free disk', f'{_free(cache)} there, {_free(pathlib.Path.cwd())} here, ' + _temporary())
  _tell('weights', ', '.join(methods.shipped()) or 'none in the package: use --weights')
  if arguments.test or arguments.device:
    return _test(arguments.device)
  missing = [part for part in PARTS if _version(part) == MISSING]
  print('To list the devices and restore a small picture: deblur-jax doctor --test')
  return 1 if missing else 0


def _test(device: str | None) -> int:
  """Prints the devices and whether the self test passes; the exit code."""
  import jax

  from deblur_jax import sharding

  values.use_device(device)
  sharding.keep_compiled()
  _tell('devices', ', '.join(f'{one.platform} ({one.device_kind})' for one in jax.devices()))
  begin = time.monotonic()
  try:
    difference = self_test()
  except Exception as error:  # Whatever is broken is to be reported.
    problem = next(iter(str(error).splitlines()), '') or type(error).__name__
    _tell('self test', f'FAILED: {problem}')
    return 1
  took = f'{time.monotonic() - begin:.1f} s'
  if difference > AGREEMENT:
    _tell('self test', f'FAILED: tiles differ from the whole by {difference:.2g} ({took})')
    return 1
  _tell('self test', f'passed in {took}; tiles differ from the whole by {difference:.1g}')
  return 0


def self_test() -> float:
  """By how much two results of a small random network differ: in tiles and whole.

  In parts of the range; takes files through all that `deblur-jax restore` does. Raises ValueError
  where a picture does not come back.
  """
  import jax
  import numpy as np
  import pyvips

  from deblur_jax import models, weights
  from deblur_jax.photos import jobs, restore
  from deblur_jax.photos.restorer import load

  model = models.make('srcnn')
  params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))['params']
  params['conv3']['bias'] += 0.5  # The results are to lie where nothing is clipped.
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
      (outcome,) = restore.restore_files(todo, load(weights_path, tile=tile)).outcomes
      if outcome.status != 'restored':
        raise ValueError(outcome.message)
      result = pyvips.Image.new_from_file(str(outcome.target)).numpy()
      if result.shape != picture.shape or not 0 < result.mean() < 2**16 - 1:
        raise ValueError('a picture did not come back as it should')
      results.append(result.astype(float) / (2**16 - 1))
  return float(np.abs(results[0] - results[1]).max())


def _tell(what: str, value: str) -> None:
  print(f'{what:<18}{value}', flush=True)


def _version(part: str) -> str:
  try:
    return importlib.metadata.version(part)
  except importlib.metadata.PackageNotFoundError:
    return MISSING


def _free(folder: pathlib.Path) -> str:
  """Free disk at a folder that may not be there yet."""
  while not folder.exists():
    folder = folder.parent
  return f'{shutil.disk_usage(folder).free / 1e9:.1f} GB'


def _temporary() -> str:
  folder = pathlib.Path(tempfile.gettempdir())
  return f'{_free(folder)} in {folder}'
