"""Training on pairs: from the blurred picture, with losses against the sharp one."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from deblur_jax import losses, methods, models, optim, spec
from deblur_jax import weights as files
from deblur_jax.blur import synthesis
from deblur_jax.losses import LOSSES, interval, perceptual
from deblur_jax.metrics import METRICS
from deblur_jax.types import Batch, Trainer, TrainState, as_float

Pair = Callable[[Batch, jax.Array], tuple[jax.Array, ...]]
"""(batch, key) -> blurred and sharp images, and what else the network is given."""


def make(config: Any, model: nn.Module, pair: Pair | None = None) -> Trainer:
  """The trainer of `config` for `model`.

  Reads config.seed, steps, optim, ema (decay, 0 for none), accumulate (parts of a batch, processed
  one after another), and what `pairing`, `content` and `teacher` read. With a teacher, the losses
  against its result are added, config.teacher.weight times, to those against the sharp images
  (distillation, Hinton et al. 2015, arXiv:1503.02531). `pair` replaces `pairing`.
  """
  if config.first and pair is None:
    raise ValueError('config.first is for the generative and the guided trainer')
  for size in [size for _, _, size in config.data.phases] or [config.batch_size]:
    if size % config.accumulate:
      raise ValueError(f'accumulate {config.accumulate} does not divide a batch of {size} pictures')
  optimizer, rate = optim.make(config.optim, config.steps)
  judge, taught = content(config, model), teacher(config)
  pair = pair or pairing(config)
  frozen = config.head.kind and config.head.frozen
  if frozen and taught:
    raise ValueError(
      'a frozen network learns nothing from config.teacher: set head.frozen to False'
    )

  def init(key: jax.Array, batch: Batch) -> TrainState:
    shape = (1, *batch['sharp'].shape[1:])
    params = model.lazy_init(key, jax.ShapeDtypeStruct(shape, jnp.float32))['params']
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=optimizer.init(params),
      # A copy: step donates the state, and one buffer cannot be donated twice.
      ema=jax.tree.map(jnp.copy, params) if config.ema else None,
    )

  def objective(params, images, key):
    blurred, sharp, *more = images
    rngs = {'dropout': key}
    output: Any = model.apply({'params': params}, blurred, *more, train=True, rngs=rngs)
    loss, terms = judge(output, sharp)
    if taught:
      terms['teacher'] = judge(output, taught(blurred))[0]
      loss = loss + config.teacher.weight * terms['teacher']
    restored = jnp.clip(output['restored'], 0, 1)
    return loss, (terms, METRICS['psnr'](restored, sharp).mean())

  gradients = in_parts(jax.value_and_grad(objective, has_aux=True), config.accumulate)

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    blur_key, dropout_key = jax.random.split(key)
    images = pair(batch, blur_key)
    (loss, (terms, psnr)), gradient = gradients(state.params, images, dropout_key)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params, value=loss)
    params: Any = optax.apply_updates(state.params, updates)
    metrics = {
      'loss': loss,
      **({f'loss/{name}': term for name, term in terms.items()} if len(terms) > 1 else {}),
      'psnr': psnr,
      'gradient_norm': optax.tree.norm(gradient),
      'learning_rate': rate(state.step, state.opt_state),
    }
    ema: Any = optim.moving_average(state.ema, params, config.ema) if config.ema else None
    if frozen:  # neither weight decay nor rounding may change it
      params = {**params, 'base': state.params['base']}
      ema = ema and {**ema, 'base': state.ema['base']}
    return TrainState(state.step + 1, params, opt_state, ema), metrics

  def predict(state: TrainState, blurred: jax.Array) -> jax.Array:
    params = state.params if state.ema is None else state.ema
    output: Any = model.apply({'params': params}, blurred)
    return output['restored']

  return Trainer(init, step, predict)


def in_parts(gradients: Callable[..., Any], count: int) -> Callable[..., Any]:
  """`gradients(params, images, key)` as the mean over `count` equal parts of a batch.

  Uses the memory of one part. What `gradients` returns must be a mean over the batch.
  """
  if count == 1:
    return gradients

  def whole(params, images, key):
    # Strided, so that every device has images in every part.
    parts = [jnp.moveaxis(one.reshape(-1, count, *one.shape[1:]), 1, 0) for one in images]

    def add(total, part):
      return jax.tree.map(jnp.add, total, gradients(params, *part)), None

    parts = (parts, jax.random.split(key, count))
    first = jax.eval_shape(gradients, params, *jax.tree.map(lambda part: part[0], parts))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), first)
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda leaf: leaf / count, total)

  return whole


def pairing(config: Any) -> Callable[[Batch, jax.Array], tuple[jax.Array, jax.Array]]:
  """(batch, key) -> blurred and sharp images as floats.

  Sharp pictures without a blurred half get one here: first from the BGAN whose weights are in
  config.bgan, if given, then from the mix in config.blur. With config.mixup every pair is blended
  with another, by a share from Beta(mixup, mixup) that is the same for the whole batch, in a
  fraction config.mixup_probability of the batches (Zhang et al. 2018, arXiv:1710.09412).
  """
  mix = synthesis.parse(config.blur)
  generate = _generator(config.bgan) if config.bgan else None

  def degrade(key: jax.Array, sharp: jax.Array) -> jax.Array:
    if generate is None:
      return mix(key, sharp)
    own, other = jax.random.split(key)
    return mix(other, jnp.clip(generate(own, sharp), 0, 1))

  def pair(batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    sharp = as_float(batch['sharp'])
    if 'blurred' not in batch:
      return degrade(key, sharp), sharp
    blurred = as_float(batch['blurred'])
    if 'paired' in batch:  # a mixture, see `data.mixture`
      blurred = jnp.where(batch['paired'][:, None, None, None], blurred, degrade(key, sharp))
    return blurred, sharp

  def mixed(batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    own, other, chance = jax.random.split(key, 3)
    share = jax.random.beta(other, config.mixup, config.mixup)
    share = jnp.where(jax.random.uniform(chance) < config.mixup_probability, share, 1.0)
    blurred, sharp = pair(batch, own)
    # Batches are in random order, so the next image is a random one.
    x, y = (share * x + (1 - share) * jnp.roll(x, 1, axis=0) for x in (blurred, sharp))
    return x, y

  return mixed if config.mixup else pair


def _generator(path: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """(key, sharp) -> blurred: the BGAN in a weights file, which is not trained here."""
  params, manifest = files.read(path)
  if manifest.get('network') != 'bgan':
    raise ValueError(f'bgan {path}: weights of {manifest.get("network")}, not of bgan')
  model = models.make('bgan', **manifest['arguments'])

  def blurred(key: jax.Array, sharp: jax.Array) -> jax.Array:
    output: Any = model.apply({'params': params}, sharp, rngs={'noise': key})
    return output['restored']

  return blurred


def teacher(config: Any) -> Callable[[jax.Array], jax.Array] | None:
  """blurred -> what the network in config.teacher.weights restores; None if there is no teacher.

  It computes in config.dtype and is not trained; images are padded to what it needs by reflection.
  Raises ValueError if the teacher has weights but no weight, or the reverse.
  """
  name, weight = config.teacher.weights, config.teacher.weight
  if not name and not weight:
    return None
  if not name or not weight > 0:
    raise ValueError('config.teacher requires both weights and a weight above 0')
  params, manifest = files.read(methods.find(name))
  model = models.make(
    manifest['network'], **{**manifest['arguments'], 'dtype': jnp.dtype(config.dtype)}
  )
  multiple = model.needs.multiple

  def restored(blurred: jax.Array) -> jax.Array:
    height, width = blurred.shape[1:3]
    margins = (0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)
    output: Any = model.apply({'params': params}, jnp.pad(blurred, margins, 'symmetric'))
    return output['restored'][:, :height, :width]

  return restored


def content(
  config: Any, model: nn.Module
) -> Callable[[Mapping[str, Any], jax.Array], tuple[jax.Array, dict[str, jax.Array]]]:
  """(output of the network, sharp) -> the weighted loss, and its terms by name.

  Reads config.loss (name -> weight) and config.more_loss (see `losses.parse`), summed over the
  stages or scales of networks that have several, and config.perceptual, which only compares the
  final result. If config.head has a kind, its loss is added, or the only one if the network is
  frozen.
  """
  own = {name: weight for name, weight in config.loss.items() if weight}
  known = {name: (weight, spec.find('loss', name, LOSSES)) for name, weight in own.items()}
  more = losses.parse(config.more_loss)
  if both := sorted(more.keys() & own.keys()):
    raise ValueError(f'loss {", ".join(both)} is in both config.loss and config.more_loss')
  terms_of = {name: one for name, one in (known | more).items() if one[0]}
  seen = dict(config.perceptual)
  seen_weight = seen.pop('weight')
  compare = perceptual.load(**seen) if seen_weight else None
  head = config.head
  alone = head.kind and head.frozen

  def of_head(output: Mapping[str, Any], sharp: jax.Array) -> jax.Array:
    if head.kind == 'variance':
      restored = jax.lax.stop_gradient(output['restored'])
      return interval.beta_nll(output['log_variance'], restored, sharp, beta=head.beta).mean()
    low, high = head.outside / 2, 1 - head.outside / 2
    below = interval.pinball(output['low'], sharp, quantile=low)
    return (below + interval.pinball(output['high'], sharp, quantile=high)).mean()

  def judge(output: Mapping[str, Any], sharp: jax.Array):
    if alone:
      loss = of_head(output, sharp)
      return loss, {'head': loss}
    judged = supervised(model, output, sharp)
    terms: dict[str, Any] = {
      name: sum(loss(*pair).mean() for pair in judged) for name, (_, loss) in terms_of.items()
    }
    loss = sum((weight * terms[name] for name, (weight, _) in terms_of.items()), jnp.zeros(()))
    if compare:
      terms['perceptual'] = compare(output['restored'], sharp).mean()
      loss = loss + seen_weight * terms['perceptual']
    if head.kind:
      terms['head'] = of_head(output, sharp)
      loss = loss + head.weight * terms['head']
    return loss, terms

  return judge


def supervised(
  model: nn.Module, output: Mapping[str, Any], sharp: jax.Array
) -> list[tuple[jax.Array, jax.Array]]:
  """Pairs of what a network made and what it should have made, for each stage or scale."""
  if 'scales' in output:
    return list(zip(output['scales'], model.pyramid(sharp), strict=True))
  return [(stage, sharp) for stage in output.get('stages', (output['restored'],))]
