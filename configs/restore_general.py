"""Mixed real-life blur, to restore any photograph; `restore_mobile.py` is the smaller version.

  python -m deblur_jax.main --config=configs/restore_general.py      a trial, minutes on two cores

`full` trains a NAFNet on photographs and a film of high-speed frames, averaged into pairs as for
GoPro, both as file values and in linear light:

  deblur-jax blur FRAMES -o film --frames 11 --step 3 --test 0
  deblur-jax blur FRAMES -o film_gamma --frames 9 --step 3 --test 0 --response gamma
  python -m deblur_jax.main --config=configs/restore_general.py:full \
    --config.data.mixture.photos.directory=PHOTOS --config.data.mixture.film.directory=film \
    --config.data.mixture.film_gamma.directory=film_gamma

It requires an accelerator: 200,000 steps of 32 crops of 256x256.

`maxim` made the weights `general`: it fine-tunes the first stage of MAXIM's published weights on
the same blur, on real GoPro pairs, and on real blurred pictures with the output of all three stages
as target, so that it does not forget motion blur. The result is averaged with what it began as:

  deblur-jax restore GOPRO/train/*/blur/*.png -o TEACHER/train/sharp --weights maxim
  python -m deblur_jax.main --config=configs/restore_general.py:maxim --config.start=maxim \
    --config.data.mixture.photos.directory=PHOTOS --config.data.mixture.gopro.directory=GOPRO \
    --config.data.mixture.teacher.directory=TEACHER
  python tools/average_weights.py maxim RUN OUT --command ... --hardware ... --data FILE

It requires an accelerator: a step takes 0.15 s on an NVIDIA H200.
"""

from deblur_jax.configs import common

# Blur by shake, lenses, moving objects and hot air, and pictures that are already sharp, which must
# not be changed; then what a camera adds.
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


def full(variant='small'):
  config = builtin(variant)
  config.data.mixture = {
    'photos': {'source': 'sharp', 'directory': '', 'share': 0.6},
    'builtin': {'source': 'builtin', 'directory': '', 'share': 0.1},
    'film': {'source': 'pairs', 'directory': '', 'share': 0.15},
    'film_gamma': {'source': 'pairs', 'directory': '', 'share': 0.15},
  }
  config.data.ops = 'crop(256) | dihedral'
  config.batch_size = 32
  config.steps = 200_000
  config.optim.warmup = 1000
  config.ema = 0.999
  config.evaluate_every = 10_000
  config.save_every = 1000
  config.log_every = 100
  return config


def maxim():
  config = builtin()
  config.model = common.network('maxim', 's1')
  config.dtype = 'bfloat16'
  config.loss.charbonnier = 0.0
  config.loss.psnr_to_40 = 1.0
  config.data.mixture = {
    'photos': {'source': 'sharp', 'directory': '', 'share': 0.7},
    'gopro': {'source': 'pairs', 'directory': '', 'share': 0.06},
    'teacher': {'source': 'pairs', 'directory': '', 'share': 0.12},
    'builtin': {'source': 'builtin', 'directory': '', 'share': 0.1},
  }
  config.data.ops = 'match_means | crop(256) | dihedral'
  config.batch_size = 16
  config.steps = 1000
  config.optim.learning_rate = 2e-4
  config.optim.b2 = 0.99
  config.optim.warmup = 100
  config.optim.clip = 1.0
  config.ema = 0.995
  config.evaluate_every = 250
  config.save_every = 250
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('nafnet', 'smoke')
  config.blur = 'sharp or gaussian(1..2)'
  return config


def get_config(recipe=None):
  recipes = {'builtin': builtin, 'full': full, 'maxim': maxim, 'smoke': smoke}
  return common.pick(recipe, recipes)
