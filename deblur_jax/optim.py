"""Optimizer, learning-rate schedule and moving average from plain settings."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from deblur_jax import spec


def schedule(
  kind: str,
  learning_rate: float,
  steps: int,
  *,
  warmup: int = 0,
  hold: int = 0,
  final: float = 0.0,
  power: float = 1.0,
  boundaries: tuple[int, ...] = (),
  factor: float = 0.5,
  stair: int = 1,
) -> optax.Schedule:
  """The learning rate as a function of the step, counted from 0.

  Args:
    kind: 'cosine', 'polynomial' or 'exponential' (decay to `final` at `steps`), 'step' (times
      `factor` at each of `boundaries`), or 'constant'.
    learning_rate: the rate after warm-up.
    steps: length of the training, warm-up included.
    warmup: steps of linear rise; the first step already has `learning_rate / warmup`.
    hold: steps after warm-up before the rate begins to decay; ignored by 'step' and 'constant'.
    final: the rate at the end; above 0 for 'exponential'.
    power: exponent of 'polynomial'; 1 is a straight line.
    boundaries: steps at which 'step' changes the rate.
    factor: what 'step' multiplies by.
    stair: the rate is held for this many steps, for authors who update their schedule once per
      epoch; `warmup`, `steps` and `boundaries` are still counted in steps.
  """
  hold = 0 if kind in ('step', 'constant') else hold
  warmup_stairs, hold_stairs = warmup // stair, hold // stair
  falling = max(steps // stair - warmup_stairs - hold_stairs, 1)
  if kind == 'exponential' and final <= 0:
    raise ValueError("an 'exponential' schedule never reaches 0: set optim.final above 0")
  if kind == 'cosine':
    after = optax.cosine_decay_schedule(learning_rate, falling, final / learning_rate)
  elif kind == 'polynomial':
    after = optax.polynomial_schedule(learning_rate, final, power, falling)
  elif kind == 'exponential':
    after = optax.exponential_decay(learning_rate, falling, final / learning_rate)
  elif kind == 'step':
    after = optax.piecewise_constant_schedule(
      learning_rate, {boundary // stair - warmup_stairs: factor for boundary in boundaries}
    )
  elif kind == 'constant':
    after = optax.constant_schedule(learning_rate)
  else:
    known = 'cosine, polynomial, exponential, step, constant, plateau'
    raise ValueError(f'no schedule {kind!r} (known: {known}): set optim.schedule')

  def rate(count: Any) -> jax.Array:
    count = jnp.asarray(count) // stair
    rising = learning_rate * (count + 1) / max(warmup_stairs, 1)
    late = jnp.maximum(count - warmup_stairs - hold_stairs, 0)
    return jnp.where(count < warmup_stairs, rising, after(late))

  return rate


class Optimizer(NamedTuple):
  """An optimizer with its schedule."""

  transform: optax.GradientTransformationExtraArgs
  """Its `update` also takes the loss, as `value`, by which a plateau is detected."""
  rate: Callable[[jax.Array, Any], jax.Array]
  """(step, optimizer state) -> the learning rate."""


def make(settings: Mapping[str, Any], steps: int) -> Optimizer:
  """The optimizer of `config.optim`.

  Args:
    settings: name ('adam', 'adamw', or an external one with its options, which is called with the
      schedule as `learning_rate`: 'optax:sgd(momentum=0.9)'), b1, b2 (for adam and adamw),
      weight_decay (for adamw), clip (global norm; 0 for none), patience, and the arguments of
      `schedule`, with its kind as `schedule`. If that is 'plateau', the rate is multiplied by
      `factor` when the mean loss over `stair` steps has not fallen by 1e-4 for `patience` such
      spans, down to `final` (Keras's ReduceLROnPlateau, on the training loss).
    steps: length of the training.
  """
  settings = dict(settings)
  name, clip = settings.pop('name'), settings.pop('clip')
  betas = {'b1': settings.pop('b1'), 'b2': settings.pop('b2')}
  weight_decay, patience = settings.pop('weight_decay'), settings.pop('patience')
  kind, learning_rate = settings.pop('schedule'), settings.pop('learning_rate')
  if kind == 'plateau':
    falling = schedule('constant', learning_rate, steps, warmup=settings['warmup'])
  else:
    falling = schedule(kind, learning_rate, steps, **settings)
  if name == 'adam':
    if weight_decay:
      raise ValueError('adam has no weight decay: set optim.name to adamw, or weight_decay to 0')
    optimizer = optax.adam(falling, **betas)
  elif name == 'adamw':
    optimizer = optax.adamw(falling, **betas, weight_decay=weight_decay)
  else:
    known = {'adam': optax.adam, 'adamw': optax.adamw}
    found = spec.functions('optim.name', name, known, positional=0, named=('learning_rate',))
    if len(found) != 1 or weight_decay:
      raise ValueError(
        f'optimizer {name!r}: give one external optimizer with its options, such as '
        'optax:sgd(momentum=0.9); optim.weight_decay is for adamw only'
      )
    optimizer = next(iter(found.values()))(learning_rate=falling)
  if clip:
    optimizer = optax.chain(optax.clip_by_global_norm(clip), optimizer)
  if kind == 'plateau':
    plateau = optax.contrib.reduce_on_plateau(
      settings['factor'],
      patience,
      rtol=0.0,
      atol=1e-4,
      accumulation_size=settings['stair'],
      min_scale=settings['final'] / learning_rate,
    )
    # Last in the chain, where `rate` finds it.
    optimizer = optax.chain(optimizer, plateau)

  def rate(step: jax.Array, state: Any) -> jax.Array:
    return jnp.asarray(falling(step) * (state[-1].scale if kind == 'plateau' else 1))

  return Optimizer(optax.with_extra_args_support(optimizer), rate)


def moving_average(average: Any, params: Any, decay: float) -> Any:
  """`decay * average + (1 - decay) * params`, leaf by leaf."""
  return optax.incremental_update(params, average, 1 - decay)
