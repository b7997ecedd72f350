"""SRCNN: three convolutions (Dong et al., ECCV 2014, arXiv:1501.00092), trained to deblur.

  python -m deblur_jax.main --config=configs/srcnn.py           minutes on two cores
  python -m deblur_jax.main --config=configs/srcnn.py:gopro     40 epochs of 224x224 crops of GoPro

The paper is about super-resolution and gives no score for deblurring.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.model = common.network('srcnn')
  config.loss.mse = 1.0
  config.batch_size = 8
  config.steps = 3000
  config.optim.learning_rate = 3e-3
  config.optim.warmup = 100
  config.optim.clip = 0.1
  config.log_every = 200
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('srcnn')
  config.data.ops = 'crop(224) | flip_horizontal | flip_vertical'
  config.loss.mse = 1.0
  epoch = 132  # ceil(2103 / 16)
  config.batch_size = 16
  config.steps = 40 * epoch
  config.optim.learning_rate = 1e-3
  config.optim.schedule = 'constant'
  config.evaluate_every = 10 * epoch
  config.save_every = epoch
  return config


def smoke():
  return common.smoke(builtin())


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
