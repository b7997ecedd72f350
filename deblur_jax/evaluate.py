"""Scores weights on the sets of a config: table, results.json, results.csv, gallery.png."""

import pathlib
from typing import Any

from rich.console import Console

from deblur_jax import zoo
from deblur_jax.evaluators import figures, restoration


def evaluate(config: Any, workdir: pathlib.Path, name: str) -> None:
  """Evaluates what `zoo.load(name)` gives on every set of `config.evaluate`, into `workdir`."""
  method = zoo.load(name)
  sets = restoration.open_sets(config.evaluate)
  if not sets:
    raise ValueError('this config has no sets to evaluate on: see config.evaluate')
  reports = restoration.evaluate(method.restore, sets, method.name, method.needs)
  workdir.mkdir(parents=True, exist_ok=True)
  restoration.write(workdir, reports)
  figures.save(workdir / 'gallery.png', figures.gallery(reports))
  restoration.show(Console().print, workdir)
  print(f'table and pictures are in {workdir}')
