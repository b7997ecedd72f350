"""The names of all methods, and the files of those with weights; does not import jax.

A name is that of weights that come with the package, a run's folder, a `.safetensors` file, or a
classical method. `zoo.load` loads the method.
"""

import difflib
import os
import pathlib

DEFAULT = 'general'
"""The default weights, which come with the package."""

SHIPPED = pathlib.Path(__file__).parent / 'pretrained'

EXPORTED = ('.onnx', '.stablehlo')
"""Suffixes of files that hold a whole network, see `exported`."""

RUN_WEIGHTS = 'weights.safetensors'
"""The file of a run's best weights, in the run's folder."""

SOLVERS = (
  'deep_image_prior',
  'hyper_laplacian',
  'polyblur',
  'plug_and_play',
  'richardson_lucy',
  'tikhonov',
  'total_variation',
  'unsupervised_wiener',
  'wavelet',
  'wiener',
)
"""The classical methods: the names in `solvers.SOLVERS`."""

WITHOUT_PSF = ('polyblur',)
"""The classical methods that estimate the PSF themselves."""


STEPS = ('deblock', 'non_local_means')
"""What `photos.guided` does besides deblurring; no weights, and no methods by themselves."""


def is_network(name: str) -> bool:
  """Whether the method `name`, or a part of a name such as 'non_local_means + general', is one."""
  return any(not is_solver(part) and part not in STEPS for part in name.split(' + '))


def is_solver(name: str | os.PathLike[str]) -> bool:
  """Whether `name` is a classical method; './wiener' means the folder or file of that name."""
  return os.fspath(name) in SOLVERS


def shipped() -> dict[str, pathlib.Path]:
  """Name -> file of the weights that come with the package."""
  return {path.stem: path for path in sorted(SHIPPED.glob('*.safetensors'))}


def find(name: str | os.PathLike[str]) -> pathlib.Path:
  """The weights file called `name`.

  `name` is that of `shipped` weights, a run's folder or a `.safetensors` file; './general' means a
  folder or file even if 'general' is shipped. Raises FileNotFoundError for a
  classical method, which has no weights, and, listing what is available, for what is not there.
  """
  known = shipped()
  if os.fspath(name) in known:
    return known[os.fspath(name)]
  path = pathlib.Path(name)
  if path.is_dir():
    if not (path / RUN_WEIGHTS).is_file():
      raise FileNotFoundError(
        f'{path}: no {RUN_WEIGHTS} in this folder; a run writes it at its first evaluation'
      )
    return path / RUN_WEIGHTS
  if path.is_file():
    return path
  if is_solver(name):
    raise FileNotFoundError(f'{name} is a classical method, which has no weights')
  near = difflib.get_close_matches(os.fspath(name), (*known, *SOLVERS), 1, 0.7)
  hint = f'did you mean {near[0]}? ' if near else ''
  names = f'{", ".join(known)}, ' if known else ''
  raise FileNotFoundError(
    f"{path}: no such weights; {hint}available: {names}a run's folder (with {RUN_WEIGHTS}), a "
    f'.safetensors, .onnx or .stablehlo file, or a classical method: {", ".join(SOLVERS)}'
  )
