"""U-Net GAN: a U-Net of residual blocks against a PatchGAN, as guides to deblurring describe it.

  python -m deblur_jax.main --config=configs/unet_gan.py          a small one, on two cores
  python -m deblur_jax.main --config=configs/unet_gan.py:gopro \\
    --config.perceptual.weights=vgg19.safetensors                 the guides' recipe

There is no paper; one guide claims 32.85 dB / 0.93 on GoPro (quoted; no source could be found).
`gopro` uses its Adam at 2e-4 (its decay of 0.9 taken as b1), batch of 16, 100 epochs, fixed size,
flips and rotations, and its adversarial, L1 and VGG-19 losses; their weights and the least-squares
loss are our choice. It trains on all of GoPro's training pairs; the guide splits 1,600 / 300 / 313.

In `builtin` L1 alone is the content loss, so that it runs without VGG-19.
"""

from deblur_jax.configs import common


def builtin():
  config = common.base()
  config.trainer = 'adversarial'
  config.model = common.network('unet_gan', 'tiny')
  config.loss.l1 = 1.0
  config.critic = common.critic()
  config.critic.loss = 'least_squares'
  config.critic.weight = 0.003
  config.critic.ndf = 16
  config.critic.optim.learning_rate = 2e-4
  config.critic.optim.b1 = 0.5
  config.batch_size = 8
  config.steps = 600
  config.optim.learning_rate = 1e-3
  config.optim.warmup = 50
  config.optim.clip = 1.0
  config.log_every = 50
  config.evaluate_every = 300
  return config


def gopro():
  config = common.on(common.base(), 'gopro/blur')
  config.trainer = 'adversarial'
  config.model = common.network('unet_gan')
  config.data.ops = 'resize(256, 256) | dihedral'
  config.loss.l1 = 1.0
  config.perceptual.weight = 0.01
  config.critic = common.critic()
  config.critic.loss = 'least_squares'
  config.critic.weight = 0.01
  for optim in (config.optim, config.critic.optim):
    optim.learning_rate = 2e-4
    optim.schedule = 'constant'
  epoch = 132  # ceil(2103 / 16)
  config.batch_size = 16
  config.steps = 100 * epoch
  config.evaluate_every = 10 * epoch
  config.save_every = epoch
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('unet_gan', 'smoke')
  config.critic.ndf = 4
  config.critic.n_layers = 2
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'gopro': gopro, 'smoke': smoke})
