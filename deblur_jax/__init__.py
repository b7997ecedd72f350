"""Image deblurring in JAX and Flax.

`deblur_jax.load(name)(image)` restores a numpy image `[h w]`, `[h w c]` or a batch `[b h w c]`, of
uint8, uint16 or float in [0, 1]; see `deblur_jax.restore`. `name` is that of weights that come with
the package, a run's folder or a `.safetensors` file.
"""

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
