"""Autoencoder: pictures squeezed through a bottleneck, as guides to deblurring train it.

  python -m deblur_jax.main --config=configs/autoencoder.py          without dense layers, any size
  python -m deblur_jax.main --config=configs/autoencoder.py:dense    the guides' network, 128x128
  python -m deblur_jax.main --config=configs/autoencoder.py:gopro    the guides' recipe on GoPro

There is no paper, and no published score. Expect a result below the blurred input's: what does not
fit through the bottleneck is lost. `gopro` holds out a fifth of the training pictures to validate
on, and reports Keras's accuracy on all three parts every tenth epoch. It lowers the learning rate
when the training loss plateaus; the guides use the validation loss.
"""

from deblur_jax.configs import common


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
  config.data.ops = 'resize(128, 128)'
  config.loss.mse = 1.0
  config.data.split = 'train[:80%]'
  epoch = 53  # ceil(0.8 * 2103 / 32)
  config.batch_size = 32
  config.steps = 100 * epoch
  config.optim.schedule = 'plateau'
  config.optim.factor = 0.1**0.5
  config.optim.final = 0.5e-6
  config.optim.stair = epoch
  settings = config.evaluate.gopro.to_dict() | {'protocol': 'keras', 'limit': 300}
  parts = {'validation': 'train[80%:]', 'train': 'train[:80%]', 'test': 'test'}
  config.evaluate = {part: settings | {'split': split} for part, split in parts.items()}
  for part in config.evaluate.values():
    part.directory = config.data.get_ref('directory')
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
