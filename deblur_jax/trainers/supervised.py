"""Training on pairs: the blurred picture in, losses against the sharp one."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from deblur_jax import optim
from deblur_jax.blur import synthesis
from deblur_jax.losses import LOSSES, perceptual
from deblur_jax.metrics import METRICS
from deblur_jax.types import Batch, Trainer, TrainState, as_float


def make(config: Any, model: nn.Module) -> Trainer:
  """The trainer of `config` for `model`.

  Reads config.seed, steps, optim, ema (decay, 0 for none), and what `pairing` and `content` read.
  """
  optimizer, rate = optim.make(config.optim, config.steps)
  pair, judge = pairing(config), content(config, model)

  def init(key: jax.Array, batch: Batch) -> TrainState:
    shape = (1, *batch['sharp'].shape[1:])
    params = model.lazy_init(key, jax.ShapeDtypeStruct(shape, jnp.float32))['params']
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=optimizer.init(params),
      # A copy: step donates the state, and one buffer cannot be given away twice.
      ema=jax.tree.map(jnp.copy, params) if config.ema else None,
    )

  def objective(params, blurred, sharp, key):
    output = model.apply({'params': params}, blurred, train=True, rngs={'dropout': key})
    loss, terms = judge(output, sharp)
    return loss, (terms, output['restored'])

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    blur_key, dropout_key = jax.random.split(key)
    blurred, sharp = pair(batch, blur_key)
    (loss, (terms, restored)), gradient = jax.value_and_grad(objective, has_aux=True)(
      state.params, blurred, sharp, dropout_key
    )
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
      'loss': loss,
      **({f'loss/{name}': term for name, term in terms.items()} if len(terms) > 1 else {}),
      'psnr': METRICS['psnr'](jnp.clip(restored, 0, 1), sharp).mean(),
      'gradient_norm': optax.tree.norm(gradient),
      'learning_rate': rate(state.step),
    }
    ema = optim.moving_average(state.ema, params, config.ema) if config.ema else None
    return TrainState(state.step + 1, params, opt_state, ema), metrics

  def predict(state: TrainState, blurred: jax.Array) -> jax.Array:
    params = state.params if state.ema is None else state.ema
    return model.apply({'params': params}, blurred)['restored']

  return Trainer(init, step, predict)


def pairing(config: Any) -> Callable[[Batch, jax.Array], tuple[jax.Array, jax.Array]]:
  """(batch, key) -> blurred and sharp images as floats.

  Reads config.blur, the mix that makes the blurred half of sharp pictures that come without.
  """
  degrade = synthesis.parse(config.blur)

  def pair(batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    sharp = as_float(batch['sharp'])
    if 'blurred' not in batch:
      return degrade(key, sharp), sharp
    blurred = as_float(batch['blurred'])
    if 'paired' in batch:  # a mixture, see `data.mixture`
      blurred = jnp.where(batch['paired'][:, None, None, None], blurred, degrade(key, sharp))
    return blurred, sharp

  return pair


def content(
  config: Any, model: nn.Module
) -> Callable[[Mapping[str, Any], jax.Array], tuple[jax.Array, dict[str, jax.Array]]]:
  """(output of the network, sharp) -> the weighted loss, and its terms by name.

  Reads config.loss (name -> weight), summed over the stages or scales of networks that have
  several, and config.perceptual, which compares the result alone.
  """
  weights = {name: weight for name, weight in config.loss.items() if weight}
  unknown = set(weights) - set(LOSSES)
  if unknown:
    raise ValueError(f'no loss {", ".join(sorted(unknown))} (known: {", ".join(LOSSES)})')
  seen = dict(config.perceptual)
  if seen_weight := seen.pop('weight'):
    compare = perceptual.load(**seen)

  def judge(output: Mapping[str, Any], sharp: jax.Array):
    judged = supervised(model, output, sharp)
    terms = {name: sum(LOSSES[name](*pair).mean() for pair in judged) for name in weights}
    loss = sum((weight * terms[name] for name, weight in weights.items()), jnp.zeros(()))
    if seen_weight:
      terms['perceptual'] = compare(output['restored'], sharp).mean()
      loss = loss + seen_weight * terms['perceptual']
    return loss, terms

  return judge


def supervised(
  model: nn.Module, output: Mapping[str, Any], sharp: jax.Array
) -> list[tuple[jax.Array, jax.Array]]:
  """Pairs of what a network made and what it should have made: of each stage, of each scale."""
  if 'scales' in output:
    return list(zip(output['scales'], model.pyramid(sharp), strict=True))
  return [(stage, sharp) for stage in output.get('stages', (output['restored'],))]
