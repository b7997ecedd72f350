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
  results = {
    set_name: list(
      restoration.restore_set(
        method.restore, pictures, method.name, method.needs, set_name=set_name
      )
    )
    for set_name, pictures in sets.items()
  }
  workdir.mkdir(parents=True, exist_ok=True)
  restoration.write(workdir, results)
  shown = [picture for pictures in results.values() for picture in pictures][:4]
  figures.save(workdir / 'gallery.png', figures.gallery(shown))
  restoration.show(Console().print, workdir)
  print(f'table and pictures are in {workdir}')
