"""BGAN: learns to blur as cameras do, from unpaired pictures (Zhang et al., CVPR 2020).

  python -m deblur_jax.main --config=configs/bgan.py             a small one, on two cores
  python -m deblur_jax.main --config=configs/bgan.py:unpaired    sharp and really blurred pictures

`unpaired` reads what `tools/prepare.py unpaired` made from a folder with sharp/ (COCO in the paper)
and blurred/ (their RWBI). The critic has the relativistic loss, which the authors call the
relativistic blur loss; they published neither code nor settings, so learning rates and weights are
ours. `--config.perceptual.weight` with a VGG-19 file adds their perceptual loss.

In `builtin` the device blurs the pictures that stand in for the camera's. The final table shows how
sharp the given pictures are ("blurred") and how sharp BGAN makes them. Train a network on its blur
with `--config.bgan=runs/bgan-unpaired/weights.safetensors` and `--config.blur=sharp`;
`configs/dbgan.py` does both in one run.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.trainer = 'unpaired'
  config.model = common.network('bgan', 'tiny')
  config.loss.l1 = 1.0
  config.critic = common.critic()
  config.critic.loss = 'relativistic'
  config.critic.weight = 0.3
  config.critic.ndf = 16
  config.critic.n_layers = 2
  config.critic.optim.learning_rate = 1e-4
  config.critic.optim.b1 = 0.5
  config.batch_size = 8
  config.steps = 400
  config.optim.learning_rate = 1e-3
  config.optim.b1 = 0.5
  config.log_every = 50
  config.evaluate = {'builtin': common.evaluation('builtin', blur='', protocol='sharpness')}
  config.evaluate_every = 200
  return config


def unpaired():
  config = builtin()
  config.model = common.network('bgan')
  config.data.source = 'unpaired'
  config.data.ops = 'crop(128) | dihedral'
  config.critic.ndf = 64
  config.critic.n_layers = 3
  config.batch_size = 16
  config.steps = 200_000
  config.optim.learning_rate = 1e-4
  config.log_every = 100
  config.evaluate_every = 5000
  config.save_every = 1000
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('bgan', 'smoke')
  config.critic.ndf = 4
  config.evaluate.builtin.protocol = 'sharpness'
  config.evaluate.builtin.blur = ''
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'unpaired': unpaired, 'smoke': smoke})
