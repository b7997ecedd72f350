"""Names of a package that are imported on first use (PEP 562), so that the package stays light."""

from collections.abc import Callable, Mapping
import importlib
from typing import Any


def attach(
  package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
  """The `__getattr__` and `__dir__` of `package`.

  `modules` maps each public name to the module that defines it, relative to the package; a name
  that maps to '' is a module itself.
  """

  def __getattr__(name: str) -> Any:
    if name not in modules:
      raise AttributeError(f'module {package!r} has no attribute {name!r}')
    if not modules[name]:
      return importlib.import_module(f'{package}.{name}')
    return getattr(importlib.import_module(f'{package}.{modules[name]}'), name)

  return __getattr__, lambda: sorted(modules)
