"""The only training loop: step, log, evaluate, save, stop if preempted.

Everything needed to resume a run is in its folder, so the same command continues it, with the same
result as if it had never stopped.
"""

import dataclasses
import math
import pathlib
import time
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp

from deblur_jax import opening, runs, sharding, writers
from deblur_jax.checkpoints import Checkpoints
from deblur_jax.data import pipeline
from deblur_jax.evaluation.evaluator import Evaluator, ranking
from deblur_jax.preemption import Preemption
from deblur_jax.types import TrainState


class Diverged(ArithmeticError):
  """The loss, its gradient or the parameters are not finite."""


class Stopped(Exception):
  """The run received SIGTERM or Ctrl-C, and saved its state before stopping."""


def train(config: Any, workdir: pathlib.Path, *, allow_changes: bool = False) -> None:
  """Trains the run of `config` in `workdir`; resumes a run that was stopped there.

  If `config.before` is set, that run is trained first, in `workdir`/bgan. `allow_changes` continues
  a run with other settings, see `runs.claim`.

  Raises:
    ValueError: the configuration does not fit the data, the devices or the run in `workdir`.
    FileNotFoundError: missing data.
    Diverged: loss, gradient or parameters are NaN or infinite; that state was not saved.
    DiskFull: no space for a checkpoint; the last one is intact.
    Stopped: SIGTERM or Ctrl-C; the state was saved.
  """
  run = opening.open_run(config, workdir)
  changes = runs.claim(workdir, config, allow_changes=allow_changes)
  first = jax.process_index() == 0
  if first:
    runs.record(workdir, **opening.facts(run))
  if config.before:  # only after this run's settings have been checked
    train(config.before, workdir / 'bgan', allow_changes=allow_changes)
    run = dataclasses.replace(run, trainer=opening.make_trainer(config, run.model))
  with Checkpoints(workdir / 'checkpoints', best=ranking(run.sets)) as checkpoints:
    start = checkpoints.latest() or 0
    state = _first_state(run, checkpoints)
    if config.start and not start:
      runs.record(workdir, start=opening.origin(config.start))
    hooks = writers.open_hooks(config.writer, workdir, config.to_dict()) if first else []
    with writers.Writer(
      workdir, steps=config.steps, start=start, silent=not first, hooks=hooks
    ) as writer:
      _greet(run, writer, state, start, changes)
      evaluator = Evaluator(config, workdir, run.model, run.trainer, run.sets, writer, run.mesh)
      _loop(run, checkpoints, writer, evaluator, state, start)
    checkpoints.wait()
  if first:
    evaluator.finish()


def _first_state(run: opening.Run, checkpoints: Checkpoints) -> TrainState:
  """The newest checkpoint's state, or a new one."""
  if checkpoints.latest() is None:
    # Hundreds of small random draws, run once: most of the time is compilation, which for a GPU
    # takes minutes.
    options = {'xla_backend_optimization_level': 0}
    with jax.default_device(sharding.cpu()):
      key = jax.random.key(run.config.seed)
      state = jax.jit(opening.begin(run), compiler_options=options)(key)
      if run.config.start:
        state = _begin_with(run.config, state)
    return jax.device_put(state, sharding.spread(state, run.mesh))
  abstract = opening.first_shapes(run)
  return checkpoints.restore(
    jax.tree.map(
      lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
      abstract,
      sharding.spread(abstract, run.mesh),
    )
  )


def _begin_with(config, state):
  """`state` with the parameters of the weights that the run starts from.

  Parameters without weights, as in a deeper network, stay random.
  """
  params = opening.start_params(config, state.params)
  given = traverse_util.flatten_dict(params)
  leaves: dict[Any, Any] = traverse_util.flatten_dict(state.params)
  merged = {
    key: jax.device_put(given[key], leaf.sharding) if key in given else leaf
    for key, leaf in leaves.items()
  }
  params = traverse_util.unflatten_dict(merged)
  ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
  return state.replace(params=params, ema=ema)


def _greet(
  run: opening.Run, writer: writers.Writer, state: TrainState, start: int, changes: Any
) -> None:
  config, mesh = run.config, run.mesh
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  device = mesh.devices.flat[0]
  sizes = [size for _, _, size in config.data.phases] or [config.batch_size]
  batch = f'{max(sizes)} to {min(sizes)}' if len(sizes) > 1 else sizes[0]
  writer.say(
    f'{config.model.name}, {count:,} parameters, {config.steps} steps of {batch} pictures on'
    f' {mesh.size} {device.device_kind} device{"s" * (mesh.size > 1)}, in {run.workdir}'
  )
  if start:
    writer.say(f'resuming from step {start}')
  if changes:
    writer.say(f'changed since the last session: {runs.describe(changes)}')
  if start and 'steps' in changes:
    writer.say(f'from step {start} on, schedules follow the new number of steps')


def _loop(run, checkpoints, writer, evaluator, state, start) -> None:
  config = run.config
  step_fn, all_finite = sharding.distributed(run.trainer.step, state, run.mesh), jax.jit(_finite)
  batches = pipeline.iterate(run.dataset, start)
  window = writers.Window()
  with Preemption(run.mesh) as preemption:
    for step in range(start + 1, config.steps + 1):
      begin = time.monotonic()
      batch = next(batches)
      window.waited += time.monotonic() - begin
      batch.pop('name')
      batch = sharding.put(batch, run.mesh)
      state, metrics = step_fn(state, batch)
      window.add(metrics, pictures=len(batch['sharp']))
      writer.step(step)
      last = step == config.steps
      evaluate = last or step % config.evaluate_every == 0
      # Read once: a signal between saving and stopping must wait for the next step.
      stopping = preemption.agreed() and not last
      save = evaluate or stopping or step % config.save_every == 0
      if save or step % config.log_every == 0:
        each, means = window.close()
        _check_metrics(each, step, run.dataset, checkpoints.latest())
        writer.scalars(step, means)
      if save and not all_finite(state):
        rate, advice = means['learning_rate'], _advice(checkpoints.latest())
        raise Diverged(
          f'parameters are not finite after step {step}, learning rate {rate:.3g}: {advice}'
        )
      scores = evaluator(step, state) if evaluate else None
      if save:
        checkpoints.save(step, state, scores)
        runs.record(run.workdir, step=step)
      if stopping:
        checkpoints.wait()
        raise Stopped(f'stopped at step {step} and saved: run the same command to resume')
      if evaluate or save:
        window.restart()


def _check_metrics(each: list[dict[str, Any]], step: int, dataset: Any, good: int | None) -> None:
  """Raises Diverged if a loss or a gradient norm in the steps up to `step` is not finite.

  `good` is the step of the last checkpoint.
  """
  for number, metrics in enumerate(each, start=step - len(each) + 1):
    wrong = [name for name in ('loss', 'gradient_norm') if not math.isfinite(metrics[name])]
    if wrong:
      names = ', '.join(map(str, dataset[number - 1]['name']))
      raise Diverged(
        f'the {wrong[0].replace("_", " ")} is {metrics[wrong[0]]} at step {number}, learning rate '
        f'{metrics["learning_rate"]:.3g}, batch of {names}: {_advice(good)}'
      )


def _finite(state: TrainState) -> jax.Array:
  """Whether all parameters are finite: the network's, their average, the critic's."""
  params = state.params, state.ema, state.critic and state.critic[0]
  return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()


def _advice(good: int | None) -> str:
  """Which checkpoint a run that diverged has, and what to do."""
  left = 'no checkpoint was saved' if good is None else f'the checkpoint of step {good} is intact'
  return f'{left}; lower optim.learning_rate, or set optim.clip'
