"""The default for photographs: mixed real-life blur; `restore_mobile.py` is a small network for it.

  python -m deblur_jax.main --config=configs/restore_general.py      a trial, minutes on two cores

`full` fine-tunes the first stage of MAXIM's published GoPro weights, which remove motion blur, so
that it also restores defocus, Gaussian blur and noise, and leaves sharp pictures alone. It takes
photographs, blurred on the device, real GoPro pairs, and more real blurred pictures with what all
three stages make of them, so that motion is not forgotten; ten minutes on one H100:

  deblur-jax restore GOPRO/train/*/blur/*.png -o TEACHER/sharp --weights maxim
  python -m deblur_jax.main --config=configs/restore_general.py:full \
    --config.data.mixture.photos.directory=PHOTOS --config.data.mixture.gopro.directory=GOPRO \
    --config.data.mixture.teacher.directory=TEACHER
"""

from configs import common

# Blur as hands, lenses, moving things and hot air make it, and pictures that are sharp already,
# which are to come back as they came; then what a camera adds.
BLUR = (
  'sharp or gaussian(0.4..3) or disk(0.7..5) or bokeh(1..6) or motion(2..25) or shake(3..31)'
  ' or shake(3..15) or camera(3..21) or objects(4..24) or turbulence(1..2)'
  ' | poisson(0..0.01) | saturate(1..2) | sharp or jpeg(70..98)'
)


def builtin(variant='small'):
  config = common.base()
  config.model = common.network('nafnet', variant)
  config.blur = BLUR
  config.evaluate = {'builtin': common.evaluation('builtin', blur=BLUR, draws=4)}
  config.loss.charbonnier = 1.0
  config.batch_size = 8
  config.data.ops = 'crop(96) | dihedral'
  config.steps = 400
  config.optim.name = 'adamw'
  config.optim.learning_rate = 1e-3
  config.optim.b2 = 0.9
  config.optim.warmup = 50
  config.optim.final = 1e-7
  config.optim.clip = 0.1
  config.ema = 0.99
  config.log_every = 50
  return config


def full():
  config = builtin()
  config.model = common.network('maxim', 's1')
  config.dtype = 'bfloat16'
  config.loss.charbonnier = 0.0
  config.loss.psnr_to_40 = 1.0
  config.data.mixture = {
    'photos': {'source': 'sharp', 'directory': '', 'share': 0.7},
    'gopro': {'source': 'pairs', 'directory': '', 'share': 0.08},
    'teacher': {'source': 'pairs', 'directory': '', 'share': 0.12},
    'builtin': {'source': 'builtin', 'directory': '', 'share': 0.1},
  }
  config.data.ops = 'match_means | crop(256) | dihedral'
  config.batch_size = 16
  config.steps = 2500
  config.optim.learning_rate = 2e-4
  config.optim.b2 = 0.99
  config.optim.warmup = 100
  config.optim.clip = 1.0
  config.ema = 0.995
  config.evaluate_every = 100_000
  config.save_every = 500
  config.log_every = 50
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('nafnet', 'smoke')
  config.blur = 'sharp or gaussian(1..2)'
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'full': full, 'smoke': smoke})
