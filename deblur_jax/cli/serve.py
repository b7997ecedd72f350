"""`deblur-jax serve`: an HTTP server and a page that restore photographs."""

import argparse
import importlib.util
import os
import pathlib
import re
import sys

from deblur_jax.cli import values

PACKAGES = ('fastapi', 'uvicorn', 'prometheus_client', 'python_multipart')

EXPORT_PACKAGES = ('jax2onnx', 'onnx', 'onnxruntime')

LOCAL = ('127.0.0.1', '::1', 'localhost')


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax serve`."""
  parser = commands.add_parser(
    'serve',
    help='restore photographs over HTTP, with a page for the browser',
    description='Starts a server that restores photographs, with a page at http://HOST:PORT/. '
    'Ctrl-C or SIGTERM stops it once all accepted requests are answered.',
  )
  parser.add_argument(
    '--weights',
    type=lambda text: [one for one in text.split(',') if one],
    metavar='W,W',
    help='the methods to offer, separated by commas, the default first: weights or classical '
    'methods (default: all shipped weights, and all classical methods but deep_image_prior)',
  )
  parser.add_argument('--host', default='127.0.0.1', help='address to listen on (127.0.0.1)')
  parser.add_argument('--port', type=int, default=8000, help='port to listen on (8000)')
  parser.add_argument(
    '--data',
    type=pathlib.Path,
    metavar='FOLDER',
    help='where results and jobs are kept (in the state folder of the user)',
  )
  parser.add_argument(
    '--keys',
    type=pathlib.Path,
    metavar='FILE',
    help='TOML file of API keys and quotas; without it no key is needed',
  )
  parser.add_argument(
    '--allow-host',
    action='append',
    default=[],
    metavar='NAME',
    help='a name by which clients reach this server, besides localhost, HOST and IP addresses; '
    'requests for other names get 421; can be repeated',
  )
  parser.add_argument(
    '--new-key', metavar='NAME', help='print a new key for NAME and its lines for --keys, and exit'
  )
  parser.add_argument(
    '--browser-runtime',
    nargs='?',
    const='download',
    metavar='ARCHIVE',
    help='let browsers run the network mobile themselves: download onnxruntime-web (33 MB; or read '
    'its ARCHIVE of the npm registry), put it and the exported network into --data, and exit',
  )
  parser.add_argument('--device', choices=values.DEVICES, help='device to compute on')
  parser.add_argument(
    '--warm-up',
    type=values.positive,
    default=512,
    metavar='N',
    help='side of the picture that is restored with every network before the first request (512)',
  )
  _add_limits(parser)
  parser.set_defaults(run=_serve)


def _add_limits(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group('limits')
  number = values.above_zero
  for name, default, text in (
    ('--max-megabytes', 64, 'of a request'),
    ('--max-megapixels', 50, 'of a picture'),
    ('--timeout', 120, 'seconds until a request gets 504'),
    ('--job-timeout', 3600, 'seconds to compute a job'),
    ('--upload-timeout', 60, 'seconds for a request to arrive'),
    ('--cache-megabytes', 2000, 'of results on disk'),
    ('--keep-hours', 24, 'hours until a result is deleted'),
  ):
    group.add_argument(name, type=number, default=default, metavar='N', help=f'{text} ({default})')
  group.add_argument(
    '--queue',
    type=values.positive,
    default=16,
    metavar='N',
    help='requests that may wait; further ones get 503 (16)',
  )
  group.add_argument(
    '--max-connections',
    type=values.positive,
    default=400,
    metavar='N',
    help='idle connections, beyond which the oldest are closed, and requests at once, beyond which '
    'they get 503 (400)',
  )
  group.add_argument(
    '--max-jobs', type=values.positive, default=200, metavar='N', help='jobs that may wait (200)'
  )


def _serve(arguments: argparse.Namespace) -> int:
  missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
  if missing:
    raise ValueError(f"no {', '.join(missing)}: serve requires pip install 'deblur-jax[serve]'")
  if arguments.new_key:
    return _print_key(arguments.new_key)
  if arguments.browser_runtime:
    return _install(arguments)
  if arguments.host not in LOCAL and not arguments.keys:
    print(
      f'deblur-jax: anyone who can reach {arguments.host} can use this server: see --keys',
      file=sys.stderr,
    )
  from deblur_jax import sharding
  from deblur_jax.serve import app, browser, device, keys, run
  from deblur_jax.serve.service import Service

  accepted = keys.Keys(arguments.keys)
  restorers = offered(arguments)
  values.use_device(arguments.device)
  sharding.keep_compiled()
  own = device.Device(restorers, warm=arguments.warm_up)
  data = arguments.data or state_folder()
  service = Service(restorers, data, limits(arguments), own)
  created = app.create(service, accepted, names(arguments), browser.find(data))
  run.run(created, service, host=arguments.host, port=arguments.port)
  return 0


def names(arguments: argparse.Namespace) -> list[str]:
  """The names by which clients may reach the server."""
  return [arguments.host, *arguments.allow_host]


def offered(arguments: argparse.Namespace):
  """The `Restorers` of a server; raises as they do."""
  from deblur_jax.serve.restorers import Restorers, default_names

  return Restorers(arguments.weights or default_names())


def state_folder() -> pathlib.Path:
  """Where a server keeps results and jobs by default (XDG base directory specification)."""
  home = os.environ.get('XDG_STATE_HOME') or pathlib.Path.home() / '.local' / 'state'
  return pathlib.Path(home, 'deblur_jax', 'serve')


def _install(arguments: argparse.Namespace) -> int:
  """Makes the network of the page available to browsers."""
  from deblur_jax.serve import browser

  missing = [name for name in EXPORT_PACKAGES if importlib.util.find_spec(name) is None]
  if missing:
    raise ValueError(
      f"no {', '.join(missing)}: --browser-runtime requires pip install 'deblur-jax[export]'"
    )
  given = arguments.browser_runtime
  archive = None if given == 'download' else pathlib.Path(given)
  if archive and not archive.is_file():
    raise FileNotFoundError(f'{archive}: no such file')
  if archive is None:
    print(f'downloading {browser.URL}', file=sys.stderr)
  folder = browser.install(arguments.data or state_folder(), archive)
  size = sum(path.stat().st_size for path in folder.iterdir())
  print(f'{folder}: onnxruntime-web {browser.VERSION} and mobile, {size / 1e6:.1f} MB')
  return 0


def _print_key(name: str) -> int:
  from deblur_jax.serve import keys

  if not re.fullmatch(r'[A-Za-z0-9_-]+', name):
    raise ValueError(f'--new-key {name}: use letters, digits, - and _')
  key, lines = keys.new_key(name)
  print(f'{key}\n\nFor the file of --keys:\n\n{lines}', end='')
  return 0


def limits(arguments: argparse.Namespace):
  """The `Limits` of a server."""
  from deblur_jax.serve.settings import Limits

  return Limits(
    megabytes=arguments.max_megabytes,
    megapixels=arguments.max_megapixels,
    queue=arguments.queue,
    connections=arguments.max_connections,
    jobs=arguments.max_jobs,
    seconds=arguments.timeout,
    job_seconds=arguments.job_timeout,
    upload_seconds=arguments.upload_timeout,
    cache_megabytes=arguments.cache_megabytes,
    keep_hours=arguments.keep_hours,
  )
