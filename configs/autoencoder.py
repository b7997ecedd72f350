"""Autoencoder: pictures squeezed through a narrow middle, as guides to deblurring train it.

  python -m deblur_jax.main --config=configs/autoencoder.py          without dense layers, any size
  python -m deblur_jax.main --config=configs/autoencoder.py:dense    the guides' network, 128x128
  python -m deblur_jax.main --config=configs/autoencoder.py:gopro    those and their recipe on GoPro

There is no paper, and no published figure. Expect less than doing nothing gives: what does not fit
through the middle is lost. `gopro` takes crops where the guides scale pictures down, and keeps the
learning rate where they lower it when the loss stands still.
"""

from configs import common


def builtin():
  config = common.base()
  config.model = common.network('autoencoder', 'convolutional')
  config.loss.mse = 1.0
  config.batch_size = 8
  config.steps = 1000
  config.optim.warmup = 50
  config.log_every = 50
  config.evaluate_every = 500
  return config


def dense():
  config = builtin()
  config.model = common.network('autoencoder')
  config.data.ops = 'crop(128) | dihedral'
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('autoencoder')
  config.data.ops = 'crop(128)'
  config.loss.mse = 1.0
  epoch = 66  # ceil(2103 / 32)
  config.batch_size = 32
  config.steps = 100 * epoch
  config.optim.schedule = 'constant'
  config.evaluate_every = 10 * epoch
  config.save_every = epoch
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('autoencoder', 'smoke')
  config.data.ops = 'crop(64)'
  return config


def get_config(recipe=None):
  recipes = {'builtin': builtin, 'dense': dense, 'gopro': gopro, 'smoke': smoke}
  return common.pick(recipe, recipes)
