"""StableHLO files by `jax.export`: any size, batch and device, without this package's code."""

import json
import pathlib
import zipfile

import jax
import jax.numpy as jnp

from deblur_jax import atomic, exported
from deblur_jax.export import Request, difference
from deblur_jax.nn.conv import plain

PLATFORMS = ('cpu', 'cuda', 'tpu')


def write(path: pathlib.Path, request: Request) -> float:
  """Writes a zip with what `jax.export` serializes and the manifest; returns the difference.

  `jax.export.deserialize(zipfile.ZipFile(path).read('exported')).call(images)` runs it, on
  `[b h w 3]` float32 in [0, 1]. Raises ValueError if the network does not trace or differs.
  """
  m = request.needs.multiple
  batch, height, width = request.batch, *(request.size or (None, None))
  unknown = jax.export.symbolic_shape('b, h, w')
  shape = (batch or unknown[0], height or m * unknown[1], width or m * unknown[2], 3)
  try:
    with plain():
      found = jax.export.export(jax.jit(request.apply), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct(shape, jnp.float32)
      )
  except (TypeError, ValueError, NotImplementedError) as error:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    hint = '; try a fixed --size HxW' if request.size is None else ''
    network = request.manifest['network']
    raise ValueError(f'{network} cannot be exported like this ({reason[:200]}){hint}') from None
  with atomic.replacing(path) as partial:
    with zipfile.ZipFile(partial, 'w') as archive:
      archive.writestr(exported.MANIFEST, json.dumps(dict(request.manifest), indent=2) + '\n')
      archive.writestr(exported.PROGRAM, bytes(found.serialize()))
    return difference(request, exported.open_stablehlo(partial).restore)
