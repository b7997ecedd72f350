"""The only training loop: step, log, evaluate, save, leave when asked to.

Everything that a run needs to go on lies in its folder, so the same command resumes it, with the
same result as if it had never stopped.
"""

import math
import pathlib
import signal
import time
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import fit, models, pipes, runs, sharding, weights, writers, zoo
from deblur_jax.checkpoints import Checkpoints
from deblur_jax.data import mixture, ops, pipeline, sources
from deblur_jax.evaluators import costs, figures, restoration
from deblur_jax.trainers import TRAINERS

VALIDATION = 'validation'
"""The evaluation set that the best weights are chosen on."""

MOST_VALIDATION = 32
"""Pictures of a held-out share that are scored, spread over it; more would cost more than train."""


class Diverged(ArithmeticError):
  """The loss, its gradient or the parameters are no longer finite."""


class Stopped(Exception):
  """The run was asked to leave, and saved before it did."""


def train(config: Any, workdir: pathlib.Path, *, allow_changes: bool = False) -> None:
  """Trains as `config` says, in `workdir`; resumes a run that was stopped there.

  If `config.before` is a run, it goes first, in `workdir`/bgan. `allow_changes` continues a run
  with other settings, see `runs.claim`.

  Raises:
    ValueError: the configuration does not fit the data, the devices or the run in `workdir`.
    FileNotFoundError: data that is not there.
    Diverged: loss, gradient or parameters are NaN or infinite; nothing of it was saved.
    DiskFull: no room for a checkpoint; the last one stays good.
    Stopped: SIGTERM or Ctrl-C; the state was saved.
  """
  first = jax.process_index() == 0
  mesh = sharding.make_mesh(config.fsdp)
  model = models.make(**config.model, dtype=jnp.dtype(config.dtype))
  make_trainer = pipes.find('trainer', config.trainer, TRAINERS)
  trainer = make_trainer(config, model)
  pipes.functions('writer', config.writer, {})  # what is wrong shows before the folder is claimed
  source, held_out = open_source(config)
  dataset = open_dataset(config, mesh, source)
  sets = restoration.open_sets(config.evaluate)
  if held_out is not None:
    sets[VALIDATION] = restoration.Blurred(held_out, config.blur, limit=MOST_VALIDATION)
  if config.before:
    config.bgan = str(workdir / 'bgan' / zoo.RUN_WEIGHTS)
  changes = runs.claim(workdir, config, allow_changes=allow_changes)
  if first:
    runs.record(workdir, **_facts(config, mesh, source, sets))
  if config.before:  # only now that nothing is wrong with this run
    train(config.before, workdir / 'bgan', allow_changes=allow_changes)
    trainer = make_trainer(config, model)
  with Checkpoints(workdir / 'checkpoints', best=ranking(sets)) as checkpoints:
    start = checkpoints.latest() or 0
    state = _first_state(config, trainer, dataset, mesh, checkpoints)
    if config.start and not start:
      digest = weights.read(zoo.find(config.start))[1]['sha256']
      runs.record(workdir, start={'weights': config.start, 'sha256': digest})
    hooks = writers.open_hooks(config.writer, workdir, config.to_dict()) if first else []
    with writers.Writer(
      workdir, steps=config.steps, start=start, silent=not first, hooks=hooks
    ) as writer:
      _greet(writer, config, workdir, state, mesh, start, changes)
      evaluator = _Evaluator(config, workdir, model, trainer, sets, writer, mesh)
      _loop(config, workdir, trainer, dataset, mesh, checkpoints, writer, evaluator, state, start)
    checkpoints.wait()
  if first:
    evaluator.finish()


def _facts(config, mesh, source, sets) -> dict[str, Any]:
  """What a run goes by: devices, and data with digests."""
  settings = {'train': config.data, VALIDATION: config.data, **config.evaluate}
  opened = {'train': source, **{name: one.source for name, one in sets.items()}}
  digests = {name: sources.digest(one) for name, one in opened.items()}
  return {
    'devices': f'{mesh.size} x {costs.device_name()}',
    'data': {
      name: {'source': settings[name].get('mixture') or settings[name]['source']}
      | {'split': settings[name]['split'], 'pictures': len(one), 'digest': digests[name]}
      for name, one in opened.items()
    },
    'digest': sources.DIGEST,
  }


def open_source(config: Any) -> tuple[sources.Source, sources.Source | None]:
  """The pictures to train on, as `config.data` has them, and those held out for validation.

  None are held out if `config.evaluate` has a set 'validation' of its own.
  """
  data = config.data
  if data.mixture:
    if data.validation:
      raise ValueError('no validation share can be held out of a mixture: set data.validation to 0')
    return mixture.open(data.mixture, data.split), None
  unaligned = config.trainer == 'unpaired'
  directory = data.directory or None
  source = sources.open(data.source, data.split, directory=directory, unaligned=unaligned)
  return sources.hold_out(source, 0 if VALIDATION in config.evaluate else data.validation)


def open_dataset(config: Any, mesh: Any, source: sources.Source) -> Any:
  """The batches of this process out of `source`; see `pipeline.batches`."""
  data = config.data

  def batches(chain, batch_size):
    augment = ops.parse(chain)
    return pipeline.batches(
      source,
      augment if source.aligned else sources.Apart(augment),
      batch_size=sharding.local_batch_size(batch_size, mesh),
      seed=config.seed,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )

  if not data.phases:
    return batches(data.ops, config.batch_size)
  return pipeline.in_phases(
    [(steps, batches(chain, batch_size)) for steps, chain, batch_size in data.phases]
  )


def ranking(sets: dict[str, Any]) -> str:
  """The metric that says which weights are best, the PSNR on 'validation'; '' without this set.

  Never a score on another set: the best of many on a test set says too much of itself.
  """
  return f'{VALIDATION}/psnr' if VALIDATION in sets else ''


def _first_state(config, trainer, dataset, mesh, checkpoints):
  """The newest checkpoint's state, or a fresh one, born on the devices where it will live."""
  example = {name: value for name, value in dataset[0].items() if name != 'name'}

  def begin(key):
    return trainer.init(key, example)

  key = jax.random.key(config.seed)
  abstract = jax.eval_shape(begin, key)
  layout = sharding.spread(abstract, mesh)
  if checkpoints.latest() is None:
    # Hundreds of small random draws, run once: what they take is compiling.
    options = {'xla_backend_optimization_level': 0}
    state = jax.jit(begin, out_shardings=layout, compiler_options=options)(key)
    return _begin_with(config.start, state) if config.start else state
  return checkpoints.restore(
    jax.tree.map(
      lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
      abstract,
      layout,
    )
  )


def _begin_with(name, state):
  """`state` with the parameters of the weights called `name`, see `zoo.find`.

  What they have must fit; what they lack, blocks that a network was made deeper by, stays random.
  """
  path = zoo.find(name)
  params = traverse_util.flatten_dict(weights.read(path)[0])
  random = traverse_util.flatten_dict(state.params)
  shared = {key: leaf for key, leaf in random.items() if key in params}
  fit.check(*map(traverse_util.unflatten_dict, (params, shared)), what=str(path))
  params = {
    key: jax.device_put(params[key], leaf.sharding) if key in params else leaf
    for key, leaf in random.items()
  }
  params = traverse_util.unflatten_dict(params)
  ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
  return state.replace(params=params, ema=ema)


def _greet(writer, config, workdir, state, mesh, start, changes) -> None:
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  device = mesh.devices.flat[0]
  sizes = [size for _, _, size in config.data.phases] or [config.batch_size]
  batch = f'{max(sizes)} to {min(sizes)}' if len(sizes) > 1 else sizes[0]
  writer.say(
    f'{config.model.name}, {count:,} parameters, {config.steps} steps of {batch} pictures on'
    f' {mesh.size} {device.device_kind} device{"s" * (mesh.size > 1)}, in {workdir}'
  )
  if start:
    writer.say(f'resuming from step {start}')
  if changes:
    writer.say(f'changed since the run was last started: {runs.describe(changes)}')
  if start and 'steps' in changes:
    writer.say(f'schedules that depend on the number of steps change from step {start} on')


def _loop(config, workdir, trainer, dataset, mesh, checkpoints, writer, evaluator, state, start):
  step_fn, all_finite = sharding.distributed(trainer.step, state, mesh), jax.jit(_all_finite)
  batches = pipeline.iterate(dataset, start)
  window = _Window()
  with _Leave(mesh) as leave:
    for step in range(start + 1, config.steps + 1):
      begin = time.monotonic()
      batch = next(batches)
      window.waited += time.monotonic() - begin
      batch.pop('name')
      batch = sharding.put(batch, mesh)
      state, metrics = step_fn(state, batch)
      window.add(metrics, pictures=len(batch['sharp']))
      writer.step(step)
      last = step == config.steps
      evaluate = last or step % config.evaluate_every == 0
      # Read once: a signal that comes between saving and leaving must wait for the next step.
      leaving = leave.agreed() and not last
      save = evaluate or leaving or step % config.save_every == 0
      if last or save or step % config.log_every == 0:
        means = window.close(step, dataset, checkpoints.latest())
        writer.scalars(step, means)
      if save and not all_finite(state):
        rate = f'learning rate {means["learning_rate"]:.3g}'
        advice = _advice(checkpoints.latest())
        raise Diverged(f'parameters are not finite after step {step}, {rate}: {advice}')
      scores = evaluator(step, state) if evaluate else None
      if save:
        checkpoints.save(step, state, scores)
        runs.record(workdir, step=step)
      if leaving:
        checkpoints.wait()
        raise Stopped(f'stopped at step {step} and saved: the same command goes on from there')
      if evaluate or save:
        window.restart()


def _all_finite(state) -> jax.Array:
  """Whether all parameters are numbers: the network's, their average's, the critic's."""
  params = state.params, state.ema, state.critic and state.critic[0]
  return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()


def _advice(good: int | None) -> str:
  """What is left of a run that diverged, and what to do."""
  left = 'nothing was saved before' if good is None else f'the checkpoint of step {good} is good'
  return f'{left}; lower optim.learning_rate, or set optim.clip'


class _Window:
  """The steps since the last log line: their metrics, and where the time went."""

  def __init__(self):
    self._compiled = False
    self.restart()

  def restart(self) -> None:
    self._metrics = []
    self._start_clock()

  def add(self, metrics: dict[str, jax.Array], pictures: int) -> None:
    # One step in flight: enough to keep the device busy, and the times stay honest.
    if self._metrics:
      self._metrics[-1]['loss'].block_until_ready()
    self._metrics.append(metrics)
    self._pictures += pictures
    if not self._compiled:
      # The first step compiles; it tells nothing about speed.
      metrics['loss'].block_until_ready()
      self._compiled = True
      self._start_clock()

  def close(self, step: int, dataset: Any, good: int | None) -> dict[str, float]:
    """Means over the window, pictures per second, share of the time spent waiting for data.

    Raises Diverged, naming the last `good` checkpoint, for a loss or a gradient that is not finite.
    """
    metrics = jax.device_get(self._metrics)
    for offset, one in enumerate(metrics, start=step - len(metrics) + 1):
      wrong = [name for name in ('loss', 'gradient_norm') if not math.isfinite(one[name])]
      if wrong:
        names = ', '.join(map(str, dataset[offset - 1]['name']))
        raise Diverged(
          f'the {wrong[0].replace("_", " ")} is {one[wrong[0]]} at step {offset}, learning rate '
          f'{one["learning_rate"]:.3g}, batch of {names}: {_advice(good)}'
        )
    means = {name: float(np.mean([one[name] for one in metrics])) for name in metrics[0]}
    if self._pictures:
      seconds = time.monotonic() - self._begin
      means['pictures_per_second'] = self._pictures / seconds
      means['data_wait'] = self.waited / seconds
    self.restart()
    return means

  def _start_clock(self) -> None:
    self.waited, self._pictures, self._begin = 0.0, 0, time.monotonic()


class _Evaluator:
  """Scores a state on every set; keeps the weights, figures and files of the best so far."""

  def __init__(self, config, workdir, model, trainer, sets, writer, mesh):
    self._config, self._workdir, self._model, self._mesh = config, workdir, model, mesh
    self._name = runs.method_name(workdir)
    self._sets, self._writer = sets, writer
    self._predict = sharding.apart(trainer.predict)
    self._best = self._known_best()

  def __call__(self, step: int, state: Any) -> dict[str, float] | None:
    state = sharding.local(state.replace(opt_state=None, critic=None), self._mesh)

    def restore(blurred, **known):
      del known
      return self._predict(state, blurred)

    reports = restoration.evaluate(
      restore,
      self._sets,
      self._name,
      self._model.needs,
      together=jax.local_device_count(),
    )
    scores = {
      f'{name}/{metric}': value
      for name, report in reports.items()
      for metric, value in report.mean()[self._name].items()
    }
    if scores:
      self._writer.scalars(step, scores)
      told = ', '.join(f'{name} {value:.4g}' for name, value in scores.items())
      self._writer.say(f'evaluated at step {step}: {told}')
    # Without validation every score is alike, and the last weights are kept.
    score = scores.get(ranking(self._sets), -math.inf)
    if score >= self._best and jax.process_index() == 0:
      self._best = score
      self._keep(step, state, reports, scores)
    return scores if ranking(self._sets) in scores else None

  def finish(self) -> None:
    """Draws the training curves and shows the tables: accuracies, scores of the best weights."""
    metrics = writers.read_metrics(self._workdir)
    figures.save(self._workdir / 'loss.png', figures.curves(metrics))
    accuracies = [name for name in metrics[-1] if name in {f'{one}/accuracy' for one in self._sets}]
    if accuracies:
      rows = [line for line in metrics if accuracies[0] in line]
      rows = [[str(line['step']), *(f'{line[name]:.4f}' for name in accuracies)] for line in rows]
      self._writer.say(writers.table(['step', *accuracies], rows))
    restoration.show(self._writer.say, self._workdir)
    self._writer.say(f'weights, table and pictures are in {self._workdir}')

  def _known_best(self) -> float:
    path = self._workdir / 'weights.safetensors'
    if not path.exists():
      return -math.inf
    return weights.read(path)[1]['scores'].get(ranking(self._sets), -math.inf)

  def _keep(self, step, state, reports, scores) -> None:
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
    weights.write(self._workdir / 'weights.safetensors', jax.device_get(params), manifest)
    restoration.write(self._workdir, reports, weights=manifest['chosen'])
    shown = {name: report for name, report in reports.items() if name != VALIDATION} or reports
    if shown:
      sheet = figures.gallery(shown)
      figures.save(self._workdir / 'gallery.png', sheet)
      self._writer.pictures(step, 'gallery', sheet)

  def _chosen(self, step: int, scores: dict[str, float]) -> str:
    """How these weights were chosen, as it stands beside their scores."""
    if ranking(self._sets) not in scores:
      return f'step {step} of {self._config.steps}, the latest'
    count = len(self._sets[VALIDATION])
    return f'step {step} of {self._config.steps}, best PSNR on {count} validation pictures'


class _Leave:
  """Notes SIGTERM or Ctrl-C, so that the loop can save and leave; a second one is not caught."""

  def __init__(self, mesh: Any):
    self._mesh, self._asked, self._pending = mesh, False, None

  def agreed(self) -> bool:
    """Whether to leave now, the same in all processes; one that was asked brings all the others."""
    if jax.process_count() == 1:
      return self._asked
    # What was asked a step ago is known by now, so nothing waits for the step in flight.
    before, self._pending = self._pending, sharding.anywhere(self._asked, self._mesh)
    return before is not None and bool(before)

  def __enter__(self) -> '_Leave':
    self._before = {one: signal.signal(one, self._note) for one in (signal.SIGTERM, signal.SIGINT)}
    return self

  def __exit__(self, *error: object) -> None:
    for one, handler in self._before.items():
      signal.signal(one, handler)

  def _note(self, number: int, frame: object) -> None:
    self._asked = True
    signal.signal(number, self._before[number])
