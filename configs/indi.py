"""InDI and flow matching on a time-conditioned NAFNet (models/indi.py).

  python -m deblur_jax.main --config=configs/indi.py           InDI, a small one, on two cores
  python -m deblur_jax.main --config=configs/indi.py:flow      flow matching, from it plus noise
  python -m deblur_jax.main --config=configs/indi.py:gopro     InDI on the GoPro data set

More steps make the result sharper and its PSNR lower: `--set steps=4` at restore, or
--config.model.steps=4 for the evaluations of a run.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.trainer = 'generative'
  config.model = common.network('indi', 'tiny')
  config.loss.l1 = 1.0
  config.batch_size = 8
  config.steps = 1200
  config.optim.learning_rate = 2e-3
  config.optim.warmup = 50
  config.optim.clip = 1.0
  config.ema = 0.99
  config.log_every = 50
  config.evaluate_every = 600
  return config


def flow():
  config = builtin()
  config.model.noise = 0.05
  config.model.velocity = True
  config.model.steps = 4
  config.loss.l1 = 0.0
  config.loss.mse = 1.0
  return config


def gopro():
  config = common.on(builtin(), 'gopro/blur')
  config.model = common.network('indi')
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
  config.model = common.network('indi', 'smoke')
  config.model.steps = 2
  return config


def get_config(recipe=None):
  recipes = {'builtin': builtin, 'flow': flow, 'gopro': gopro, 'smoke': smoke}
  return common.pick(recipe, recipes)
