"""The routes of the server."""

import asyncio
from collections.abc import AsyncIterator, Iterable
import contextlib
import pathlib
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException

import deblur_jax
from deblur_jax.serve import examples, job_routes, settings
from deblur_jax.serve.answers import answer, not_changed
from deblur_jax.serve.gate import Gate, headers_of
from deblur_jax.serve.jobs import Jobs
from deblur_jax.serve.keys import Keys
from deblur_jax.serve.requests import Image, Mask, Options, owner_of, receive
from deblur_jax.serve.service import Service
from deblur_jax.serve.settings import RefusedError

PAGE = pathlib.Path(__file__).with_name('page')

MEDIA_TYPES = {
  '.mjs': 'text/javascript',
  '.onnx': 'application/octet-stream',
  '.wasm': 'application/wasm',
}

CLEANING_SECONDS = 600
"""How often results and jobs that are too old are deleted."""

SAVING_SECONDS = 1
"""How often quotas are saved; what was used since is forgotten if the process is killed."""


def create(
  service: Service,
  keys: Keys,
  hosts: Iterable[str] = (),
  browser: pathlib.Path | None = None,
) -> FastAPI:
  """The application; its start and end are those of `service`.

  `hosts` are the names of the server, besides localhost and all IP addresses; `browser` is the
  folder of `serve.browser.install`, if the page may offer that network.
  """
  jobs = Jobs(service)
  keys.keep(service.database)

  @contextlib.asynccontextmanager
  async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    service.start()
    jobs.resume()
    tasks = [asyncio.create_task(_clean(service, jobs)), asyncio.create_task(_save(keys))]
    yield
    for task in tasks:
      task.cancel()
    keys.save()
    await asyncio.to_thread(service.close)

  app = FastAPI(
    title='deblur-jax',
    version=deblur_jax.__version__,
    description='Restores blurred photographs.',
    lifespan=lifespan,
    docs_url=None,  # they load scripts from another host
    redoc_url=None,
  )
  app.state.service = service
  app.add_middleware(Gate, service=service, keys=keys, hosts=hosts)
  app.add_exception_handler(RefusedError, _refused)
  app.add_exception_handler(HTTPException, _http_error)
  app.add_exception_handler(RequestValidationError, _invalid)
  app.add_exception_handler(Exception, _failed)
  _add_health(app, service)
  _add_models(app, service, f'/browser/{browser.name}/' if browser else None)
  _add_restore(app, service)
  job_routes.add(app, service, jobs)
  _add_page(app)
  if browser:
    _add_browser(app, browser)
  return app


def _add_browser(app: FastAPI, folder: pathlib.Path) -> None:
  files = {path.name: path for path in folder.iterdir()}

  @app.get(f'/browser/{folder.name}/{{name}}', include_in_schema=False)
  def browser_file(name: str) -> Response:
    if name not in files:
      raise HTTPException(404)
    # The name of the folder changes with its contents.
    headers = {'cache-control': 'max-age=31536000, immutable'}
    return FileResponse(files[name], headers=headers, media_type=MEDIA_TYPES[files[name].suffix])


def _add_page(app: FastAPI) -> None:
  files = {path.name: path for path in PAGE.iterdir() if path.is_file()}

  @app.get('/', include_in_schema=False)
  def index() -> Response:
    return page('index.html')

  @app.get('/{name}', include_in_schema=False)
  def page(name: str) -> Response:
    if name not in files:
      raise HTTPException(404)
    return FileResponse(files[name], headers={'cache-control': 'no-cache'})


def _add_models(app: FastAPI, service: Service, browser: str | None) -> None:
  @app.get('/v1/models', responses=examples.MODELS, summary='What can be asked for')
  def models() -> dict[str, Any]:
    limits = service.limits
    return {
      'models': service.restorers.describe(),
      'formats': list(settings.FORMATS),
      'limits': {
        'megabytes': limits.megabytes,
        'megapixels': limits.megapixels,
        'keep_hours': limits.keep_hours,
      },
      'browser': browser,
    }


def _add_restore(app: FastAPI, service: Service) -> None:
  @app.post(
    '/v1/restore',
    responses=examples.RESTORE,
    response_class=Response,
    summary='Restore a picture and wait for it',
  )
  async def restore(
    request: Request, options: Options, image: Image, mask: Mask = None
  ) -> Response:
    """Answers with the picture, or with the report if `Accept` is `application/json`."""
    upload = await receive(request, image, mask, options)
    key = service.key(owner_of(request).name, upload, options)
    same = not_changed(request, key)
    found = None if same else await asyncio.to_thread(service.results.get, key)
    if same or found:
      service.uploads.delete(upload.folder)
      service.measures.cached()
    if same:
      return same
    if found:
      return answer(request, found, cached=True)
    try:
      task = service.submit(key, upload, options)
    except RefusedError:
      service.uploads.delete(upload.folder)
      raise
    return answer(request, await service.result(task, lambda: _gone(request)), cached=False)


def _add_health(app: FastAPI, service: Service) -> None:
  @app.get('/healthz', responses=examples.HEALTH, summary='Whether the process works')
  def healthz() -> Response:
    if service.problem:
      return JSONResponse({'error': f'the warm-up failed: {service.problem}'}, 500)
    return JSONResponse({'status': 'ok'})

  @app.get('/readyz', responses=examples.READY, summary='Whether requests are accepted')
  def readyz() -> Response:
    if service.draining or not service.ready:
      text = 'the server is stopping' if service.draining else 'the server is starting'
      return JSONResponse({'error': text}, 503, {'retry-after': '10'})
    return JSONResponse({'status': 'ready'})

  @app.get('/metrics', summary='Counters and times for Prometheus')
  def metrics() -> Response:
    return Response(service.measures.text(), media_type='text/plain; version=0.0.4')


async def _clean(service: Service, jobs: Jobs) -> None:
  while True:
    await asyncio.sleep(CLEANING_SECONDS)
    await asyncio.to_thread(service.results.shrink)
    await asyncio.to_thread(jobs.expire)


async def _save(keys: Keys) -> None:
  while True:
    await asyncio.sleep(SAVING_SECONDS)
    await asyncio.to_thread(keys.save)


async def _gone(request: Request) -> None:
  """Returns once the client has disconnected."""
  while (await request.receive())['type'] != 'http.disconnect':
    pass


def _refused(_: Request, error: Exception) -> Response:
  assert isinstance(error, RefusedError)
  return JSONResponse({'error': error.text}, error.status, headers_of(error))


def _http_error(_: Request, error: Exception) -> Response:
  assert isinstance(error, HTTPException)
  known = {404: 'no such page', 405: 'this method is not allowed here'}
  text = known.get(error.status_code, str(error.detail))
  return JSONResponse({'error': text}, error.status_code, error.headers)


def _invalid(_: Request, error: Exception) -> Response:
  assert isinstance(error, RequestValidationError)
  first = error.errors()[0]
  name = str(first['loc'][-1])
  return JSONResponse({'error': f'{name}: {first["msg"].lower()}'}, 400)


def _failed(_: Request, error: Exception) -> Response:
  # uvicorn writes the error to the log.
  return JSONResponse({'error': 'internal error; the log of the server has the details'}, 500)
