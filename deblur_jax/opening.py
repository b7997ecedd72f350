"""Opens the run that a config describes: network, trainer, data and evaluation sets."""

from collections.abc import Callable, Mapping
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from deblur_jax import methods, models, runs, sharding, spec, weights
from deblur_jax.data import mixture, ops, pipeline, sources
from deblur_jax.evaluation import blurred_set, costs
from deblur_jax.evaluation.evaluator import VALIDATION
from deblur_jax.nn import int8, parameters
from deblur_jax.trainers import TRAINERS
from deblur_jax.types import Trainer, TrainState
from deblur_jax.uncertainty import head

MOST_VALIDATION = 32
"""Most held-out pictures to score, spread over all of them; more could cost more than training."""


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


def open_run(config: Any, workdir: pathlib.Path) -> Run:
  """The parts of the run that `config` describes; writes nothing. Raises as `train`."""
  mesh = sharding.make_mesh(config.fsdp)
  if config.start and not config.head.kind:
    _follow_width(config, workdir)
  if config.head.kind:
    _add_head(config, workdir)
  model = _model(config)
  trainer = make_trainer(config, model)
  spec.functions('writer', config.writer, {})  # fails before the folder is claimed
  source, held_out = open_source(config)
  dataset = open_dataset(config, mesh, source)
  sets = blurred_set.open_sets(config.evaluate)
  if held_out is not None:
    sets[VALIDATION] = blurred_set.Blurred(held_out, config.blur, limit=MOST_VALIDATION)
  if config.before:
    config.bgan = str(workdir / 'bgan' / methods.RUN_WEIGHTS)
  run = Run(config, workdir, mesh, model, trainer, source, dataset, sets)
  if config.start and not _starts(workdir):
    start_params(config, first_shapes(run).params)  # fails before the folder is claimed, too
  return run


def _follow_width(config: Any, workdir: pathlib.Path) -> None:
  """Sets the width of the network in `config` to that of the pruned weights that it starts from.

  Their width is that of no variant, so no config has it. A run that has started from them keeps
  it, and resumes without them.
  """
  width = models.WIDTHS.get(config.model.name)
  starts = _starts(workdir)
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


def _starts(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """What is recorded about the weights that the run in `workdir` started from, if it has begun."""
  return [one['start'] for one in runs.read(workdir)['sessions'] if 'start' in one]


def begin(run: Run) -> Callable[[jax.Array], TrainState]:
  """The function of a key that returns the state before the first step."""
  batch = {name: value for name, value in run.dataset[0].items() if name != 'name'}
  return lambda key: run.trainer.init(key, batch)


def first_shapes(run: Run) -> TrainState:
  """The state before the first step, of `jax.ShapeDtypeStruct`s."""
  with parameters.only_shapes():
    return jax.eval_shape(begin(run), jax.random.key(run.config.seed))


def start_params(config: Any, expected: Mapping[str, Any]) -> dict[str, Any]:
  """The parameters of the weights called `config.start`, see `methods.find`.

  They may be some of the `expected` ones, those of a network's base or, if there are more, those of
  later stages than the network has are left out. Raises DoesNotFit for any others.
  """
  path = methods.find(config.start)
  params, manifest = weights.read(path)
  stages = manifest.get('arguments', {}).get('stages', 0)
  if stages > config.model.get('stages', stages):
    params = weights.shared(params, expected)
  if 'base' in expected and 'base' not in params:  # a network with a head
    params = {'base': params}
  same = weights.shared(expected, params)
  if not same:
    network, own = manifest.get('network', 'another network'), config.model.name
    raise weights.DoesNotFit(
      f'config.start={config.start} has weights of {network}, but this config trains {own}: use a '
      f'recipe for {network}, or weights of {own}'
    )
  weights.check_fit(params, same, what=str(path))
  return params


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


def make_trainer(config: Any, model: Any) -> Trainer:
  """The trainer that `config` names, for `model`."""
  return spec.find('trainer', config.trainer, TRAINERS)(config, model)


def facts(run: Run) -> dict[str, Any]:
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
    **({'teacher': origin(config.teacher.weights)} if config.teacher.weights else {}),
  }


def origin(name: str) -> dict[str, Any]:
  """The name and the digest of weights that a run uses, and how they were pruned if they were."""
  manifest = weights.read(methods.find(name))[1]
  return {'weights': name, 'sha256': manifest['sha256'], **_pruned(manifest)}
