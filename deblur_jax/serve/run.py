"""Runs the server until SIGTERM or Ctrl-C, and then answers what was accepted."""

import logging
import signal
import time
import types
from typing import Any

from fastapi import FastAPI
import uvicorn

from deblur_jax.serve.service import Service

KEEP_ALIVE_SECONDS = 15

HEAD_SECONDS = 20.0
"""How long a connection may take until the head of its next request has arrived."""

NEW_SECONDS = 1.0
"""How long a connection may be idle however many there are."""

STUCK_SECONDS = 60.0
"""How long a client may take to read about a megabyte of an answer."""


class Server(uvicorn.Server):
  """A uvicorn server that closes idle connections and tells the service when it begins to stop."""

  service: Service

  def __init__(self, config: uvicorn.Config, service: Service):
    super().__init__(config)
    self.service = service
    self._since: dict[Any, tuple[Any, float]] = {}

  def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
    """Stops accepting connections; a second signal ends it at once."""
    self.service.draining = True
    super().handle_exit(sig, frame)

  async def on_tick(self, counter: int) -> bool:
    """Called ten times a second."""
    self._close_idle(time.monotonic())
    return await super().on_tick(counter)

  def _close_idle(self, now: float) -> None:
    """Closes connections that wait for too long for a request, or for the client to read.

    uvicorn itself limits only the time between an answer and the first byte of the next request.
    """
    before, self._since = self._since, {}
    connections: Any = self.server_state.connections  # all of HTTP/1.1, see `make_server`
    for one in connections:
      idle = one.cycle is None or one.cycle.response_complete
      if not idle and not one.flow.write_paused:
        continue
      state = (one.cycle, idle)
      since = before[one][1] if one in before and before[one][0] == state else now
      if now - since > (HEAD_SECONDS if idle else STUCK_SECONDS):
        one.transport.abort()
      self._since[one] = state, since
    waiting = [(since, one) for one, ((_, idle), since) in self._since.items() if idle]
    waiting.sort(key=lambda pair: pair[0])
    for since, one in waiting[: max(0, len(waiting) - self.service.limits.connections)]:
      if now - since > NEW_SECONDS:
        one.transport.abort()


def make_server(app: FastAPI, service: Service, *, host: str, port: int) -> Server:
  """The server, not yet started."""
  config = uvicorn.Config(
    app,
    host=host,
    port=port,
    http='h11',  # the same whatever else is installed
    ws='none',
    access_log=False,  # the gate writes a line without addresses and names
    log_config=None,
    server_header=False,
    timeout_keep_alive=KEEP_ALIVE_SECONDS,
    timeout_graceful_shutdown=int(service.limits.seconds) + 5,
  )
  return Server(config, service)


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
