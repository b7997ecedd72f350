"""DBCNN: an SRCNN with back-projection (after Haris et al., CVPR 2018, arXiv:1803.02735).

  python -m deblur_jax.main --config=configs/dbcnn.py           on two cores
  python -m deblur_jax.main --config=configs/dbcnn.py:gopro     40 epochs of 224x224 crops of GoPro

Designed for mild blur. There is no published recipe or score; `gopro` trains it as
`configs/srcnn.py` trains the network that it starts with.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.model = common.network('dbcnn')
  config.loss.mse = 1.0
  config.batch_size = 8
  config.steps = 1200
  config.optim.learning_rate = 3e-3
  config.optim.warmup = 100
  config.optim.clip = 0.1
  config.log_every = 100
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('dbcnn')
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
  config = common.smoke(builtin())
  config.model = common.network('dbcnn', 'smoke')
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
