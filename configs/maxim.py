"""MAXIM: a multi-axis MLP in stages (Tu et al., CVPR 2022, arXiv:2201.02973).

  python -m deblur_jax.main --config=configs/maxim.py              a small one, on two cores
  python -m deblur_jax.main --config=configs/maxim.py:gopro        three stages on GoPro

Expected on the GoPro test set (quoted): 32.86 dB / 0.961. The authors did not publish their
training code: loss, crops, flips, MixUp and learning rates are from the paper; the exponent of
MixUp, the batch size and the number of steps are ours.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.model = common.network('maxim', 'tiny')
  config.data.ops = 'crop(64) | dihedral'
  config.loss.charbonnier = 1.0
  config.loss.fft = 0.1
  config.batch_size = 8
  config.steps = 600
  config.optim.learning_rate = 2e-3
  config.optim.warmup = 50
  config.optim.clip = 1.0
  config.log_every = 50
  config.evaluate_every = 300
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('maxim')
  config.model.remat = True
  config.data.ops = 'crop(256) | dihedral'
  config.loss.charbonnier = 1.0
  config.loss.fft = 0.1
  config.mixup = 1.2
  config.mixup_probability = 0.5
  config.batch_size = 32
  config.steps = 300_000
  config.optim.learning_rate = 2e-4
  config.optim.final = 1e-7
  config.evaluate_every = 20_000
  config.save_every = 2000
  config.log_every = 100
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('maxim', 'smoke')
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
