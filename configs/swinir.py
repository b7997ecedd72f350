"""SwinIR: attention in shifted windows (Liang et al., ICCV workshops 2021, arXiv:2108.10257).

  python -m deblur_jax.main --config=configs/swinir.py          a small one, on two cores
  python -m deblur_jax.main --config=configs/swinir.py:gopro    the authors' recipe for denoising

Nobody has published a recipe or a score for deblurring. `gopro` is the authors' recipe for color
denoising (github.com/cszn/KAIR), applied to blurred pictures: 1,600,000 steps of eight 128x128
crops through a network of 200 GMAC per crop, which requires accelerators.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.model = common.network('swinir', 'tiny')
  config.loss.charbonnier = 1.0
  config.batch_size = 4
  config.steps = 1200
  config.optim.learning_rate = 2e-3
  config.optim.warmup = 100
  config.optim.clip = 0.1
  config.log_every = 50
  config.evaluate_every = 600
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('swinir')
  config.data.ops = 'crop(128) | dihedral'
  config.loss.charbonnier = 1.0
  config.batch_size = 8
  config.steps = 1_600_000
  config.optim.learning_rate = 2e-4
  config.optim.schedule = 'step'
  config.optim.boundaries = (800_000, 1_200_000, 1_400_000, 1_500_000)
  config.ema = 0.999
  config.evaluate_every = 50_000
  config.save_every = 5000
  config.log_every = 200
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('swinir', 'smoke')
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
