"""The routes of jobs."""

import asyncio
from collections.abc import AsyncIterator
import json
import time
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from deblur_jax.serve import examples
from deblur_jax.serve.answers import answer, not_changed
from deblur_jax.serve.jobs import Jobs
from deblur_jax.serve.requests import Image, Mask, Options, owner_of, receive
from deblur_jax.serve.service import Service
from deblur_jax.serve.settings import RefusedError

LOOK_SECONDS, ALIVE_SECONDS = 0.2, 15.0
"""How often an event stream looks at its job, and how often it sends something."""


def add(app: FastAPI, service: Service, jobs: Jobs) -> None:
  """Adds the routes of jobs to `app`."""

  @app.post('/v1/jobs', status_code=202, responses=examples.JOB, summary='Restore a picture later')
  async def create(request: Request, options: Options, image: Image, mask: Mask = None) -> Response:
    """Answers at once; the job also survives a restart of the server."""
    upload = await receive(request, image, mask, options)
    owner = owner_of(request).name
    try:
      key = service.key(owner, upload, options)
      identifier = await asyncio.to_thread(jobs.add, owner, key, upload, options)
    except RefusedError:
      service.uploads.delete(upload.folder)
      raise
    place = f'/v1/jobs/{identifier}'
    return JSONResponse(jobs.view(identifier, owner), 202, {'location': place})

  @app.get('/v1/jobs/{identifier}', responses=examples.VIEW, summary='The state of a job')
  def view(request: Request, identifier: str) -> dict[str, Any]:
    return jobs.view(identifier, owner_of(request).name)

  @app.delete('/v1/jobs/{identifier}', status_code=204, summary='Cancel or forget a job')
  def delete(request: Request, identifier: str) -> Response:
    jobs.delete(identifier, owner_of(request).name)
    return Response(status_code=204)

  @app.get(
    '/v1/jobs/{identifier}/result',
    responses=examples.RESTORE,
    response_class=Response,
    summary='The restored picture',
  )
  def result(request: Request, identifier: str) -> Response:
    found = jobs.result(identifier, owner_of(request).name)
    return not_changed(request, found.key) or answer(request, found, cached=True)

  @app.get(
    '/v1/jobs/{identifier}/events',
    response_class=StreamingResponse,
    summary='The states of a job, as server-sent events, until it ends',
  )
  def events(request: Request, identifier: str) -> Response:
    owner = owner_of(request).name
    jobs.view(identifier, owner)
    return StreamingResponse(
      _events(service, jobs, identifier, owner), media_type='text/event-stream'
    )


async def _events(service: Service, jobs: Jobs, identifier: str, owner: str) -> AsyncIterator[str]:
  """Yields an event whenever the state of a job changes; the name of the event is the state."""
  last, sent = None, time.monotonic()
  while True:
    try:
      state = await asyncio.to_thread(jobs.view, identifier, owner)
    except RefusedError:  # it was deleted
      return
    if state != last:
      last, sent = state, time.monotonic()
      yield f'event: {state["state"]}\ndata: {json.dumps(state)}\n\n'
    elif time.monotonic() - sent > ALIVE_SECONDS:
      sent = time.monotonic()
      yield ': waiting\n\n'
    if state['state'] in ('done', 'failed') or service.draining:
      return
    await asyncio.sleep(LOOK_SECONDS)
