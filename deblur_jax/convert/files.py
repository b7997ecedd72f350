"""Reads the weights files of other programs: torch, TensorFlow, Keras, NumPy, safetensors."""

import os
import zipfile

import numpy as np
import safetensors
import safetensors.numpy

from deblur_jax.convert.open import unwrap


def open_torch(path: str | os.PathLike[str], key: str = '') -> dict[str, np.ndarray]:
  """The state dict in a torch file, as numpy arrays; never runs code from the file.

  `key` selects one of several, see `unwrap`.

  Raises:
    ImportError: torch is not installed.
    ValueError: the file is not a torch file, is damaged, has no state dict, or has other Python
      objects than tensors and plain values.
  """
  try:
    import torch
  except ImportError as error:
    raise ImportError(
      f"opening {path} requires torch: pip install 'deblur-jax[convert]'"
    ) from error
  try:
    content = torch.load(path, map_location='cpu', weights_only=True)
  except (FileNotFoundError, PermissionError, IsADirectoryError):
    raise
  except Exception as error:  # torch raises many types, OSError for a truncated file
    if 'global' in str(error).lower():  # the names of Python objects in a pickle
      raise ValueError(
        f'{path} contains Python objects other than weights, which could run code: save only the '
        'state_dict'
      ) from error
    raise ValueError(
      f'{path} is not a torch file, or is damaged or truncated: download it again'
    ) from error
  try:
    return unwrap(content, key)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def open_tensorflow(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The variables in a TensorFlow checkpoint: 'deblur.model-523000', with or without '.index'.

  Raises:
    ImportError: TensorFlow is not installed.
    ValueError: there is no checkpoint of that name, or it is damaged.
  """
  try:
    import tensorflow
  except ImportError as error:
    raise ImportError(f'opening {path} requires TensorFlow: pip install tensorflow') from error
  try:
    reader = tensorflow.train.load_checkpoint(os.fspath(path).removesuffix('.index'))
    kinds = reader.get_variable_to_dtype_map()
    return {name: reader.get_tensor(name) for name, kind in kinds.items() if kind.is_floating}
  except (ValueError, RuntimeError, tensorflow.errors.OpError) as error:
    raise ValueError(f'{path} is not a TensorFlow checkpoint: {error}') from error


def open_keras(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The arrays in a Keras file (HDF5), by their full names.

  Raises:
    ImportError: h5py is not installed.
    ValueError: the file is not an HDF5 file.
  """
  try:
    import h5py
  except ImportError as error:
    raise ImportError(f'opening {path} requires h5py: pip install h5py') from error
  found = {}
  try:
    with h5py.File(path) as file:
      file.visititems(
        lambda name, item: found.update({name: item[()]} if hasattr(item, 'shape') else {})
      )
  except OSError as error:
    raise ValueError(f'{path} is not an HDF5 file, or is damaged') from error
  return found


def open_numpy(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The arrays in a .npz file. Raises ValueError if it is not one, or contains Python objects."""
  try:
    with np.load(path) as file:
      return dict(file)
  except (ValueError, OSError, zipfile.BadZipFile) as error:
    raise ValueError(f'{path} is not a .npz file of arrays, or is damaged') from error


def open_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The arrays in a .safetensors file. Raises ValueError if it is not one, or is damaged."""
  try:
    return safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(f'{path} is not a .safetensors file, or is damaged: {error}') from error
