"""Four CPU devices, strict JAX, the shared fixtures where they are there."""

import gc
import os
import pathlib
import shutil
import sys

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUM_CPU_DEVICES'] = '4'
# Most of a test is compiling, which takes three times as long if XLA optimizes, and as long again
# with its newer emitters. Programs that tests start inherit this.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
os.environ['XLA_FLAGS'] = (
  '--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false'
  ' --xla_cpu_parallel_codegen_split_count=1 ' + os.environ.get('XLA_FLAGS', '')
)
# Tests compile the same functions again and again, and so does the next run of the suite, which
# finds here what this one compiled. The smallest are worth it: there are thousands of them.
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  str(pathlib.Path(__file__).resolve().parents[1] / '.pytest_cache' / 'compiled'),
)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

from absl import flags
import jax
import numpy as np
import pytest

from deblur_jax import models, weights

LONGEST = 'test_models', 'test_export', 'test_training', 'test_maxim', 'test_distributed'
CACHE = pathlib.Path(__file__).resolve().parents[1] / '.pytest_cache' / 'compiled'
MOST_CACHED = 2e9  # bytes
SHARED = pathlib.Path(__file__).resolve().parents[2] / 'shared'

jax.config.update('jax_numpy_rank_promotion', 'raise')
flags.FLAGS(sys.argv[:1])


def pytest_configure(config):
  if hasattr(config, 'workerinput') or not CACHE.is_dir():
    return
  if sum(path.stat().st_size for path in CACHE.iterdir()) > MOST_CACHED:
    shutil.rmtree(CACHE)


def pytest_collection_modifyitems(items):
  # The longest files first, so that no worker is left alone with one in the end.
  items.sort(key=lambda item: (*LONGEST, item.path.stem).index(item.path.stem))
  # What is imported stays; to look through it again and again takes a twentieth of the time.
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 20, 50)


def pytest_runtest_setup(item):
  optimized = item.get_closest_marker('optimized') is not None
  jax.config.update('jax_disable_most_optimizations', not optimized)


@pytest.fixture
def key():
  return jax.random.key(0)


@pytest.fixture(scope='session')
def shared():
  """`shared(path)`: a file or folder of the fixtures beside the repository, or a skip."""

  def find(path: str) -> pathlib.Path:
    if not (SHARED / path).exists():
      pytest.skip(f'{path} is not beside this checkout')
    return SHARED / path

  return find


@pytest.fixture(scope='session')
def brighter(tmp_path_factory):
  """A weights file of an SRCNN that adds a quarter: one pixel of each kernel is 1."""
  params = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, leaf.dtype), models.shapes(models.make('srcnn'))
  )
  for layer in params.values():
    kernel = layer['kernel'] if 'kernel' in layer else layer['conv']['kernel']
    for channel in range(3):
      kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, channel, channel] = 1
  params['conv3']['bias'] += 0.25
  path = tmp_path_factory.mktemp('weights') / 'brighter.safetensors'
  manifest = {
    'network': 'srcnn',
    'arguments': {},
    'steps': 1200,
    'license': 'Apache-2.0',
    'scores': {
      'gopro': {'psnr': 31.5, 'ssim': 0.912, 'blurred': 25.64},
      'kodak/psnr': 29.123,
      'sharp/psnr': 50.2,
    },
    'blurred': {'kodak/psnr': 27.361},
  }
  weights.write(path, params, manifest)
  return str(path)
