"""A digest of the source code that a result depends on, so that edits trigger a new measurement."""

import ast
from collections.abc import Iterable
import hashlib
import importlib.util
import pathlib

_PACKAGE = __name__.partition('.')[0]

_IGNORED = {f'{_PACKAGE}.{name}' for name in ('atomic', 'writers', 'solvers')}
"""Modules that results do not depend on; the solver measured is passed as a module of its own."""


def digest(*modules: str) -> str:
  """SHA-256 of the files of `modules` and of all modules of this package that they import.

  Other packages are not included. May import parent packages to find the files.
  """
  found: dict[str, bytes] = {}
  waiting = list(modules)
  while waiting:
    name = waiting.pop()
    if name in found or name in _IGNORED or (path := _path(name)) is None:
      continue
    found[name] = path.read_bytes()
    waiting += [one for one in _imports(found[name]) if one.partition('.')[0] == _PACKAGE]
  total = hashlib.sha256()
  for name in sorted(found):
    total.update(f'{name} {len(found[name])}\n'.encode() + found[name])
  return total.hexdigest()


def _imports(source: bytes) -> Iterable[str]:
  """The full names that a file imports: `package.module.name`."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      # For a name, the module that defines it; for a submodule, not all of its package.
      for alias in node.names:
        whole = f'{node.module}.{alias.name}'
        yield whole if _path(whole) else node.module


def _path(name: str) -> pathlib.Path | None:
  """The file of a module; None if `name` is not a module or has no source."""
  try:
    spec = importlib.util.find_spec(name)
  except ModuleNotFoundError:  # a name in a module, not a module
    return None
  return pathlib.Path(spec.origin) if spec and spec.has_location else None
