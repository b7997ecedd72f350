"""Runs the server until SIGTERM or Ctrl-C, and then answers what was accepted."""

import logging
import signal
import types

from fastapi import FastAPI
import uvicorn

from deblur_jax.serve.service import Service

KEEP_ALIVE_SECONDS = 15


class Server(uvicorn.Server):
  """A uvicorn server that tells the service when it begins to stop."""

  service: Service

  def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
    """Stops accepting connections; a second signal ends it at once."""
    self.service.draining = True
    super().handle_exit(sig, frame)


def make_server(app: FastAPI, service: Service, *, host: str, port: int) -> Server:
  """The server, not yet started."""
  config = uvicorn.Config(
    app,
    host=host,
    port=port,
    access_log=False,  # the gate writes a line without addresses and names
    log_config=None,
    server_header=False,
    timeout_keep_alive=KEEP_ALIVE_SECONDS,
    timeout_graceful_shutdown=int(service.limits.seconds) + 5,
  )
  server = Server(config)
  server.service = service
  return server


def run(app: FastAPI, service: Service, *, host: str, port: int) -> None:
  """Serves until a signal; requests that were accepted before are answered first."""
  logging.basicConfig(format='%(asctime)s %(levelname)s %(message)s')
  for name in ('deblur_jax.serve', 'uvicorn.error'):
    logging.getLogger(name).setLevel(logging.INFO)
  # uvicorn raises the signals again when it has ended; that is a normal end.
  before = {one: signal.signal(one, lambda *_: None) for one in (signal.SIGINT, signal.SIGTERM)}
  try:
    make_server(app, service, host=host, port=port).run()
  finally:
    for one, handler in before.items():
      signal.signal(one, handler)
