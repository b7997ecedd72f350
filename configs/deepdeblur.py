"""DeepDeblur: three scales, coarse to fine (Nah et al., CVPR 2017, arXiv:1612.02177).

  python -m deblur_jax.main --config=configs/deepdeblur.py          a small one, on two cores
  python -m deblur_jax.main --config=configs/deepdeblur.py:gopro    the published recipe

`gopro` trains and is scored on GoPro's gamma-corrected blur, for which the authors' PyTorch code
reports 30.40 dB / 0.902 (quoted; SSIM of scikit-image). 131,000 steps of 16 crops require an
accelerator.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.model = common.network('deepdeblur', 'tiny')
  config.loss.l1 = 1.0
  config.batch_size = 8
  config.steps = 800
  config.optim.learning_rate = 1e-3
  config.optim.warmup = 50
  config.log_every = 50
  config.evaluate_every = 400
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur_gamma')
  config.model = common.network('deepdeblur')
  config.data.ops = (
    'crop(256) | flip_horizontal | flip_vertical | transpose'
    ' | shuffle_colors | saturation_hsv(0.5..1.5) | noise_blurred(2)'
  )
  config.loss.l1 = 1.0
  epoch = 131  # 2103 // 16
  config.batch_size = 16
  config.steps = 1000 * epoch
  config.optim.learning_rate = 1e-4
  config.optim.schedule = 'step'
  config.optim.boundaries = (500 * epoch, 750 * epoch, 900 * epoch)
  config.optim.factor = 0.5
  config.evaluate_every = 50 * epoch
  config.save_every = 10 * epoch
  config.log_every = 100
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('deepdeblur', 'smoke')
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
