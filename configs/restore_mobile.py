"""The smaller version of `restore_general.py`, for phones: under 2 MB as int8.

  python -m deblur_jax.main --config=configs/restore_mobile.py:full \
    --config.data.mixture.photos.directory=PHOTOS --config.data.mixture.film.directory=film \
    --config.data.mixture.film_gamma.directory=film_gamma

It uses the same data, blur and steps.
"""

from deblur_jax.configs import common, restore_general


def builtin():
  return restore_general.builtin('mobile')


def full():
  return restore_general.full('mobile')


def get_config(recipe=None):
  return common.pick(recipe, {'builtin': builtin, 'full': full, 'smoke': restore_general.smoke})
