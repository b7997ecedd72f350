"""BGAN + DBGAN: deblurring by realistic blurring (Zhang et al., CVPR 2020, arXiv:2004.01860).

  python -m deblur_jax.main --config=configs/dbgan.py            small ones, on two cores
  python -m deblur_jax.main --config=configs/dbgan.py:unpaired   sharp and really blurred pictures

First `configs/bgan.py` learns to blur (`config.before`, in the run's folder bgan/), then DBGAN
learns from the pairs that it makes, with the same losses. The authors report 31.10 dB / 0.942 on
the GoPro test set; they published neither training code nor settings, so learning rates and weights
are ours. `unpaired` requires an accelerator, a folder of sharp pictures (`--config.data.directory`)
and the output of `tools/prepare.py unpaired` (`configs/bgan.py`; `--config.before.data.directory`
if it is not in the default place); `--config.perceptual.weight` requires a VGG-19 file. The few
steps of `builtin` demonstrate the method rather than reach its goal: its results look sharper but
measure 26.44 dB, the blurred pictures 26.52.
"""

from deblur_jax.configs import bgan, common


def builtin():
  config = common.base()
  config.trainer = 'adversarial'
  config.model = common.network('dbgan', 'tiny')
  config.before = bgan.builtin()
  config.blur = 'sharp | noise(0..0.01)'  # after BGAN's blur
  config.loss.l1 = 1.0
  config.critic = common.critic()
  config.critic.loss = 'relativistic'
  config.critic.weight = 0.001
  config.critic.ndf = 16
  config.critic.n_layers = 2
  config.critic.optim.learning_rate = 4e-4
  config.batch_size = 8
  config.steps = 400
  config.optim.learning_rate = 1e-3
  config.optim.warmup = 50
  config.log_every = 50
  config.evaluate_every = 200
  return config


def unpaired():
  config = builtin()
  config.model = common.network('dbgan')
  config.before = bgan.unpaired()
  config.data.source = 'sharp'
  config.data.ops = 'crop(128) | dihedral'
  config.critic.ndf = 64
  config.critic.n_layers = 3
  config.batch_size = 16
  config.steps = 400_000
  config.optim.learning_rate = 1e-4
  config.optim.warmup = 1000
  config.critic.optim.learning_rate = 1e-4
  config.log_every = 100
  config.evaluate_every = 5000
  config.save_every = 1000
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('dbgan', 'smoke')
  config.before = bgan.smoke()
  config.critic.ndf = 4
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'unpaired': unpaired, 'smoke': smoke})
