"""NAFNet: a network without activation functions (Chen et al., ECCV 2022, arXiv:2204.04676).

  python -m deblur_jax.main --config=configs/nafnet.py              a small one, on two cores
  python -m deblur_jax.main --config=configs/nafnet.py:gopro        the published recipe, width 32
  python -m deblur_jax.main --config=configs/nafnet.py:gopro_w64    the published recipe, width 64

Expected on the GoPro test set (quoted from the authors' repository, with local statistics, which
make no difference on crops): 32.87 dB / 0.961 for width 32, 33.71 / 0.967 for width 64. The authors
trained on eight GPUs, 200,000 steps of 32 crops and 400,000 of 64.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.model = common.network('nafnet', 'tiny')
  config.loss.psnr = 1.0
  config.batch_size = 8
  config.steps = 800
  config.optim.learning_rate = 3e-3
  config.optim.warmup = 50
  config.optim.clip = 1.0
  config.log_every = 50
  config.evaluate_every = 400
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('nafnet')
  config.model.tlc = 384
  config.data.ops = 'subimage(512, 256) | crop(256) | flip_horizontal | flip_vertical | transpose'
  config.loss.psnr = 1.0
  config.batch_size = 32
  config.steps = 200_000
  config.optim.name = 'adamw'
  config.optim.learning_rate = 1e-3
  config.optim.b2 = 0.9
  config.optim.weight_decay = 1e-3
  config.optim.final = 1e-7
  config.optim.clip = 0.01
  config.evaluate_every = 20_000
  config.save_every = 2000
  config.log_every = 100
  return config


def gopro_w64():
  config = gopro()
  config.model = common.network('nafnet', 'w64')
  config.model.tlc = 384
  config.batch_size = 64
  config.steps = 400_000
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('nafnet', 'smoke')
  return config


def get_config(recipe=None):
  recipes = {'builtin': builtin, 'gopro': gopro, 'gopro_w64': gopro_w64, 'smoke': smoke}
  return common.pick(recipe, recipes)
