"""`deblur-jax inspect`: what made a picture, and whether it was changed since."""

import argparse
from collections.abc import Iterator
import contextlib
import hashlib
import pathlib
import sys
import tempfile


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax inspect`."""
  parser = commands.add_parser(
    'inspect',
    help='show what made a picture',
    description='Shows what a picture says about itself: how deblur-jax restored it, its digital '
    'source type, and whether its C2PA signature, by whatever program, holds. Without a record of '
    'a restoration, estimates from the pixels whether the picture was deblurred.',
  )
  parser.add_argument('pictures', nargs='+', metavar='PICTURE')
  parser.add_argument(
    '--source',
    metavar='ORIGINAL',
    help='restore this picture again as the record of PICTURE says, and compare',
  )
  parser.set_defaults(run=_inspect)


def _inspect(arguments: argparse.Namespace) -> int:
  if arguments.source and len(arguments.pictures) > 1:
    raise ValueError('--source requires a single picture')
  failed = False
  for name in arguments.pictures:
    try:
      lines = list(_lines(pathlib.Path(name)))
    except (OSError, ValueError) as error:
      failed = True
      reason = error.strerror if isinstance(error, OSError) and error.strerror else error
      print(f'{name}: {reason}', file=sys.stderr)
    else:
      print('\n  '.join((f'{name}:', *lines)))
  if failed:
    return 1
  if arguments.source:
    verdict, same = _made_again(pathlib.Path(arguments.pictures[0]), pathlib.Path(arguments.source))
    print(f'  {verdict}')
    return 0 if same else 1
  return 0


def _lines(path: pathlib.Path) -> Iterator[str]:
  """What a picture says about itself."""
  from deblur_jax.photos import forensics, history
  from deblur_jax.provenance import disclosure

  xmp = _xmp(path)
  record = disclosure.find(xmp)
  if record:
    kind = 'a network' if record.is_network else 'a classical method'
    yield f'restored by deblur_jax {record.version} with {record.method}, {kind}'
    settings = record.settings or {}
    yield f'settings: {history.describe(settings) or "not recorded, as it was made from Python"}'
    if digest := settings.get('weights_sha256'):
      yield f'SHA-256 of the weights: {digest}'
    yield f'SHA-256 of the original: {record.source_sha256}'
  else:
    yield 'no record of a restoration by deblur-jax'
    yield (
      f'from the pixels: {forensics.estimate(path):.0%} likely to be deblurred, if half of all '
      'pictures were (an estimate, often wrong)'
    )
  if stated := disclosure.source_type(xmp):
    yield f'digital source type: {stated}'
  yield _signature(path)


def _signature(path: pathlib.Path) -> str:
  from deblur_jax.provenance import signature

  try:
    found = signature.read(path)
  except ValueError as error:
    return f'C2PA: not checked, {error}'
  if found is None:
    return 'C2PA: not signed'
  by = f'signed by {found.signer}' if found.signer else 'signed'
  if not found.valid:
    return f'C2PA: {by}, but CHANGED SINCE or invalid: {", ".join(found.problems)}'
  trust = '' if found.trusted else ' (whose certificate this computer cannot verify)'
  stated = f', {found.source_type}' if found.source_type else ''
  return f'C2PA: {by}{trust}, unchanged since; {found.software}: {", ".join(found.actions)}{stated}'


def _xmp(path: pathlib.Path) -> bytes | None:
  from deblur_jax.photos import pictures

  return pictures.read(path).xmp


def _made_again(path: pathlib.Path, source: pathlib.Path) -> tuple[str, bool]:
  """(what came of restoring `source` as the record of `path` says, whether it is the same)."""
  from deblur_jax import cli, methods, weights
  from deblur_jax.photos import history, pictures
  from deblur_jax.provenance import disclosure

  record = disclosure.find(_xmp(path))
  if record is None:
    raise ValueError(f'{path}: has no record to make it again by')
  if record.settings is None:
    raise ValueError(f'{path}: cannot be made again, its settings are not recorded')
  if hashlib.sha256(source.read_bytes()).hexdigest() != record.source_sha256:
    return f'{source} is not the file it was made from', False
  if held := [name for name in history.FILES if f'{name}_sha256' in record.settings]:
    raise ValueError(f'{path}: cannot be made again, the record does not hold its {held[0]}')
  if digest := record.settings.get('weights_sha256'):
    name = record.settings['weights']
    if weights.digest(methods.find(name)) != digest:
      return f'it was made with other weights of the name {name}', False
  with tempfile.TemporaryDirectory(prefix='deblur_jax_') as folder:
    again = pathlib.Path(folder) / path.name
    command = ['restore', str(source), '-o', str(again), *history.flags(record.settings)]
    with contextlib.redirect_stdout(None):
      code = cli.main(command)
    if code:
      raise ValueError(f'{source}: could not be restored as recorded')
    if again.read_bytes() == path.read_bytes():
      return f'made again from {source}: the same file, bit for bit', True
    one, two = pictures.read(again), pictures.read(path)
    alike = (
      one.shape == two.shape and (one.rows(0, one.shape[0]) == two.rows(0, two.shape[0])).all()
    )
    if alike:
      return f'made again from {source}: the same pixels; only metadata differ', True
  return f'made again from {source}: the pixels differ', False
