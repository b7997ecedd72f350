"""DMPHN: a hierarchy of ever smaller patches (Zhang et al., CVPR 2019, arXiv:1904.03468).

  python -m deblur_jax.main --config=configs/dmphn.py          a small one, on two cores
  python -m deblur_jax.main --config=configs/dmphn.py:gopro    the authors' recipe for 1-2-4-8

The authors' best score, 31.20 dB / 0.940 on the GoPro test set (quoted), is for a stack of four
networks; this is one. 1,404,000 steps of six 256x256 crops require an accelerator.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.model = common.network('dmphn', 'tiny')
  config.loss.mse = 1.0
  config.batch_size = 8
  config.steps = 1500
  config.optim.learning_rate = 3e-3
  config.optim.warmup = 50
  config.optim.clip = 0.1
  config.log_every = 50
  config.evaluate_every = 750
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('dmphn')
  config.data.ops = 'crop(256)'
  config.loss.mse = 1.0
  epoch = 351  # ceil(2103 / 6)
  config.batch_size = 6
  config.steps = 4000 * epoch
  config.optim.learning_rate = 1e-4
  config.optim.schedule = 'step'
  config.optim.boundaries = (1000 * epoch, 2000 * epoch, 3000 * epoch)
  config.optim.factor = 0.1
  config.evaluate_every = 100 * epoch
  config.save_every = 10 * epoch
  config.log_every = 100
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('dmphn', 'smoke')
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
