"""Training against a critic that tells restored images from sharp ones.

In every step the critic learns for a few steps from the images that the network makes now, then the
network for one, from the content losses of `supervised` and from what the critic says.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from deblur_jax import optim
from deblur_jax.losses.adversarial import GAMES, gradient_penalty
from deblur_jax.metrics import METRICS
from deblur_jax.nn.patchgan import PatchGAN
from deblur_jax.trainers import supervised
from deblur_jax.types import Batch, Trainer, TrainState


def make(config: Any, model: nn.Module) -> Trainer:
  """The trainer of `config` for `model`, which is the generator.

  Reads what `supervised.make` reads, and config.critic: game (see `losses.adversarial.GAMES`),
  weight (of what the critic says), steps (for each of the generator's), penalty (weight of the
  gradient penalty; 0 for none) and penalty_per_pixel, ndf and n_layers (of `nn.patchgan.PatchGAN`)
  and optim.
  """
  if 'critic' not in config:
    raise ValueError(
      'this config has no critic, which adversarial training needs: begin with configs/deblurgan.py'
    )
  settings = config.critic
  if settings.game not in GAMES:
    raise ValueError(
      f'no game {settings.game!r} (known: {", ".join(GAMES)}): set config.critic.game'
    )
  if settings.steps < 1:
    raise ValueError(f'the critic takes at least one step, not {settings.steps}')
  game, critic = GAMES[settings.game], PatchGAN(settings.ndf, settings.n_layers, model.dtype)
  plain, pair = supervised.make(config, model), supervised.pairing(config)
  content = supervised.content(config, model)
  optimizer, rate = optim.make(config.optim, config.steps)
  critic_optimizer, _ = optim.make(settings.optim, config.steps * settings.steps)

  def init(key: jax.Array, batch: Batch) -> TrainState:
    own, other = jax.random.split(key)
    shape = jax.ShapeDtypeStruct((1, *batch['sharp'].shape[1:]), jnp.float32)
    params = critic.lazy_init(other, shape)['params']
    return plain.init(own, batch).replace(critic=(params, critic_optimizer.init(params)))

  def judge(params, images):
    return critic.apply({'params': params}, images)

  def critic_loss(params, key, sharp, made):
    real, fake = judge(params, sharp), judge(params, made)
    loss = game.critic(real, fake).mean()
    told = {'critic/loss': loss, 'critic/accuracy': jnp.mean(real > fake, dtype=jnp.float32)}
    if settings.penalty:
      penalty, norm = gradient_penalty(
        key, lambda x: judge(params, x), sharp, made, per_pixel=settings.penalty_per_pixel
      )
      told |= {'critic/penalty': penalty.mean(), 'critic/gradient_norm': norm.mean()}
      loss = loss + settings.penalty * penalty.mean()
    return loss, told

  def objective(params, blurred, sharp, critic_params, key):
    output = model.apply({'params': params}, blurred, train=True, rngs={'dropout': key})
    loss, terms = content(output, sharp)
    real, fake = judge(critic_params, sharp), judge(critic_params, output['restored'])
    terms['adversarial'] = game.generator(real, fake).mean()
    return loss + settings.weight * terms['adversarial'], (terms, output['restored'])

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    blur_key, dropout_key, critic_key = jax.random.split(key, 3)
    blurred, sharp = pair(batch, blur_key)
    made = model.apply({'params': state.params}, blurred, train=True, rngs={'dropout': dropout_key})
    made = made['restored']

    def learn(carry, key):
      params, opt_state = carry
      gradient, told = jax.grad(critic_loss, has_aux=True)(params, key, sharp, made)
      updates, opt_state = critic_optimizer.update(gradient, opt_state, params)
      return (optax.apply_updates(params, updates), opt_state), told

    keys = jax.random.split(critic_key, settings.steps)
    judging, told = jax.lax.scan(learn, state.critic, keys)
    (loss, (terms, restored)), gradient = jax.value_and_grad(objective, has_aux=True)(
      state.params, blurred, sharp, judging[0], dropout_key
    )
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
      'loss': loss,
      **{f'loss/{name}': term for name, term in terms.items()},
      **{name: values[-1] for name, values in told.items()},
      'psnr': METRICS['psnr'](jnp.clip(restored, 0, 1), sharp).mean(),
      'gradient_norm': optax.tree.norm(gradient),
      'learning_rate': rate(state.step),
    }
    ema = optim.moving_average(state.ema, params, config.ema) if config.ema else None
    return TrainState(state.step + 1, params, opt_state, ema, judging), metrics

  return Trainer(init, step, plain.predict)
