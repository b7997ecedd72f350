"""Restormer: a transformer across channels (Zamir et al., CVPR 2022, arXiv:2111.09881).

  python -m deblur_jax.main --config=configs/restormer.py          a small one, on two cores
  python -m deblur_jax.main --config=configs/restormer.py:gopro    the full network, on GoPro

`gopro` should reach 32.92 dB / 0.961 on the GoPro test set (quoted from the paper): 300,000 steps,
in which patches grow from 128 to 384 pixels while the batch shrinks from 64 to 8, on eight GPUs.
"""

from deblur_jax.configs import common

# Steps, side of the patches, batch over all GPUs: as in the authors' code.
PROGRESS = (
  (92_000, 128, 64),
  (64_000, 160, 40),
  (48_000, 192, 32),
  (36_000, 256, 16),
  (36_000, 320, 8),
  (24_000, 384, 8),
)


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
  config.data.phases = tuple(
    (steps, f'subimage(512, 256) | crop(384) | crop({side}) | dihedral', batch_size)
    for steps, side, batch_size in PROGRESS
  )
  config.loss.l1 = 1.0
  config.steps = sum(steps for steps, _, _ in PROGRESS)
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
