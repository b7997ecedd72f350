"""What a request brings: its owner, options and files."""

import asyncio
from typing import Annotated, Any

from fastapi import Depends, File, Form, Request, UploadFile

from deblur_jax.serve import settings, uploads
from deblur_jax.serve.keys import Owner
from deblur_jax.serve.service import Service
from deblur_jax.serve.settings import RefusedError, Settings, Upload

Image = Annotated[UploadFile, File(description='JPEG, PNG, WebP, TIFF, AVIF, HEIC or camera raw')]
Mask = Annotated[
  UploadFile | None,
  File(description='grey picture of the same size: white is restored, black is left unchanged'),
]


def read_settings(
  request: Request,
  weights: Annotated[str, Form(description='a name from /v1/models; default: the first')] = '',
  strength: Annotated[float, Form(ge=0, le=1, description='input (0) to result (1)')] = 1.0,
  psf: Annotated[
    str,
    Form(
      description='for classical methods: motion:LENGTH,ANGLE, disk:RADIUS, gaussian:SIGMA or auto'
    ),
  ] = '',
  format: Annotated[str, Form(description='jpg, png, webp, tif or avif; default: as sent')] = '',
  quality: Annotated[int | None, Form(ge=1, le=100, description='JPEG, WebP, AVIF')] = None,
  crop: Annotated[str, Form(description='X,Y,W,H: restore only this part')] = '',
  strip: Annotated[bool, Form(description='remove EXIF, GPS, XMP and IPTC')] = False,
  force: Annotated[bool, Form(description='use a doubtful estimated PSF')] = False,
  diagnose: Annotated[bool, Form(description='false is faster, but reports less')] = True,
  prompt: Annotated[
    str,
    Form(
      max_length=500,
      description='what to do and where, in English: remove motion blur but keep the background '
      'soft; without weights, it chooses them',
    ),
  ] = '',
  uncertainty: Annotated[
    str,
    Form(
      description='reliability adds it to the report; map answers how far each pixel may be off, '
      'instead of the picture; both for calibrated weights'
    ),
  ] = '',
) -> Settings:
  """The options of a request; raises RefusedError."""
  service: Service = request.app.state.service
  read = Settings(
    service.restorers.choose(weights, prompt),
    strength,
    psf,
    'png' if uncertainty == 'map' else format,
    quality,
    settings.crop(crop),
    strip,
    force,
    diagnose,
    prompt,
    uncertainty,
  )
  read.check()
  service.restorers.check(read)
  return read


Options = Annotated[Settings, Depends(read_settings)]


def owner_of(request: Request) -> Owner:
  """Whose request this is."""
  return request.state.owner


async def receive(request: Request, image: Any, mask: Any, options: Settings) -> Upload:
  """The checked files of a request; raises RefusedError, and then leaves nothing on disk."""
  service: Service = request.app.state.service
  if options.uncertainty and mask is not None:
    raise RefusedError(400, 'uncertainty is for plain results: remove the mask')
  if not service.ready:
    raise RefusedError(503, 'the server is starting; try again later', retry_after=10)
  folder = service.new_upload()
  try:
    given = (folder, image, mask, options, service.limits)
    upload = await asyncio.get_running_loop().run_in_executor(service.readers, uploads.save, *given)
    owner_of(request).use('megapixels', upload.size[0] * upload.size[1] / 1e6)
  except BaseException:
    service.uploads.delete(folder)
    raise
  return upload
