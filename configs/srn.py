"""SRN: a scale-recurrent network (Tao et al., CVPR 2018, arXiv:1802.01770).

  python -m deblur_jax.main --config=configs/srn.py          a small one, on two cores
  python -m deblur_jax.main --config=configs/srn.py:gopro    the authors' color network

The paper's 30.26 dB / 0.934 on the GoPro test set (quoted) is for the `lstm` network, trained on
gray crops; for the color network, the default of their code, they give no score. 524,000 steps of
sixteen 256x256 crops require an accelerator.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.model = common.network('srn', 'tiny')
  config.loss.mse = 1.0
  config.batch_size = 8
  config.steps = 2000
  config.optim.learning_rate = 4e-3
  config.optim.warmup = 50
  config.optim.clip = 0.1
  config.log_every = 100
  config.evaluate_every = 1000
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('srn')
  config.data.ops = 'crop(256)'
  config.loss.mse = 1.0
  epoch = 131  # 2103 // 16
  config.batch_size = 16
  config.steps = 4000 * epoch
  config.optim.learning_rate = 1e-4
  config.optim.schedule = 'polynomial'
  config.optim.power = 0.3
  config.optim.final = 0.0
  config.evaluate_every = 100 * epoch
  config.save_every = 10 * epoch
  config.log_every = 100
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('srn', 'smoke')
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
