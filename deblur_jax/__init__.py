"""Image deblurring in JAX and Flax.

`deblur_jax.load(name)(image)` restores a NumPy image `[h w]`, `[h w c]` or a batch `[b h w c]` of
uint8, uint16 or float in [0, 1], where `name` is that of weights that come with the package, a
run's folder, a `.safetensors` file or a classical method. `deblur_jax.restore` restores files.
`blur`, `losses`, `metrics`, `models` and `solvers` are the parts that others build on.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from deblur_jax import blur, losses, metrics, models, solvers
  from deblur_jax.photos.restore import restore
  from deblur_jax.photos.restorer import load

__version__: str
__all__ = ['__version__', 'blur', 'load', 'losses', 'metrics', 'models', 'restore', 'solvers']
PHOTOS = {'load': 'restorer', 'restore': 'restore'}  # the module of each


def __getattr__(name: str) -> Any:
  # On first use (PEP 562), so that `import deblur_jax` stays light.
  if name in PHOTOS:
    return getattr(importlib.import_module(f'deblur_jax.photos.{PHOTOS[name]}'), name)
  if name == '__version__':
    return importlib.metadata.version('deblur-jax')
  if name in __all__:
    return importlib.import_module(f'deblur_jax.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return __all__
