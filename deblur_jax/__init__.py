"""Image deblurring in JAX and Flax: `deblur_jax.load(weights)(image)` restores a numpy image."""

import importlib
import importlib.metadata
from typing import Any

__all__ = ['__version__', 'load']


def __getattr__(name: str) -> Any:
  # On first use (PEP 562), so that `import deblur_jax` stays light.
  if name == 'load':
    return importlib.import_module('deblur_jax.restore').load
  if name == '__version__':
    return importlib.metadata.version('deblur-jax')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
