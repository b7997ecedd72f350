"""MPRNet: multi-stage progressive restoration (Zamir et al., CVPR 2021, arXiv:2102.02808).

  python -m deblur_jax.main --config=configs/mprnet.py          a small one, minutes on two cores
  python -m deblur_jax.main --config=configs/mprnet.py:gopro    the published recipe

`gopro` should reach 32.66 dB / 0.959 on the GoPro test set (quoted from the paper) and requires
accelerators: 396,000 steps of sixteen 256x256 crops through a 760 GMAC network.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.model = common.network('mprnet', 'tiny')
  config.loss.charbonnier = 1.0
  config.loss.edge = 0.05
  config.batch_size = 8
  config.steps = 600
  config.optim.learning_rate = 4e-3
  config.optim.warmup = 50
  config.optim.clip = 1.0
  config.log_every = 50
  config.evaluate_every = 300
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('mprnet')
  config.data.ops = 'crop(256) | dihedral_mprnet | saturation(0.8..1.2, p=0.333)'
  config.loss.charbonnier = 1.0
  config.loss.edge = 0.05
  epoch = 132  # ceil(2103 / 16)
  config.batch_size = 16
  config.steps = 3000 * epoch
  config.optim.learning_rate = 2e-4
  config.optim.warmup = 3 * epoch
  config.optim.final = 1e-6
  config.optim.stair = epoch
  config.evaluate_every = 20 * epoch
  config.save_every = epoch
  config.log_every = 100
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('mprnet', 'smoke')
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
