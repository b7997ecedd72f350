"""Types of the commands' options; invalid values are reported in one line."""

import argparse
import ast
from collections.abc import Iterable
import pathlib
from typing import Any

DEVICES = ('cpu', 'gpu', 'tpu')


def positive(text: str) -> int:
  """A whole number from 1 up."""
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 1 up')
  return int(text)


def seed(text: str) -> int:
  """A whole number from 0 up, as JAX takes one."""
  if not text.isdecimal() or int(text) >= 2**31:
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 0 to {2**31 - 1}')
  return int(text)


def above_zero(text: str) -> float:
  """A finite number above 0."""
  try:
    value = float(text)
  except ValueError:
    value = -1.0
  if not 0 < value < float('inf'):
    raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')
  return value


def share(text: str) -> float:
  """A number from 0 to 1."""
  try:
    value = float(text)
  except ValueError:
    value = -1.0
  if not 0 <= value <= 1:
    raise argparse.ArgumentTypeError(f'{text!r} is not a number from 0 to 1')
  return value


def part(text: str) -> tuple[int, int]:
  """(index, count) of a part such as '2/4', the second of four."""
  index, _, count = text.partition('/')
  numbers = index.isdecimal() and count.isdecimal()
  if not numbers or not 1 <= int(index) <= int(count):
    raise argparse.ArgumentTypeError(f'{text!r} is not a part such as 1/4 (1/4 to 4/4)')
  return int(index), int(count)


def box(text: str) -> tuple[int, int, int, int]:
  """(left, top, width, height) of a crop such as '100,50,640,480'."""
  numbers = text.split(',')
  if len(numbers) != 4 or not all(one.strip().isdecimal() for one in numbers):
    raise argparse.ArgumentTypeError(f'{text!r} is not a crop X,Y,W,H such as 100,50,640,480')
  left, top, width, height = map(int, numbers)
  if not width or not height:
    raise argparse.ArgumentTypeError(f'{text!r}: width and height must be at least 1')
  return left, top, width, height


def percent(text: str) -> int:
  """A whole number from 1 to 100."""
  if not text.isdecimal() or not 1 <= int(text) <= 100:
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 1 to 100')
  return int(text)


def size(text: str) -> tuple[int, int] | None:
  """(height, width) of '720x1280'; None of 'any'."""
  if text == 'any':
    return None
  height, _, width = text.partition('x')
  if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
    raise argparse.ArgumentTypeError(f'{text!r} is not a size such as 720x1280 (height x width)')
  return int(height), int(width)


def number_or_any(text: str) -> int | None:
  """A whole number from 1 up; None of 'any'."""
  return None if text == 'any' else positive(text)


def settings(given: Iterable[str]) -> dict[str, Any]:
  """Arguments of a network by name, from texts such as 'stages=1': Python literals or strings.

  Raises ValueError for a text of another form.
  """
  found = {}
  for text in given:
    name, equals, value = text.partition('=')
    if not equals or not name:
      raise ValueError(f'--set {text}: expected ARGUMENT=VALUE')
    try:
      found[name] = ast.literal_eval(value)
    except (ValueError, SyntaxError):
      found[name] = value
  return found


def use_device(name: str | None) -> None:
  """Makes JAX use 'cpu', 'gpu' or 'tpu', before it has started; with None it chooses.

  Raises ValueError if there is no such device.
  """
  import jax

  if name is None:
    return
  if name == 'cpu':
    jax.config.update('jax_platforms', 'cpu')
    return
  try:
    jax.config.update('jax_default_device', jax.devices(name)[0])
  except RuntimeError:
    extra = 'cuda' if name == 'gpu' else 'tpu'
    raise ValueError(
      f'--device {name}: JAX found none, only {jax.default_backend()}; '
      f"support requires pip install 'deblur-jax[{extra}]'"
    ) from None


def picture_set(text: str) -> dict[str, str]:
  """The `source` and `directory` of 'SOURCE:DIRECTORY'; a folder alone has sharp pictures.

  Raises FileNotFoundError if it is neither a folder nor a source, and ValueError if a source of
  folders comes without one.
  """
  from deblur_jax.data.sources import SOURCES

  source, _, directory = text.partition(':')
  if not directory and pathlib.Path(source).is_dir():
    return {'source': 'sharp', 'directory': source}
  if source not in SOURCES:
    known = ', '.join(SOURCES)
    raise FileNotFoundError(f'{text}: no such folder, and no source of this name (known: {known})')
  if source in ('pairs', 'sharp') and not directory:
    raise ValueError(f'{text}: add its folder, {source}:FOLDER')
  return {'source': source, 'directory': directory}
