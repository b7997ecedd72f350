"""The files with which a browser runs the network `mobile` itself: onnxruntime-web and the network.

They are too large for the package, so `install` downloads the runtime once and exports the network.
"""

import hashlib
import http.client
import pathlib
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request

from deblur_jax import methods, weights
from deblur_jax.export import of_weights, onnx

VERSION = '1.30.0'
"""Of onnxruntime-web (MIT license)."""

URL = f'https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz'

SHA256 = 'd2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71'
"""Of the archive at `URL`, 33 MB."""

RUNTIME = ('ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.wasm')
"""Files of the archive's folder package/dist, 14.3 MB."""

NETWORK = 'mobile'

SECONDS = 60
"""Without data until the download is given up."""


def folder(data: pathlib.Path) -> pathlib.Path:
  """Where the files are in the data of a server; a new version or network has another folder."""
  digest = weights.digest(methods.find(NETWORK))
  return data / 'browser' / f'{VERSION}-{digest[:16]}'


def find(data: pathlib.Path) -> pathlib.Path | None:
  """The folder of the files, or None if they are not installed."""
  found = folder(data)
  return found if found.is_dir() else None


def install(data: pathlib.Path, archive: pathlib.Path | None = None) -> pathlib.Path:
  """Puts the files into the data of a server, all or none, and returns their folder.

  `archive` is the archive of `URL` if it is already on disk. Raises ValueError if it cannot be
  downloaded or is not the expected one, OSError if it cannot be read, or as `export.onnx.write`.
  """
  target = folder(data)
  target.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=target.parent) as name:
    new = pathlib.Path(name, 'new')
    new.mkdir()
    path = archive or _download(pathlib.Path(name, 'archive'))
    _unpack(path, new, str(archive or URL))
    onnx.write(new / f'{NETWORK}.onnx', of_weights(NETWORK))
    for old in target.parent.iterdir():
      if old != pathlib.Path(name):
        shutil.rmtree(old)
    new.rename(target)
  return target


def _download(path: pathlib.Path) -> pathlib.Path:
  try:
    with urllib.request.urlopen(URL, timeout=SECONDS) as answer, open(path, 'wb') as file:
      shutil.copyfileobj(answer, file, 1 << 20)
  except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
    reason = getattr(error, 'reason', error)
    hint = 'download it elsewhere and pass its path to --browser-runtime'
    raise ValueError(f'{URL}: {reason}; {hint}') from None
  return path


def _unpack(path: pathlib.Path, target: pathlib.Path, name: str) -> None:
  """Writes the files of the runtime from an archive with the expected digest."""
  with open(path, 'rb') as file:
    if hashlib.file_digest(file, 'sha256').hexdigest() != SHA256:
      raise ValueError(f'{name}: not onnxruntime-web {VERSION}, or damaged: its SHA-256 differs')
  with tarfile.open(path, 'r:gz') as archive:
    for member in RUNTIME:
      source = archive.extractfile(f'package/dist/{member}')
      assert source is not None  # the digest is that of an archive with these files
      with source, open(target / member, 'wb') as written:
        shutil.copyfileobj(source, written)
