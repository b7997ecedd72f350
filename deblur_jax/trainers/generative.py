"""Training of networks that restore in steps (models/indi.py, models/refine.py).

At every step, each picture of a batch gets a time of its own, and the network learns to find the
sharp picture from that point on the way to the source.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from deblur_jax import methods, models, optim, weights
from deblur_jax.metrics import METRICS
from deblur_jax.trainers import supervised
from deblur_jax.types import Batch, Trainer, TrainState

EARLIEST = 1e-3
"""The least time in training; at 0 there is nothing left to find."""


def make(config: Any, model: nn.Module) -> Trainer:
  """The trainer of `config` for an `InDI` or a `Refine`.

  Reads what the supervised trainer does, except accumulate, and config.first: the weights of the
  restorer that a `Refine` has, which are not trained.

  Raises ValueError if the network does not restore in steps, or config.first is missing, of no use,
  or does not fit.
  """
  if not hasattr(model, 'exercise'):
    raise ValueError('the generative trainer needs a network that restores in steps: indi, refine')
  if config.teacher.weights or config.teacher.weight:
    raise ValueError('generative training does not support config.teacher')
  if config.head.kind:
    raise ValueError('generative training does not support config.head')
  if config.accumulate != 1:
    raise ValueError('the generative trainer takes whole batches: set accumulate to 1')
  optimizer, rate = optim.make(config.optim, config.steps)
  pair, judge = supervised.pairing(config), supervised.content(config, model)
  frozen = getattr(model, 'frozen', None)
  first = _first(config, model) if frozen else None
  if config.first and not frozen:
    raise ValueError('config.first is for networks with a frozen restorer, such as refine')

  def trained(params):
    return {name: leaves for name, leaves in params.items() if name != frozen}

  def init(key: jax.Array, batch: Batch) -> TrainState:
    image = jax.ShapeDtypeStruct((1, *batch['sharp'].shape[1:]), jnp.float32)
    params = dict(model.lazy_init(key, image)['params'])
    if frozen:
      params[frozen] = jax.tree.map(jnp.asarray, first)
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=optimizer.init(trained(params)),
      # A copy: step donates the state, and one buffer cannot be donated twice.
      ema=jax.tree.map(jnp.copy, params) if config.ema else None,
    )

  def objective(learned, params, blurred, sharp, key):
    own, other = jax.random.split(key)
    t = jax.random.uniform(own, blurred.shape[:1], minval=EARLIEST, maxval=1.0)
    exercise: Any = model.apply(
      {'params': {**params, **learned}},
      blurred,
      sharp,
      t,
      rngs={'noise': other},
      method='exercise',
    )
    restored, target, found = exercise
    loss, terms = judge({'restored': found}, target)
    return loss, (terms, METRICS['psnr'](jnp.clip(restored, 0, 1), sharp).mean())

  gradients = jax.value_and_grad(objective, has_aux=True)

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    blur_key, time_key = jax.random.split(key)
    blurred, sharp = pair(batch, blur_key)
    learned = trained(state.params)
    (loss, (terms, psnr)), gradient = gradients(learned, state.params, blurred, sharp, time_key)
    updates, opt_state = optimizer.update(gradient, state.opt_state, learned, value=loss)
    learned: Any = optax.apply_updates(learned, updates)
    metrics = {
      'loss': loss,
      **({f'loss/{name}': term for name, term in terms.items()} if len(terms) > 1 else {}),
      'psnr': psnr,
      'gradient_norm': optax.tree.norm(gradient),
      'learning_rate': rate(state.step, state.opt_state),
    }
    ema = None
    if state.ema is not None:
      ema = {**state.ema, **optim.moving_average(trained(state.ema), learned, config.ema)}
    return TrainState(state.step + 1, {**state.params, **learned}, opt_state, ema), metrics

  def predict(state: TrainState, blurred: jax.Array) -> jax.Array:
    params = state.params if state.ema is None else state.ema
    output: Any = model.apply({'params': params}, blurred)
    return output['restored']

  return Trainer(init, step, predict)


def _first(config: Any, model: Any) -> Any:
  """The parameters of the frozen restorer, from the weights config.first."""
  if not config.first:
    raise ValueError('config.first must name the weights of the restorer, for example mobile')
  params, _ = weights.read(methods.find(config.first))
  restorer: Any = models.make(**dict(model.restorer))
  weights.check_fit(params, models.shapes(restorer), what=f'first {config.first}')
  return params
