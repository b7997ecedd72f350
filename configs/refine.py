"""Predict and refine: samples of what a frozen restorer leaves out (models/refine.py).

  python -m deblur_jax.main --config=configs/refine.py            on `mobile`, on two cores
  python -m deblur_jax.main --config=configs/refine.py:general    on `general`; slow without a GPU
  python -m deblur_jax.main --config=configs/refine.py:gopro      on `general` and GoPro

--config.first names the restorer's weights; they are part of the weights that the run writes.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.trainer = 'generative'
  config.model = common.network('refine', 'tiny')
  config.first = 'mobile'
  config.loss.mse = 1.0
  config.batch_size = 8
  config.steps = 1200
  config.optim.learning_rate = 2e-3
  config.optim.warmup = 50
  config.optim.clip = 1.0
  config.ema = 0.99
  config.log_every = 50
  config.evaluate_every = 600
  return config


def general():
  config = builtin()
  config.model = common.network('refine')
  config.first = 'general'
  return config


def gopro():
  config = common.on(general(), 'gopro/blur')
  config.data.ops = 'crop(256) | dihedral'
  config.batch_size = 32
  config.steps = 200_000
  config.optim.learning_rate = 1e-3
  config.optim.final = 1e-7
  config.ema = 0.9999
  config.evaluate_every = 20_000
  config.save_every = 2000
  config.log_every = 100
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('refine', 'smoke')
  config.model.restorer = (('name', 'nafnet'), ('variant', 'mobile'))
  config.model.steps = 2
  return config


def get_config(recipe=None):
  recipes = {'builtin': builtin, 'general': general, 'gopro': gopro, 'smoke': smoke}
  return common.pick(recipe, recipes)
