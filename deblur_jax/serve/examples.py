"""Examples of answers, for the OpenAPI description at `/openapi.json`."""

from typing import Any

REPORT = {
  'method': 'general',
  'version': '0.1.0',
  'status': 'restored',
  'height': 1200,
  'width': 1600,
  'tiles': 4,
  'seconds': 6.2,
  'notes': [],
  'diagnosis': {
    'blur': 'motion',
    'pixels': 12.1,
    'angle': 31.0,
    'sigma': 3.5,
    'ratio': 0.3,
    'confidence': 0.7,
    'sharpness_before': 0.4,
    'sharpness_after': 1.3,
    'reblurred_psnr': 38.2,
  },
  'format': 'jpeg',
  'bytes': 512000,
}

ERRORS = {
  400: ('An option is not valid', 'strength must be from 0 to 1, not 2'),
  401: ('A key is required', 'this server requires a key: Authorization: Bearer KEY'),
  408: ('The request arrived too slowly', 'the request did not arrive within 60 s'),
  413: ('Too many bytes or pixels', 'the request is too large; the limit is 64 MB'),
  415: ('Not a supported picture', 'the picture: not a JPEG, PNG, WebP, TIFF or AVIF picture'),
  422: ('A damaged picture', 'the picture: damaged or truncated (a PNG file)'),
  429: ('The quota of the key is used up', 'the quota of 600 requests per hour is used up'),
  503: ('The queue is full; see Retry-After', 'the server is busy; try again later'),
  504: ('Not restored in time', 'not restored within 120 s'),
}


def _json(text: str, example: Any) -> dict[str, Any]:
  return {'description': text, 'content': {'application/json': {'example': example}}}


REFUSALS: dict[int | str, dict[str, Any]] = {
  status: _json(text, {'error': example}) for status, (text, example) in ERRORS.items()
}

RESTORE: dict[int | str, dict[str, Any]] = {
  200: {
    'description': 'The picture, with its main facts in X-Deblur-* headers, or the report',
    'content': {
      'image/*': {'schema': {'type': 'string', 'format': 'binary'}},
      'application/json': {'example': REPORT},
    },
  },
  304: {'description': 'The client already has this result (If-None-Match)'},
  **REFUSALS,
}

MODELS: dict[int | str, dict[str, Any]] = {
  200: _json(
    'The methods and limits',
    {
      'models': [
        {'name': 'general', 'kind': 'network', 'default': True, 'psf': 'none', 'megabytes': 6.5}
      ],
      'formats': ['jpg', 'png'],
      'limits': {'megabytes': 64, 'megapixels': 50, 'keep_hours': 24},
      'browser': '/browser/1.30.0-aa5a33fc236b0ba5/',
    },
  )
}

HEALTH: dict[int | str, dict[str, Any]] = {
  200: _json('The process works', {'status': 'ok'}),
  500: _json('The warm-up failed', {'error': 'the warm-up failed: out of memory'}),
}

READY: dict[int | str, dict[str, Any]] = {
  200: _json('Requests are accepted', {'status': 'ready'}),
  503: _json('Not yet, or no longer', {'error': 'the server is starting'}),
}

STATE = {'id': 'k3Jd0v2mQ8w', 'state': 'running', 'progress': 0.5, 'tiles': 4, 'tiles_done': 2}

JOB: dict[int | str, dict[str, Any]] = {
  202: _json('The job is stored', {**STATE, 'state': 'queued', 'progress': 0, 'tiles_done': 0}),
  **REFUSALS,
}

VIEW: dict[int | str, dict[str, Any]] = {
  200: _json('The state: queued, running, done (with the report) or failed', STATE),
  404: _json('No such job, or not yours', {'error': 'no such job'}),
}
