"""What every request passes beside its route: host, keys, size, time, headers, the log."""

import asyncio
from collections.abc import Iterable
import ipaddress
import json
import logging
import re
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deblur_jax.serve.keys import Keys
from deblur_jax.serve.service import CLOSED, Service
from deblur_jax.serve.settings import RefusedError

log = logging.getLogger('deblur_jax.serve')

HEADERS = {
  'content-security-policy': "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
  "worker-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
}

HOST = re.compile(r'(?:\[([^]]*)\]|([^:@/]+))(?::\d+)?')
"""The header `Host`: an IPv6 address in brackets, or a name or IPv4 address; and a port."""

BODIES_PER_PLACE = 4
"""How many request bodies may arrive at once, for each place in the queue."""

LINGER_SECONDS, LINGER_BYTES = 15.0, 32e6
"""How long, and how much of, the body of a refused request is still read: a client that is sending
it would otherwise see a broken connection instead of the answer."""


class Gate:
  """ASGI middleware."""

  def __init__(self, app: ASGIApp, service: Service, keys: Keys, hosts: Iterable[str] = ()):
    """`hosts` are the names of this server, besides localhost and all IP addresses."""
    self._app, self._service, self._keys = app, service, keys
    self._hosts = {'localhost', *(host.lower() for host in hosts)}
    self._bodies = self._open = 0

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return
    begin, status = time.monotonic(), CLOSED

    async def answer(message: Message) -> None:
      nonlocal status
      if message['type'] == 'http.response.start':
        status = message['status']
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
          headers.setdefault(name, value)
        headers.setdefault('cache-control', 'no-store')
      await send(message)

    self._open += 1
    try:
      await self._pass(scope, receive, answer)
    finally:
      self._open -= 1
      route = getattr(scope.get('route'), 'path', 'other')
      seconds = time.monotonic() - begin
      self._service.measures.answered(route, status, seconds)
      log.info('%s %s %d %.3f s', scope['method'], route, status, seconds)

  async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
    headers = Headers(scope=scope)
    has_body = scope['method'] not in ('GET', 'HEAD')
    try:
      self._check(scope, headers, has_body)
    except RefusedError as error:
      await _respond(_late(send, receive) if has_body else send, error)
      return
    if not has_body:
      await self._app(scope, receive, send)
      return
    self._bodies += 1
    body, late = _Body(receive, self._service.limits, self._arrived), _late(send, receive)

    async def answer(message: Message) -> None:
      await (late if body.refused else send)(message)

    try:
      await self._app(scope, body, answer)
    finally:
      body.end()

  def _arrived(self) -> None:
    self._bodies -= 1

  def _check(self, scope: Scope, headers: Headers, has_body: bool) -> None:
    """Raises RefusedError if the request can be refused by its head."""
    if not self._is_ours(headers.get('host', '')):
      # A page of another site can let its own name point to this machine (DNS rebinding).
      raise RefusedError(421, 'this host name is not allowed; see --allow-host')
    if not scope['path'].startswith('/v1/'):
      return
    if headers.get('sec-fetch-site') in ('cross-site', 'same-site'):
      raise RefusedError(403, 'requests from pages of other sites are not allowed')
    limits = self._service.limits
    if self._open > limits.connections:
      raise RefusedError(503, 'the server is busy; try again later', retry_after=5)
    owner = self._keys.owner(headers.get('authorization', ''))
    scope.setdefault('state', {})['owner'] = owner
    if not has_body:
      return
    length = headers.get('content-length', '0')
    if not length.isdecimal() or int(length) > 1e6 * limits.megabytes:
      raise too_large(limits.megabytes)
    if self._bodies >= BODIES_PER_PLACE * limits.queue:
      raise RefusedError(503, 'the server is busy; try again later', retry_after=5)
    if scope['method'] == 'POST':
      owner.use('requests', 1)

  def _is_ours(self, host: str) -> bool:
    """Whether the header `Host` is an IP address or a name of this server."""
    found = HOST.fullmatch(host)
    name = (found[1] or found[2]).lower() if found else ''
    try:
      return bool(ipaddress.ip_address(name))  # an address, so nobody's DNS
    except ValueError:
      return name in self._hosts


class _Body:
  """`receive` of a request, with limits on the size of the body and the time it takes."""

  def __init__(self, receive: Receive, limits: Any, arrived: Any):
    self._receive, self._limits, self._arrived = receive, limits, arrived
    self._ends = time.monotonic() + limits.upload_seconds
    self._left = 1e6 * limits.megabytes
    self._open = True
    self.refused = False

  async def __call__(self) -> Message:
    if not self._open:
      return await self._receive()
    try:
      async with asyncio.timeout(self._ends - time.monotonic()):
        message = await self._receive()
    except TimeoutError:
      seconds = self._limits.upload_seconds
      raise self._refuse(408, f'the request did not arrive within {seconds:g} s') from None
    self._left -= len(message.get('body', b''))
    if self._left < 0:
      raise self._refuse(413, too_large(self._limits.megabytes).text)
    if message['type'] == 'http.disconnect' or not message.get('more_body'):
      self.end()
    return message

  def end(self) -> None:
    """The body has arrived, or never will."""
    if self._open:
      self._open = False
      self._arrived()

  def _refuse(self, status: int, text: str) -> HTTPException:
    # FastAPI replaces all other exceptions that are raised while it reads a body.
    self.refused = True
    return HTTPException(status, text, {'connection': 'close'})


def too_large(megabytes: float) -> RefusedError:
  """The refusal of a body that is too large."""
  return RefusedError(413, f'the request is too large; the limit is {megabytes:g} MB')


async def _respond(send: Send, error: RefusedError) -> None:
  """Sends a refusal and closes the connection."""
  body = json.dumps({'error': error.text}).encode()
  headers = {'content-type': 'application/json', 'content-length': str(len(body))}
  headers |= {'connection': 'close'} | headers_of(error)
  raw = [(name.encode(), value.encode()) for name, value in headers.items()]
  await send({'type': 'http.response.start', 'status': error.status, 'headers': raw})
  await send({'type': 'http.response.body', 'body': body})


def headers_of(error: RefusedError) -> dict[str, str]:
  """The headers of a refusal."""
  headers = {'www-authenticate': 'Bearer'} if error.status == 401 else {}
  return headers | ({'retry-after': str(error.retry_after)} if error.retry_after else {})


def _late(send: Send, receive: Receive) -> Send:
  """`send` that ends the answer only after reading some of what the client still sends."""

  async def sending(message: Message) -> None:
    if message['type'] == 'http.response.body' and not message.get('more_body'):
      await send({**message, 'more_body': True})
      await _linger(receive)
      message = {'type': 'http.response.body', 'body': b''}
    await send(message)

  return sending


async def _linger(receive: Receive) -> None:
  left = LINGER_BYTES
  try:
    async with asyncio.timeout(LINGER_SECONDS):
      while left > 0:
        message = await receive()
        left -= len(message.get('body', b''))
        if message['type'] == 'http.disconnect' or not message.get('more_body'):
          return
  except TimeoutError:
    return
