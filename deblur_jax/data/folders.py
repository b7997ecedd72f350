"""Folders of pictures: what is in them, and which of it belongs to a split."""

from collections.abc import Callable
import pathlib
from typing import Any

from deblur_jax.datasets import files, pairs

SPLITS = ('train', 'test')


def pictures(folder: pathlib.Path) -> list[tuple[str, pathlib.Path]]:
  """(name, file) of the pictures in a folder, sorted by name."""
  return list(pairs.pictures(folder).items())


def matched(folder: pathlib.Path) -> list[tuple[str, pairs.Pair]]:
  """(name, pair) of blur/ (or blur_gamma/) and sharp/ in a folder or in its scenes, as in GoPro."""
  inside = [scene for scene in folder.iterdir() if scene.is_dir()]
  scenes = sorted(scene for scene in inside if _within(scene, 'sharp').is_dir())
  sharp = _within(folder, 'sharp')
  if scenes and (not sharp.is_dir() or _is_scene(sharp)):
    found = [(f'{scene.name}/{name}', pair) for scene in scenes for name, pair in matched(scene)]
    return [(name, pair._replace(name=name)) for name, pair in found]
  blurred = _within(folder, 'blur_gamma')
  if _within(folder, 'blur').is_dir() or not blurred.is_dir():
    blurred = _within(folder, 'blur')
  return [(pair.name, pair) for pair in pairs.match(blurred, sharp)]


def find(
  name: str, split: str, directory: pathlib.Path | None, contents: Callable[[pathlib.Path], list]
) -> list[tuple[str, Any]]:
  """(name, contents) of a split: from train/ or test/ if either exists, else by a hold-out.

  `contents` lists a folder, as `pictures` and `matched` do; `name` is that of the source, for
  errors. Raises ValueError without a directory, or if its subfolders are ambiguous, and
  FileNotFoundError if it or the subfolder of the split is missing.
  """
  if not directory:
    raise ValueError(f'source {name!r} requires a directory: --config.data.directory=DIR')
  if not directory.is_dir():
    raise FileNotFoundError(f'{directory}: no such folder (source {name!r} reads from it)')
  parts = {part: _within(directory, part) for part in SPLITS}
  parts = {part: folder for part, folder in parts.items() if folder.is_dir()}
  if not parts:
    return _held_out(contents(directory), split, directory)
  if split == 'all':
    return [(f'{part}/{n}', inside) for part, one in parts.items() for n, inside in contents(one)]
  if split not in parts:
    raise FileNotFoundError(f'{directory}: has {next(iter(parts))}/ but no {split}/; add it')
  return contents(parts[split])


def _is_scene(folder: pathlib.Path) -> bool:
  """Whether a folder has both halves inside; it may itself be called sharp."""
  blurred = ('blur', 'blur_gamma')
  return _within(folder, 'sharp').is_dir() and any(_within(folder, n).is_dir() for n in blurred)


def _within(folder: pathlib.Path, name: str) -> pathlib.Path:
  """The subfolder of that name, in upper or lower case; `folder / name` if there is none.

  Raises ValueError if there are several.
  """
  found = sorted(one for one in folder.iterdir() if one.name.lower() == name and one.is_dir())
  if len(found) > 1:
    both = ' and '.join(f'{one.name}/' for one in found)
    raise ValueError(f'{folder}: both {both} could be {name}/; rename one')
  return found[0] if found else folder / name


def _held_out(found: list[tuple[str, Any]], split: str, directory: pathlib.Path) -> list:
  """The contents of a folder that belong to a split, by a hold-out, in order of name."""
  if split == 'all':
    return found
  try:
    test = files.held_out(name for name, _ in found)
  except ValueError as error:
    raise ValueError(f'{directory}: {error}, or make train/ and test/') from None
  return [one for one in found if (one[0] in test) == (split == 'test')]
