"""The server of `deblur-jax serve`: the results of `deblur-jax restore` over HTTP, and a page.

`app` has the routes, `service` what they call, `restorers` the methods, `keys` the owners of API
keys. The command puts them together: see `deblur_jax/cli/serve.py`.
"""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.serve import app, keys, restorers, service

__all__ = ['app', 'keys', 'restorers', 'service']

__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, ''))
