"""Restormer: a transformer across channels (Zamir et al., CVPR 2022, arXiv:2111.09881).

  python -m deblur_jax.main --config=configs/restormer.py          a small one, on two cores
  python -m deblur_jax.main --config=configs/restormer.py:gopro    the whole, on GoPro

The authors reach 32.92 dB / 0.961 on the GoPro test set (quoted from the paper), on eight GPUs with
300,000 steps of patches that grow from 128 to 384 pixels while the batch shrinks from 64 to 8.
`gopro` has their steps, optimizer, rate and loss, but stays at patches of 128.
"""

from configs import common


def builtin():
  config = common.base()
  config.model = common.network('restormer', 'tiny')
  config.loss.l1 = 1.0
  config.batch_size = 4
  config.steps = 800
  config.optim.name = 'adamw'
  config.optim.learning_rate = 2e-3
  config.optim.weight_decay = 1e-4
  config.optim.warmup = 50
  config.optim.clip = 0.1
  config.log_every = 50
  config.evaluate_every = 400
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('restormer')
  config.data.ops = 'subimage(512, 256) | crop(128) | dihedral'
  config.loss.l1 = 1.0
  config.batch_size = 64
  config.steps = 300_000
  config.optim.name = 'adamw'
  config.optim.learning_rate = 3e-4
  config.optim.weight_decay = 1e-4
  config.optim.hold = 92_000
  config.optim.final = 1e-6
  config.optim.clip = 0.01
  config.evaluate_every = 20_000
  config.save_every = 2000
  config.log_every = 100
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('restormer', 'smoke')
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
