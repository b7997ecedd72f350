"""Scores a training state on every evaluation set and keeps the best weights so far on disk."""

from collections.abc import Mapping
import math
import pathlib
from typing import Any

import jax

from deblur_jax import methods, runs, sharding, weights, writers
from deblur_jax.evaluation import blurred_set, figures, restoration
from deblur_jax.types import Trainer, TrainState

VALIDATION = 'validation'
"""The evaluation set that the best weights are chosen on."""


def ranking(sets: Mapping[str, Any]) -> str:
  """The metric that the best weights are chosen by, the PSNR on 'validation'; '' without that set.

  Never a score on another set: choosing by scores on a test set would bias them.
  """
  return f'{VALIDATION}/psnr' if VALIDATION in sets else ''


class Evaluator:
  """Called with a step and its state: scores it on `sets` and keeps the best weights in `workdir`.

  Also writes the scores and a gallery of these weights. Without validation it keeps the latest.
  """

  def __init__(
    self,
    config: Any,
    workdir: pathlib.Path,
    model: Any,
    trainer: Trainer,
    sets: Mapping[str, blurred_set.Blurred],
    writer: writers.Writer,
    mesh: Any,
  ):
    self._config, self._workdir, self._needs, self._mesh = config, workdir, model.needs, mesh
    self._name = runs.method_name(workdir)
    self._sets, self._writer = sets, writer
    self._ranking = ranking(sets)
    self._predict = sharding.per_device(trainer.predict)
    self._best = self._known_best()

  def __call__(self, step: int, state: TrainState) -> dict[str, float] | None:
    """The scores, 'set/metric' -> mean; None without a score to choose the best weights by."""
    state = sharding.local(state.replace(opt_state=None, critic=None), self._mesh)

    def restore(blurred, **known):
      del known
      return self._predict(state, blurred)

    together = jax.local_device_count()
    reports = restoration.evaluate(restore, self._sets, self._name, self._needs, together=together)
    scores = {
      f'{name}/{metric}': value
      for name, report in reports.items()
      for metric, value in report.mean()[self._name].items()
    }
    if scores:
      self._writer.scalars(step, scores)
      listed = ', '.join(f'{name} {value:.4g}' for name, value in scores.items())
      self._writer.say(f'evaluated at step {step}: {listed}')
    score = scores.get(self._ranking, -math.inf)
    if score >= self._best and jax.process_index() == 0:
      self._best = score
      self._keep(step, state, reports, scores)
    return scores if self._ranking in scores else None

  def finish(self) -> None:
    """Plots the training curves; prints accuracies by step and the table of the best weights."""
    metrics = writers.read_metrics(self._workdir)
    figures.save(self._workdir / 'loss.png', figures.curves(metrics))
    accuracies = [name for name in metrics[-1] if name in {f'{one}/accuracy' for one in self._sets}]
    if accuracies:
      rows = [line for line in metrics if accuracies[0] in line]
      rows = [[str(line['step']), *(f'{line[name]:.4f}' for name in accuracies)] for line in rows]
      self._writer.say(writers.table(['step', *accuracies], rows))
    restoration.show(self._writer.say, self._workdir)
    self._writer.say(f'wrote weights, scores and pictures to {self._workdir}')

  def _known_best(self) -> float:
    path = self._workdir / methods.RUN_WEIGHTS
    if not path.exists():
      return -math.inf
    return weights.read(path)[1]['scores'].get(self._ranking, -math.inf)

  def _keep(self, step: int, state: TrainState, reports, scores: dict[str, float]) -> None:
    params = state.params if state.ema is None else state.ema
    runs.record(self._workdir, step=step)
    manifest = {
      'network': self._config.model.name,
      'arguments': {name: value for name, value in self._config.model.items() if name != 'name'},
      'step': step,
      'chosen': self._chosen(step, scores),
      'scores': scores,
      'blurred': {
        f'{name}/{metric}': value
        for name, report in reports.items()
        for metric, value in report.mean()[restoration.BLURRED].items()
      },
      'provenance': runs.summary(self._workdir),
    }
    weights.write(self._workdir / methods.RUN_WEIGHTS, jax.device_get(params), manifest)
    restoration.write(self._workdir, reports, weights=manifest['chosen'])
    shown = {name: report for name, report in reports.items() if name != VALIDATION} or reports
    if shown:
      sheet = figures.gallery(shown)
      figures.save(self._workdir / 'gallery.png', sheet)
      self._writer.pictures(step, 'gallery', sheet)

  def _chosen(self, step: int, scores: dict[str, float]) -> str:
    """How these weights were chosen, to be shown with their scores."""
    if self._ranking not in scores:
      return f'step {step} of {self._config.steps}, the latest'
    count = len(self._sets[VALIDATION])
    return f'step {step} of {self._config.steps}, best PSNR on {count} validation pictures'
