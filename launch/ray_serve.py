"""The server of `deblur-jax serve` on a Ray cluster, with several devices.

  python launch/ray_serve.py --ray auto --gpus 1 --devices 4 --keys keys.toml

All options of `deblur-jax serve` apply. One process has routes, queue, results and jobs; others,
anywhere in the cluster, restore. If one of these dies, another begins its picture again.

`@serve.batch` is not used. On a CPU a batch takes as long as its pictures one by one, and on an
accelerator a result would depend, in the last bits, on what else was restored at that moment.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
import pathlib
import queue
import signal
import sys
import tempfile
import threading
from typing import Any

import ray
from ray import serve

from deblur_jax import sharding
from deblur_jax.cli import serve as command
from deblur_jax.cli.parser import Parser
from deblur_jax.cli.values import positive, use_device
from deblur_jax.photos import cluster
from deblur_jax.serve import app, device, keys, uploads
from deblur_jax.serve.service import Service
from deblur_jax.serve.settings import Settings, Upload
from deblur_jax.serve.worker import CancelledError


class Progress:
  """Puts the number of tiles into a queue whenever one is done."""

  def __init__(self):
    self.sent, self.gone, self.tiles = queue.SimpleQueue[Any](), threading.Event(), 0

  def tick(self) -> None:
    self.sent.put(self.tiles)
    if self.gone.is_set():
      raise CancelledError


@serve.deployment(max_ongoing_requests=1)
class Worker:
  """Restores pictures on one device, one at a time."""

  def __init__(self, arguments: argparse.Namespace):
    use_device(arguments.device)
    sharding.keep_compiled()
    self._device = device.Device(command.offered(arguments), warm=arguments.warm_up)
    with tempfile.TemporaryDirectory() as folder:
      self._kind = self._device.warm_up(pathlib.Path(folder))

  def kind(self) -> str:
    """The kind of the device, once it is ready."""
    return self._kind

  async def restore(self, files: dict[str, bytes], settings: Settings, name: str) -> AsyncIterator:
    """Yields the number of tiles after each of them, and in the end (report, result)."""
    progress = Progress()
    work = asyncio.ensure_future(asyncio.to_thread(self._restore, files, settings, name, progress))
    work.add_done_callback(progress.sent.put)
    try:
      while (sent := await asyncio.to_thread(progress.sent.get)) is not work:
        yield sent
      yield work.result()
    finally:
      progress.gone.set()

  def _restore(self, files, settings: Settings, name: str, progress: Progress):
    with tempfile.TemporaryDirectory() as folder:
      paths = [pathlib.Path(folder, one) for one in files]
      for path, data in zip(paths, files.values(), strict=True):
        path.write_bytes(data)
      upload = uploads.opened(paths[0], paths[1] if paths[1:] else None, settings)
      target = pathlib.Path(folder, name)
      return self._device.restore(upload, settings, target, progress), target.read_bytes()


class Workers:
  """What `device.Device` does, by the processes of `Worker`."""

  def __init__(self, threads: int):
    self.threads = threads

  def warm_up(self, folder: pathlib.Path) -> str:
    """Waits until a device is ready; returns its kind."""
    self._handle: Any = serve.get_deployment_handle('Worker', 'default')
    return self._handle.kind.remote().result()

  def restore(
    self, upload: Upload, settings: Settings, target: pathlib.Path, progress: device.Progress
  ) -> dict[str, Any]:
    """Restores an upload on any device and writes `target`; returns the report."""
    files = {path.name: path.read_bytes() for path in (upload.source, upload.mask) if path}
    for tried in range(1, cluster.TRIES + 1):
      answers = self._handle.restore.options(stream=True).remote(files, settings, target.name)
      try:
        while isinstance(sent := next(answers), int):
          progress.tiles = sent
          progress.tick()
        break
      except ray.exceptions.RayTaskError as error:
        raise error.cause from None
      except ray.exceptions.RayActorError:
        if tried == cluster.TRIES:
          raise
      finally:
        answers.cancel()
    target.write_bytes(sent[1])
    return sent[0]


def main() -> None:
  """Serves until Ctrl-C or SIGTERM."""
  parser = Parser()
  commands = parser.add_subparsers(dest='command')
  command.add(commands)
  own = commands.choices['serve']
  own.add_argument('--ray', default='local', help='local (default), auto or HOST:PORT')
  own.add_argument('--devices', type=positive, default=2, help='processes that restore (2)')
  own.add_argument('--gpus', type=float, default=0, help='GPUs of each of them (0)')
  arguments = parser.parse(['serve', *sys.argv[1:]])

  def build():
    folder, workers = arguments.data or command.state_folder(), Workers(arguments.devices)
    service = Service(command.offered(arguments), folder, command.limits(arguments), workers)
    return app.create(service, keys.Keys(arguments.keys), command.names(arguments))

  cluster.start(arguments.ray, arguments.devices)
  signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # Ray's own handler aborts
  serve.start(http_options={'host': arguments.host, 'port': arguments.port})
  options = {'max_ongoing_requests': 10_000, 'ray_actor_options': {'num_cpus': 0}}
  front = serve.deployment(name='Front', **options)(serve.ingress(build)())
  needs = {'num_replicas': arguments.devices, 'ray_actor_options': {'num_gpus': arguments.gpus}}
  try:
    serve.run(front.bind(Worker.options(**needs).bind(arguments)), blocking=True)
  finally:
    serve.shutdown()


if __name__ == '__main__':
  main()
