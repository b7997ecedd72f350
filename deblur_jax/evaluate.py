"""Scores weights on the sets of a config: table, results.json, results.csv, gallery.png."""

import pathlib
from typing import Any

from rich.console import Console

from deblur_jax import runs, weights, zoo
from deblur_jax.evaluators import figures, restoration


def evaluate(config: Any, workdir: pathlib.Path, name: str) -> None:
  """Evaluates what `zoo.load(name)` gives on every set of `config.evaluate`.

  Into `workdir`/evaluated/NAME, so that a run in `workdir` keeps the scores of its own weights.
  """
  method = zoo.load(name)
  sets = restoration.open_sets(config.evaluate)
  if not sets:
    raise ValueError('this config has no sets to evaluate on: see config.evaluate')
  manifest = {} if zoo.is_solver(name) else weights.read(zoo.find(name))[1]
  called = _name_in(workdir, manifest) or method.name
  reports = restoration.evaluate(method.restore, sets, called, method.needs)
  folder = workdir / 'evaluated' / called
  folder.mkdir(parents=True, exist_ok=True)
  restoration.write(folder, reports, weights=manifest.get('chosen', ''))
  figures.save(folder / 'gallery.png', figures.gallery(reports))
  restoration.show(Console().print, folder)
  print(f'table and pictures are in {folder}')


def _name_in(workdir: pathlib.Path, manifest: dict[str, Any]) -> str:
  """What the run in `workdir` calls these weights, if they are its own; else an empty name."""
  own = workdir / zoo.RUN_WEIGHTS
  same = own.is_file() and manifest and weights.read(own)[1]['sha256'] == manifest['sha256']
  return runs.method_name(workdir) if same else ''
