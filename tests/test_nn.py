"""Layers against torch's definitions written out by hand, and one form against the other."""

import functools

from flax import errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.nn import conv, resample
from deblur_jax.nn.attention import ChannelAttention
from deblur_jax.nn.conv import Conv, ConvTranspose, DepthwiseConv
from deblur_jax.nn.norm import InstanceNorm, LayerNorm
from deblur_jax.nn.patchgan import PatchGAN

# Compiles in a fraction of the time.
QUICKLY = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})

TRANSPOSES = [  # kernel, stride, padding, output padding
  (2, 2, 0, 0),
  (4, 2, 1, 0),
  (3, 2, 1, 1),
  (5, 2, 2, 1),
  (6, 3, 2, 1),
  (3, 1, 1, 0),
  (3, 2, 0, 0),  # sides do not just double: one form only
  (2, 3, 0, 1),  # gaps between filters: one form only
  (3, 3, 1, 2),  # pixels that do not see the one they lie on: one form only
]


def random(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def both_forms(function, *arguments):
  """Results and gradients of `function`, plain and fast."""
  weights = random(9, *jax.eval_shape(function, *arguments).shape)

  def run(*arguments):
    def weighed(*a):
      return jnp.sum(function(*a) * weights)

    everything = tuple(range(len(arguments)))
    return function(*arguments), jax.grad(weighed, everything)(*arguments)

  with conv.plain():
    plain = QUICKLY(lambda *a: run(*a))(*arguments)
  return plain, QUICKLY(lambda *a: run(*a))(*arguments)


def assert_close(found, expected, tolerance=1e-4):
  def compare(a, b):
    np.testing.assert_allclose(a, b, atol=tolerance * float(np.abs(b).max()))

  jax.tree.map(compare, found, expected)


def test_forms_are_chosen_by_context():
  assert conv.fast()
  with conv.plain():
    assert not conv.fast()
  assert conv.fast()
  with pytest.raises(KeyError), conv.plain():
    raise KeyError
  assert conv.fast()


def test_the_forms_are_different_programs():
  x, kernel = random(0, 1, 8, 8, 4), random(1, 3, 3, 1, 4)
  fast = str(jax.make_jaxpr(lambda *a: conv.depthwise_conv(*a))(x, kernel))
  with conv.plain():
    plain = str(jax.make_jaxpr(lambda *a: conv.depthwise_conv(*a))(x, kernel))
  assert 'conv_general_dilated' in plain
  assert 'conv_general_dilated' not in fast


@pytest.mark.parametrize(
  'size,stride,padding', [(1, 1, 0), (3, 1, 1), (3, 1, 0), (4, 2, 1), (2, 2, 0)]
)
def test_conv_is_the_padded_sum(size, stride, padding):
  x, kernel = random(0, 2, 6, 8, 3), random(1, size, size, 3, 5)
  padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  h, w = ((n - size) // stride + 1 for n in padded.shape[1:3])
  expected = np.zeros((2, h, w, 5))
  for i in range(h):
    for j in range(w):
      patch = padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
      expected[:, i, j] = np.einsum('bklc,klco->bo', patch, kernel)
  found = conv.conv(x, kernel, stride=stride, padding=padding)
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('size', [1, 3, 4])
def test_unpadded_forms_agree(size):
  plain, fast = both_forms(conv.conv, random(0, 2, 5, 7, 6), random(1, size, size, 6, 4))
  assert_close(fast, plain)


@pytest.mark.parametrize('size', [1, 3, 7])
def test_depthwise_forms_agree(size):
  arguments = random(0, 2, 9, 6, 5), random(1, size, size, 1, 5)
  plain, fast = both_forms(conv.depthwise_conv, *arguments)
  assert_close(fast, plain)


def test_depthwise_gradient_can_be_differentiated_again():
  x, kernel = random(0, 1, 5, 4, 2), random(1, 3, 3, 1, 2)

  def penalty(x, kernel):
    return jnp.sum(jax.grad(lambda x: jnp.sum(conv.depthwise_conv(x, kernel) ** 3))(x) ** 2)

  fast = jax.grad(penalty, (0, 1))(x, kernel)
  with conv.plain():
    plain = jax.grad(lambda *a: penalty(*a), (0, 1))(x, kernel)
  assert_close(fast, plain)


@pytest.mark.parametrize('size,stride,padding,output_padding', TRANSPOSES)
def test_conv_transpose_scatters_like_torch(size, stride, padding, output_padding):
  x, weight = random(0, 2, 3, 4, 3), random(1, 3, 5, size, size)  # torch: [i o k k]
  h, w = ((n - 1) * stride + size + output_padding for n in (3, 4))
  full = np.zeros((2, h, w, 5))
  for i in range(3):
    for j in range(4):
      rows, columns = (slice(n * stride, n * stride + size) for n in (i, j))
      full[:, rows, columns] += np.einsum('bi,iokl->bklo', x[:, i, j], weight)
  expected = full[:, padding : h - padding, padding : w - padding]

  def function(x, kernel):
    options = {'stride': stride, 'padding': padding, 'output_padding': output_padding}
    return conv.conv_transpose(x, kernel, **options)

  kernel = weight.transpose(2, 3, 0, 1)[::-1, ::-1].copy()
  plain, fast = both_forms(function, x, kernel)
  np.testing.assert_allclose(plain[0], expected, atol=1e-5)
  assert_close(fast, plain)


@pytest.mark.parametrize(
  'layer', [Conv(6, 1), Conv(6, 3), DepthwiseConv(5), ConvTranspose(6, 4, 2, padding=1)]
)
def test_forms_have_the_same_weights(layer, key):
  x = random(0, 1, 6, 8, 4)
  fast = layer.init(key, x)
  with conv.plain():
    plain = layer.init(key, x)
    expected = layer.apply(plain, x)
  jax.tree.map(np.testing.assert_array_equal, fast, plain)
  assert_close(layer.apply(fast, x), expected)


@pytest.mark.parametrize(
  'layer,fan_in',
  [(Conv(64, 3), 9 * 32), (DepthwiseConv(7), 49), (ConvTranspose(64, 4, 2, padding=1), 16 * 64)],
)
def test_layers_start_as_torchs_do(layer, fan_in, key):
  params = layer.init(key, np.zeros((1, 8, 8, 32), np.float32))['params']
  bound = fan_in**-0.5
  for leaf in params.values():
    assert np.abs(leaf).max() <= bound
    assert np.abs(leaf).max() > 0.8 * bound
  assert np.std(params['kernel']) == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.parametrize('layer', [Conv, functools.partial(ConvTranspose, stride=2)])
def test_layers_start_as_told_with_biases_at_zero(layer, key):
  layer = layer(4, kernel_size=2, kernel_init=nn.initializers.ones)
  params = layer.init(key, np.zeros((1, 4, 4, 2), np.float32))['params']
  assert params['kernel'].all() and not params['bias'].any()


def test_layers_compute_in_their_dtype(key):
  layer = Conv(4, dtype=jnp.bfloat16)
  params = layer.init(key, random(0, 1, 4, 4, 3))
  assert layer.apply(params, random(0, 1, 4, 4, 3)).dtype == jnp.bfloat16
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_depthwise_in_bfloat16_sums_in_float32():
  x, kernel = random(0, 1, 12, 12, 3), random(1, 7, 7, 1, 3)
  x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in (x, kernel))
  exact = conv.depthwise_conv(x.astype(jnp.float32), kernel.astype(jnp.float32))
  found = conv.depthwise_conv(x, kernel)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


def test_pixel_shuffle_has_torchs_order():
  x = random(0, 2, 3, 5, 2 * 9)
  found = resample.pixel_shuffle(x, 3)
  assert found.shape == (2, 9, 15, 2)
  for c, i, j in np.ndindex(2, 3, 3):
    np.testing.assert_array_equal(found[:, i::3, j::3, c], x[..., c * 9 + i * 3 + j])
  np.testing.assert_array_equal(resample.pixel_unshuffle(found, 3), x)


def test_upsample2_of_two_pixels():
  found = resample.upsample2_bilinear(jnp.asarray([0.0, 1.0]).reshape(1, 2, 1))
  assert found.shape == (2, 4, 1)
  np.testing.assert_allclose(found[..., 0], [[0, 0.25, 0.75, 1]] * 2)


@pytest.mark.parametrize('shape', [(2, 5, 7, 3), (1, 1, 6, 2), (4, 3, 2)])
def test_upsample2_is_image_resize_with_its_gradient(shape):
  *lead, h, w, c = shape
  x, weights = random(0, *shape), random(1, *lead, 2 * h, 2 * w, c)

  def peer(x):
    return jax.image.resize(x, weights.shape, 'bilinear')

  np.testing.assert_allclose(resample.upsample2_bilinear(x), peer(x), atol=1e-6)
  found = jax.grad(lambda x: jnp.sum(resample.upsample2_bilinear(x) * weights))(x)
  expected = jax.grad(lambda x: jnp.sum(peer(x) * weights))(x)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_upsample2_forms_agree():
  plain, fast = both_forms(resample.upsample2_bilinear, random(0, 2, 4, 3, 2))
  assert_close(fast, plain, 1e-6)


def test_downsample2_is_image_resize_without_antialiasing():
  x = random(0, 2, 6, 4, 3)
  expected = jax.image.resize(x, (2, 3, 2, 3), 'bilinear', antialias=False)
  np.testing.assert_allclose(resample.downsample2_bilinear(x), expected, atol=1e-6)


def test_layer_norm_by_hand(key):
  x = 3 + 2 * random(0, 2, 4, 5, 6)
  params = {'scale': random(1, 6), 'bias': random(2, 6)}
  expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1)
  found = LayerNorm(eps=0.1).apply({'params': params}, x)
  np.testing.assert_allclose(found, expected * params['scale'] + params['bias'], atol=1e-5)
  assert_close(found, nn.LayerNorm(epsilon=0.1).apply({'params': params}, x), 1e-5)


def test_instance_norm_by_hand(key):
  x = 3 + 2 * random(0, 2, 4, 5, 6)
  expected = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
  assert InstanceNorm().init(key, x) == {}
  np.testing.assert_allclose(InstanceNorm().apply({}, x), expected, atol=1e-5)
  params = {'scale': random(1, 6), 'bias': random(2, 6)}
  found = InstanceNorm(affine=True).apply({'params': params}, x)
  np.testing.assert_allclose(found, expected * params['scale'] + params['bias'], atol=1e-5)


@pytest.mark.parametrize('norm', [LayerNorm(), InstanceNorm(affine=True)])
def test_norms_keep_their_statistics_in_float32(norm, key):
  # In bfloat16 the mean of these would be off by more than their spread.
  x = jnp.asarray(100 + random(0, 1, 32, 32, 32), jnp.bfloat16)
  params = norm.init(key, x)
  found = norm.apply(params, x)
  assert found.dtype == jnp.bfloat16
  expected = norm.apply(params, x.astype(jnp.float32))
  np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.02)


def test_channel_attention_without_weights_halves(key):
  layer = ChannelAttention(2)
  x = random(0, 2, 4, 4, 6)
  params = layer.init(key, x)['params']
  shapes = jax.tree.map(jnp.shape, params)
  assert shapes == {'conv_du_0': {'kernel': (1, 1, 6, 3)}, 'conv_du_2': {'kernel': (1, 1, 3, 6)}}
  zeros = jax.tree.map(jnp.zeros_like, params)
  np.testing.assert_allclose(layer.apply({'params': zeros}, x), x / 2)


@pytest.mark.parametrize(
  'n_layers,parameters,side',
  [(3, 2_764_737, 35), (5, 11_154_369, 11)],  # the latter for whole pictures, of DeblurGAN-v2
)
def test_patchgan_has_the_published_size(n_layers, parameters, side, key):
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
  logits, state = jax.eval_shape(PatchGAN(n_layers=n_layers).init_with_output, key, image)
  assert logits.shape == (1, side, side, 1)
  assert sum(leaf.size for leaf in jax.tree.leaves(state)) == parameters


def test_layers_do_not_trace_initializers_again_to_apply_parameters():
  calls = []

  def init(key, shape, dtype=jnp.float32):
    calls.append(shape)
    return jax.random.normal(key, shape, dtype)

  layer, x = Conv(4, 3, kernel_init=init), random(0, 1, 5, 6, 2)
  variables = layer.init(jax.random.key(0), x)
  assert calls == [(3, 3, 2, 4)]
  assert layer.apply(variables, x).shape == (1, 5, 6, 4)
  assert len(calls) == 1  # Flax by itself calls it again


def test_parameters_of_another_shape_or_none_are_refused_by_name():
  layer, x = Conv(4, 3), random(0, 1, 5, 6, 2)
  params = layer.init(jax.random.key(0), x)['params']
  with pytest.raises(errors.ScopeParamShapeError, match='bias'):
    layer.apply({'params': params | {'bias': jnp.zeros(5)}}, x)
  with pytest.raises(errors.ScopeParamNotFoundError, match='bias'):
    layer.apply({'params': {'kernel': params['kernel']}}, x)
