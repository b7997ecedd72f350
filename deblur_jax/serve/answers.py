"""Results as HTTP responses."""

import json
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from deblur_jax.serve.service import report_of
from deblur_jax.serve.store import Result

MEDIA_TYPES = {
  'jpeg': 'image/jpeg',
  'png': 'image/png',
  'webp': 'image/webp',
  'tiff': 'image/tiff',
  'heif': 'image/avif',
}

MOST_NOTES = 2000
"""Characters of the notes in a header; the report has all."""


def answer(request: Request, result: Result, *, cached: bool) -> Response:
  """The picture, or the report if the client accepts only JSON."""
  headers = {
    'etag': etag(result.key, request),
    'vary': 'accept, authorization',
    'cache-control': 'private, no-cache',
    'x-deblur-cache': 'hit' if cached else 'miss',
    **described(result.report),
  }
  if wants_report(request):
    return JSONResponse(report_of(result), headers=headers)
  headers['content-length'] = str(result.size)
  return StreamingResponse(result.chunks(), media_type=MEDIA_TYPES[result.kind], headers=headers)


def wants_report(request: Request) -> bool:
  """Whether the client asks for JSON instead of a picture."""
  return 'application/json' in request.headers.get('accept', '')


def etag(key: str, request: Request) -> str:
  """The entity tag of a result, or of its report."""
  return (
    f'"{key}-report"' if 'application/json' in request.headers.get('accept', '') else f'"{key}"'
  )


def not_changed(request: Request, key: str) -> Response | None:
  """304 if the client already has the result."""
  tag = etag(key, request)
  given = [
    one.strip().removeprefix('W/') for one in request.headers.get('if-none-match', '').split(',')
  ]
  return Response(status_code=304, headers={'etag': tag}) if tag in given else None


def described(report: dict[str, Any]) -> dict[str, str]:
  """The main facts of a report as headers, in ASCII."""
  notes = json.dumps(report['notes'])
  headers = {
    'x-deblur-method': report['method'],
    'x-deblur-seconds': str(report['seconds']),
    'x-deblur-tiles': str(report['tiles']),
    'x-deblur-notes': notes if len(notes) <= MOST_NOTES else '["see the report"]',
  }
  if diagnosis := report.get('diagnosis'):
    gain = diagnosis['sharpness_after'] / max(diagnosis['sharpness_before'], 1e-6)
    headers |= {'x-deblur-blur': diagnosis['blur'], 'x-deblur-sharpness': f'{gain:.3g}'}
  if 'reliability' in report:
    headers['x-deblur-reliability'] = str(report['reliability'])
  return headers
