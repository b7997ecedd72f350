"""DeblurGAN: a ResNet against a critic (Kupyn et al., CVPR 2018, arXiv:1711.07064).

  python -m deblur_jax.main --config=configs/deblurgan.py          a small one, on two cores
  python -m deblur_jax.main --config=configs/deblurgan.py:gopro \\
    --config.perceptual.weights=vgg19.safetensors                  the published recipe

`gopro` follows the authors' code: WGAN-GP with five steps of the critic to one of the generator,
and 100 times the squared difference in VGG-19's conv3_3; deblur-jax convert makes the file from
torchvision's weights. The authors report 28.7 dB on the GoPro test set; others measured 25.2 to
28.3 dB with their weights. 300 epochs at batch size 1 require an accelerator.

In `builtin` the Charbonnier loss replaces VGG-19, so that it runs without the file.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.trainer = 'adversarial'
  config.model = common.network('deblurgan', 'tiny')
  config.loss.charbonnier = 1.0
  config.critic = common.critic()
  config.critic.weight = 0.001
  config.critic.penalty = 10.0
  config.critic.ndf = 16
  config.critic.optim.learning_rate = 2e-4
  config.critic.optim.b1 = 0.5
  config.batch_size = 8
  config.steps = 600
  config.optim.learning_rate = 1e-3
  config.optim.b1 = 0.5
  config.optim.warmup = 50
  config.log_every = 50
  config.evaluate_every = 300
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.trainer = 'adversarial'
  config.model = common.network('deblurgan')
  config.data.ops = 'resize(360, 640) | crop(256) | flip_horizontal'
  config.perceptual.weight = 100.0
  config.perceptual.colors = 'signed'
  config.critic = common.critic()
  config.critic.steps = 5
  config.critic.penalty = 10.0
  config.critic.penalty_per_pixel = True
  epoch = 2103
  config.batch_size = 1
  config.steps = 300 * epoch
  for optim, steps in ((config.optim, 1), (config.critic.optim, config.critic.steps)):
    optim.learning_rate = 1e-4
    optim.b1 = 0.5
    optim.schedule = 'polynomial'
    optim.hold = 150 * epoch * steps
    optim.stair = epoch * steps
    optim.final = 0.0
  config.evaluate_every = 10 * epoch
  config.save_every = epoch
  config.log_every = 100
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('deblurgan', 'smoke')
  config.critic.ndf = 4
  config.critic.n_layers = 2
  config.critic.steps = 2
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
