"""An HTTP server and a page that restore photographs; needs `pip install 'deblur-jax[serve]'`.

A request goes through `gate` (keys, sizes, headers), `app` (routes), `uploads` (the files of a
request) and `service` (cache, jobs) to the one thread in `worker` that computes, by
`device`. The picture is restored and written by `photos.restore.restore_file`, as by `deblur-jax
restore`.
"""

from typing import TYPE_CHECKING

from deblur_jax import lazy

if TYPE_CHECKING:
  from deblur_jax.serve import (
    answers,
    app,
    browser,
    device,
    examples,
    gate,
    job_routes,
    jobs,
    keys,
    measures,
    requests,
    restorers,
    run,
    service,
    settings,
    store,
    uploads,
    worker,
  )

__all__ = [
  'answers',
  'app',
  'browser',
  'device',
  'examples',
  'gate',
  'job_routes',
  'jobs',
  'keys',
  'measures',
  'requests',
  'restorers',
  'run',
  'service',
  'settings',
  'store',
  'uploads',
  'worker',
]

__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, ''))
