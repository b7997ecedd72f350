"""Where compiled functions are cached; does not import jax."""

import os
import pathlib


def folder() -> pathlib.Path:
  """The cache of compiled functions: `JAX_COMPILATION_CACHE_DIR`, or one in the user's cache."""
  if given := os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    return pathlib.Path(given)
  home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(home, 'deblur_jax')
