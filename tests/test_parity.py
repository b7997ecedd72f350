"""Other people's implementations of the same networks, at full published size."""

import importlib

import jax
import numpy as np
import pytest

from deblur_jax import convert, models

WHERE = "pip install 'deblur-jax[parity]'"
pytest.importorskip('spandrel', reason=WHERE)
pytest.importorskip('spandrel_extra_arches', reason=WHERE)

PEERS = {
  'nafnet': (
    'spandrel.architectures.NAFNet.NAFNet',
    {
      'width': 32,
      'enc_blk_nums': [1, 1, 1, 28],
      'middle_blk_num': 1,
      'dec_blk_nums': [1, 1, 1, 1],
    },
  ),
  'swinir': (
    'spandrel.architectures.SwinIR.SwinIR',
    {'embed_dim': 180, 'depths': [6] * 6, 'num_heads': [6] * 6, 'window_size': 8, 'mlp_ratio': 2},
  ),
  'restormer': ('spandrel_extra_arches.architectures.Restormer.Restormer', {}),
  'mprnet': (
    'spandrel_extra_arches.architectures.MPRNet.MPRNet',
    {'n_feat': 96, 'scale_unetfeats': 48, 'scale_orsnetfeats': 32},
  ),
}


def peer(name):
  """The network in torch with random weights, none of them the constant that it starts from."""
  import torch

  path, arguments = PEERS[name]
  module, _, kind = path.rpartition('.')
  torch.manual_seed(0)
  network = getattr(importlib.import_module(module), kind)(**arguments).eval()
  for key, parameter in network.named_parameters():
    if parameter.ndim < 2 or not key.endswith('weight'):
      parameter.data += 0.2 * torch.randn_like(parameter)
  return network


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:torch.meshgrid')
@pytest.mark.parametrize('name', PEERS)
def test_outputs_agree(name):
  import torch

  network = peer(name)
  model, params = convert.from_torch(name, network.state_dict())
  assert model == models.make(name)
  blurred = np.random.default_rng(0).uniform(size=(1, 48, 80, 3)).astype(np.float32)
  with torch.no_grad():
    expected = network(torch.tensor(blurred.transpose(0, 3, 1, 2)))
  quick = {'xla_backend_optimization_level': 0}  # to compile
  out = jax.jit(model.apply, compiler_options=quick)({'params': params}, blurred)
  if name == 'mprnet':  # the last stage first
    found, expected = out['stages'][::-1], expected
  else:
    found, expected = [out['restored']], [expected]
  for ours, theirs in zip(found, expected, strict=True):
    theirs = theirs.numpy().transpose(0, 2, 3, 1)
    assert np.abs(theirs - blurred).mean() > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
