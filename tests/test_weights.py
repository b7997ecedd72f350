"""Weights files: what goes in comes out, and nothing else does."""

import json
import struct

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from deblur_jax import models, weights, zoo


@pytest.fixture
def params():
  rng = np.random.default_rng(0)
  return {
    'encoder': {
      'conv': {
        'kernel': rng.normal(size=(3, 3, 2, 4)).astype(np.float32).transpose(1, 0, 2, 3),
        'bias': rng.normal(size=4).astype(np.float32),
      }
    },
    'beta': np.float32(0.25),
    'steps': np.arange(3, dtype=np.int32),
    'count': np.arange(2, dtype=np.uint32),
  }


MANIFEST = {'network': 'srcnn', 'arguments': {'kernel_sizes': [9, 1, 5]}, 'psnr': 31.5}


def test_round_trip(tmp_path, params):
  weights.write(tmp_path / 'w.safetensors', params, MANIFEST)
  found, manifest = weights.read(tmp_path / 'w.safetensors')
  assert len(manifest.pop('sha256')) == 64
  assert manifest == MANIFEST
  np.testing.assert_array_equal(
    found['encoder']['conv']['kernel'], params['encoder']['conv']['kernel']
  )
  np.testing.assert_array_equal(found['encoder']['conv']['bias'], params['encoder']['conv']['bias'])
  assert found['beta'].shape == () and found['beta'] == 0.25
  assert found['steps'].dtype == np.int32
  assert set(found) == set(params)
  assert [path.name for path in tmp_path.iterdir()] == ['w.safetensors']


def test_any_reader_of_safetensors_can_read_it(tmp_path, params):
  weights.write(tmp_path / 'w.safetensors', params, MANIFEST)
  tensors = safetensors.numpy.load_file(tmp_path / 'w.safetensors')
  assert set(tensors) == {'encoder/conv/kernel', 'encoder/conv/bias', 'beta', 'steps', 'count'}
  np.testing.assert_array_equal(tensors['encoder/conv/kernel'], params['encoder']['conv']['kernel'])


@pytest.mark.parametrize('dtype,kind', [('float16', np.float16), ('bfloat16', ml_dtypes.bfloat16)])
def test_half_precision_saves_space_and_reads_as_float32(tmp_path, params, dtype, kind):
  weights.write(tmp_path / 'full', params, MANIFEST)
  weights.write(tmp_path / 'half', params, MANIFEST, dtype=dtype)
  found, _ = weights.read(tmp_path / 'half')
  kernel = params['encoder']['conv']['kernel']
  assert found['encoder']['conv']['kernel'].dtype == np.float32
  np.testing.assert_array_equal(found['encoder']['conv']['kernel'], kernel.astype(kind))
  assert found['steps'].dtype == np.int32
  saved = (tmp_path / 'full').stat().st_size - (tmp_path / 'half').stat().st_size
  assert saved >= 2 * (kernel.size + 4)


def test_numpy_scalars_in_the_manifest_become_numbers(tmp_path, params):
  weights.write(tmp_path / 'w', params, {'psnr': np.float32(0.5), 'step': np.int64(7)})
  _, manifest = weights.read(tmp_path / 'w')
  assert (manifest['psnr'], manifest['step']) == (0.5, 7)


def test_a_flipped_bit_anywhere_is_noticed(tmp_path, params):
  path = tmp_path / 'w.safetensors'
  weights.write(path, params, MANIFEST)
  sound = path.read_bytes()
  for at in range(len(sound)):
    path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
    with pytest.raises(weights.WeightsError) as error:
      weights.read(path)
    assert '\n' not in str(error.value) and str(path) in str(error.value)


def test_a_damaged_file_is_reported(tmp_path, params):
  path = tmp_path / 'w.safetensors'
  weights.write(path, params, MANIFEST)
  sound = path.read_bytes()
  path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
  with pytest.raises(weights.WeightsError, match='damaged'):
    weights.read(path)
  path.write_bytes(sound[: len(sound) * 3 // 4])
  with pytest.raises(weights.WeightsError, match='damaged'):
    weights.read(path)


@pytest.mark.parametrize('content', [b'', b'x', b'hello, world' * 9, struct.pack('<Q', 2**60)])
def test_other_files_are_rejected(tmp_path, content):
  (tmp_path / 'w').write_bytes(content)
  with pytest.raises(weights.WeightsError, match='not a safetensors file'):
    weights.read(tmp_path / 'w')


def test_weights_without_manifest_and_missing_ones(tmp_path):
  safetensors.numpy.save_file({'a': np.zeros(2)}, tmp_path / 'w', {'format': 'pt'})
  with pytest.raises(weights.WeightsError, match='no deblur_jax manifest'):
    weights.read(tmp_path / 'w')
  with pytest.raises(FileNotFoundError, match='no such weights file'):
    weights.read(tmp_path / 'none')


def test_a_failed_write_leaves_what_was_there(tmp_path, params, monkeypatch):
  path = tmp_path / 'w.safetensors'
  weights.write(path, params, MANIFEST)
  before = path.read_bytes()

  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(weights.os, 'fsync', full)
  with pytest.raises(OSError, match='No space'):
    weights.write(path, {'other': np.zeros(5)}, MANIFEST)
  assert path.read_bytes() == before
  assert list(tmp_path.iterdir()) == [path]


def test_wrong_use(tmp_path, params):
  with pytest.raises(ValueError, match='float8'):
    weights.write(tmp_path / 'w', params, MANIFEST, dtype='float8')
  with pytest.raises(TypeError):
    weights.write(tmp_path / 'w', params, {'function': json.dumps})
  assert not list(tmp_path.iterdir())


def test_a_loaded_network_can_be_part_of_a_larger_jit(tmp_path):
  path = tmp_path / 'w.safetensors'
  model = models.make('srcnn')
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))['params']
  weights.write(path, params, {'network': 'srcnn', 'arguments': {}})
  images = np.random.default_rng(0).uniform(size=(1, 16, 16, 3)).astype(np.float32)
  restore = zoo.load(path).restore
  np.testing.assert_allclose(jax.jit(restore)(images), restore(images), atol=1e-6)
