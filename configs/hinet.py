"""HINet: half instance normalization (Chen et al., CVPR workshops 2021, arXiv:2105.06086).

  python -m deblur_jax.main --config=configs/hinet.py                a small one, on two cores
  python -m deblur_jax.main --config=configs/hinet.py:gopro          the published recipe
  python -m deblur_jax.main --config=configs/hinet.py:three_stage    three stages, trained on L1

`gopro` should reach 32.77 dB / 0.959 on the GoPro test set (quoted from the authors' repository;
32.71 in the paper) and requires accelerators: the authors trained on eight GPUs, 400,000 steps of
64 crops. Their score is from 256x256 tiles; whole pictures give about 32.9 dB (quoted from the
authors).
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.model = common.network('hinet', 'tiny')
  config.loss.psnr = 0.5
  config.batch_size = 8
  config.steps = 600
  config.optim.learning_rate = 2e-3
  config.optim.warmup = 50
  config.optim.clip = 1.0
  config.log_every = 50
  config.evaluate_every = 300
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.model = common.network('hinet')
  config.data.ops = 'subimage(512, 256) | crop(256) | flip_horizontal | flip_vertical | transpose'
  config.loss.psnr = 0.5
  config.batch_size = 64
  config.steps = 400_000
  config.optim.learning_rate = 2e-4
  config.optim.b2 = 0.99
  config.optim.final = 1e-7
  config.optim.clip = 0.01
  config.evaluate_every = 20_000
  config.save_every = 2000
  config.log_every = 100
  return config


def three_stage():
  config = gopro()
  config.model = common.network('hinet', 'three_stage')
  config.loss.psnr = 0.0
  config.loss.l1 = 1.0
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('hinet', 'smoke')
  return config


def get_config(recipe=None):
  recipes = {'builtin': builtin, 'gopro': gopro, 'three_stage': three_stage, 'smoke': smoke}
  return common.pick(recipe, recipes)
