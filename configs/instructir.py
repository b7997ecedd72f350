"""InstructIR: one network that removes what a prompt asks for (models/instructir.py).

  python -m deblur_jax.main --config=configs/instructir.py          on two cores
  python -m deblur_jax.main --config=configs/instructir.py:sharp --config.data.directory=PHOTOS
  python -m deblur_jax.main --config=configs/instructir.py:bank     PromptIR, without words

Training starts from `mobile`, which has learned to remove blur. Use what was trained so:

  deblur-jax restore photo.jpg --weights runs/instructir-builtin --prompt "remove the noise"
"""

from ml_collections import ConfigDict

from deblur_jax.configs import common

FAULTS = {
  'dark': 'gamma(1.3..2.5)',
  'motion': 'motion(3..15) or shake(5..15)',
  'defocus': 'gaussian(0.7..2) or disk(1..3)',
  'noise': 'noise(0.01..0.06)',
  'jpeg': 'jpeg(15..70)',
}
ALL = (
  'gamma(1.3..2.5) or sharp or sharp | motion(3..15) or gaussian(0.7..2) or sharp'
  ' | noise(0.01..0.06) or sharp | jpeg(15..70) or sharp'
)


def builtin():
  config = common.base()
  config.trainer = 'guided'
  config.model = common.network('instructir')
  config.first = 'mobile'
  config.faults = ConfigDict(FAULTS)
  config.fault_probability = 0.5
  config.mask_probability = 0.5
  config.loss.charbonnier = 1.0
  config.batch_size = 8
  config.steps = 4000
  config.optim.learning_rate = 1e-3
  config.optim.warmup = 100
  config.optim.clip = 1.0
  config.ema = 0.995
  config.evaluate = {'builtin': common.evaluation('builtin', blur=ALL, draws=4)}
  config.log_every = 50
  config.evaluate_every = 1000
  return config


def bank():
  config = builtin()
  config.model = common.network('instructir', 'bank')
  return config


def smoke():
  config = common.smoke(builtin())
  config.model = common.network('instructir', 'smoke')
  config.first = ''
  config.faults = ConfigDict({'defocus': 'gaussian(1..2)', 'noise': 'noise(0.05)'})
  return config


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'bank': bank, 'smoke': smoke})
