"""The only training loop: step, log, evaluate, save, stop if preempted.

Everything needed to resume a run is in its folder, so the same command continues it, with the same
result as if it had never stopped.
"""

from collections.abc import Mapping
import dataclasses
import math
import pathlib
import time
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp

from deblur_jax import methods, models, runs, sharding, spec, weights, writers
from deblur_jax.checkpoints import Checkpoints
from deblur_jax.data import mixture, ops, pipeline, sources
from deblur_jax.evaluation import blurred_set, costs
from deblur_jax.evaluation.evaluator import VALIDATION, Evaluator, ranking
from deblur_jax.nn import int8, parameters
from deblur_jax.preemption import Preemption
from deblur_jax.trainers import TRAINERS
from deblur_jax.types import Trainer, TrainState
from deblur_jax.uncertainty import head

MOST_VALIDATION = 32
"""Most held-out pictures to score, spread over all of them; more could cost more than training."""


class Diverged(ArithmeticError):
  """The loss, its gradient or the parameters are not finite."""


class Stopped(Exception):
  """The run received SIGTERM or Ctrl-C, and saved its state before stopping."""


@dataclasses.dataclass(frozen=True)
class Run:
  """The parts of a run, before its first step."""

  config: Any
  workdir: pathlib.Path
  mesh: jax.sharding.Mesh
  model: Any
  trainer: Trainer
  source: sources.Source
  dataset: Any
  """Batch t is `dataset[t]`."""
  sets: dict[str, blurred_set.Blurred]
  """The evaluation sets, by name."""


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
  run = open_run(config, workdir)
  changes = runs.claim(workdir, config, allow_changes=allow_changes)
  first = jax.process_index() == 0
  if first:
    runs.record(workdir, **_facts(run))
  if config.before:  # only after this run's settings have been checked
    train(config.before, workdir / 'bgan', allow_changes=allow_changes)
    run = dataclasses.replace(run, trainer=_trainer(config, run.model))
  with Checkpoints(workdir / 'checkpoints', best=ranking(run.sets)) as checkpoints:
    start = checkpoints.latest() or 0
    state = _first_state(run, checkpoints)
    if config.start and not start:
      manifest = weights.read(methods.find(config.start))[1]
      origin = {'weights': config.start, 'sha256': manifest['sha256'], **_pruned(manifest)}
      runs.record(workdir, start=origin)
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


def open_run(config: Any, workdir: pathlib.Path) -> Run:
  """The parts of the run that `config` describes; writes nothing. Raises as `train`."""
  mesh = sharding.make_mesh(config.fsdp)
  if config.start and not config.head.kind:
    _follow_width(config, workdir)
  if config.head.kind:
    _add_head(config, workdir)
  model = _model(config)
  trainer = _trainer(config, model)
  spec.functions('writer', config.writer, {})  # fails before the folder is claimed
  source, held_out = open_source(config)
  dataset = open_dataset(config, mesh, source)
  sets = blurred_set.open_sets(config.evaluate)
  if held_out is not None:
    sets[VALIDATION] = blurred_set.Blurred(held_out, config.blur, limit=MOST_VALIDATION)
  if config.before:
    config.bgan = str(workdir / 'bgan' / methods.RUN_WEIGHTS)
  return Run(config, workdir, mesh, model, trainer, source, dataset, sets)


def _follow_width(config: Any, workdir: pathlib.Path) -> None:
  """Sets the width of the network in `config` to that of the pruned weights that it starts from.

  Their width is that of no variant, so no config has it. A run that has started from them keeps
  it, and resumes without them.
  """
  width = models.WIDTHS.get(config.model.name)
  starts = [one['start'] for one in runs.read(workdir)['sessions'] if 'start' in one]
  if starts:
    pruned, network = 'pruned' in starts[-1], runs.settings(workdir)['model']
  else:
    manifest = weights.read(methods.find(config.start))[1]
    pruned = bool(_pruned(manifest))
    network = {**manifest.get('arguments', {}), 'name': manifest.get('network')}
  if pruned and network['name'] == config.model.name:
    config.model[width] = network[width]


def _add_head(config: Any, workdir: pathlib.Path) -> None:
  """Makes the network in `config` one with a head.

  If the network is frozen it is that of `config.start`, or of the run if that has started.
  """
  settings = config.head
  if settings.frozen and not config.start:
    raise ValueError(
      'config.head.frozen trains the head alone: set config.start to the weights it is for, or '
      'config.head.frozen to False'
    )
  network: Any = dict(config.model)
  if runs.read(workdir)['sessions']:
    network = runs.settings(workdir)['model']
  elif settings.frozen:
    manifest = weights.read(methods.find(config.start))[1]
    network = {**manifest.get('arguments', {}), 'name': manifest.get('network')}
  if network['name'] != head.NAME:
    network = head.around(network, kind=settings.kind, features=settings.features)
  with config.unlocked():
    config.model = network


def _pruned(manifest: Mapping[str, Any]) -> dict[str, Any]:
  """What the manifest says about how its weights, or those they began as, were pruned, or {}."""
  start = manifest.get('provenance', {}).get('start', {})
  found = manifest.get('pruned') or start.get('pruned')
  return {'pruned': found} if found else {}


def open_source(config: Any) -> tuple[sources.Source, sources.Source | None]:
  """The pictures to train on, from `config.data`, and those held out for validation.

  None are held out if `config.evaluate` has its own set 'validation'.
  """
  data = config.data
  if data.mixture:
    if data.validation:
      raise ValueError('a mixture does not support a validation share: set data.validation to 0')
    return mixture.open(data.mixture, data.split), None
  unaligned = config.trainer == 'unpaired'
  directory = data.directory or None
  source = sources.open(data.source, data.split, directory=directory, unaligned=unaligned)
  return sources.hold_out(source, 0 if VALIDATION in config.evaluate else data.validation)


def open_dataset(config: Any, mesh: Any, source: sources.Source) -> Any:
  """The batches of this process from `source`, see `pipeline.batches`."""
  data = config.data

  def batches(chain, batch_size):
    augment = ops.parse(chain)
    return pipeline.batches(
      source,
      augment if source.aligned else sources.Separately(augment),
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


def _model(config: Any) -> Any:
  model = models.make(**config.model, dtype=jnp.dtype(config.dtype))
  if config.quantize not in ('', 'int8'):
    raise ValueError(f"config.quantize is {config.quantize!r}; it can be 'int8', or '' for none")
  return int8.rounding(model) if config.quantize else model


def _trainer(config: Any, model: Any) -> Trainer:
  return spec.find('trainer', config.trainer, TRAINERS)(config, model)


def _facts(run: Run) -> dict[str, Any]:
  """What provenance.json records about a run: devices, data and teacher, with digests."""
  config = run.config
  data = config.data.to_dict()
  settings = {'train': data, VALIDATION: data, **config.evaluate}
  opened = {'train': run.source, **{name: one.source for name, one in run.sets.items()}}
  digests = {name: sources.digest(one) for name, one in opened.items()}
  return {
    'devices': f'{run.mesh.size} x {costs.device_name()}',
    'data': {
      name: {'source': settings[name].get('mixture') or settings[name]['source']}
      | {'split': settings[name]['split'], 'pictures': len(one), 'digest': digests[name]}
      for name, one in opened.items()
    },
    'digest': sources.DIGEST,
    **({'teacher': _origin(config.teacher.weights)} if config.teacher.weights else {}),
  }


def _origin(name: str) -> dict[str, Any]:
  """The name and the digest of weights that a run uses."""
  return {'weights': name, 'sha256': weights.read(methods.find(name))[1]['sha256']}


def _first_state(run: Run, checkpoints: Checkpoints) -> TrainState:
  """The newest checkpoint's state, or a new one."""
  example = {name: value for name, value in run.dataset[0].items() if name != 'name'}

  def begin(key):
    return run.trainer.init(key, example)

  key = jax.random.key(run.config.seed)
  if checkpoints.latest() is None:
    # Hundreds of small random draws, run once: most of the time is compilation, which for a GPU
    # takes minutes.
    options = {'xla_backend_optimization_level': 0}
    with jax.default_device(sharding.cpu()):
      state = jax.jit(begin, compiler_options=options)(key)
      if run.config.start:
        state = _begin_with(run.config, state)
    return jax.device_put(state, sharding.spread(state, run.mesh))
  with parameters.only_shapes():
    abstract = jax.eval_shape(begin, key)
  return checkpoints.restore(
    jax.tree.map(
      lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
      abstract,
      sharding.spread(abstract, run.mesh),
    )
  )


def _begin_with(config, state):
  """`state` with the parameters of the weights called `config.start`, see `methods.find`.

  All of the weights must fit, except those of later stages than the network has; parameters without
  weights, as in a deeper network, stay random.
  """
  path = methods.find(config.start)
  params, manifest = weights.read(path)
  stages = manifest.get('arguments', {}).get('stages', 0)
  if stages > config.model.get('stages', stages):
    params = weights.shared(params, state.params)
  if 'base' in state.params and 'base' not in params:  # a network with a head
    params = {'base': params}
  weights.check_fit(params, weights.shared(state.params, params), what=str(path))
  given = traverse_util.flatten_dict(params)
  leaves: dict[Any, Any] = traverse_util.flatten_dict(state.params)
  merged = {
    key: jax.device_put(given[key], leaf.sharding) if key in given else leaf
    for key, leaf in leaves.items()
  }
  params = traverse_util.unflatten_dict(merged)
  ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
  return state.replace(params=params, ema=ema)


def _greet(run: Run, writer: writers.Writer, state: TrainState, start: int, changes: Any) -> None:
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
