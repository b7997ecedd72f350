"""Training against a critic that distinguishes restored images from sharp ones.

In every step the critic trains for a few steps on the images that the network makes now, then the
network for one, on the content losses of `supervised` and the adversarial loss.

Without pairs the network is BGAN, which blurs sharp images: the critic distinguishes its results
from images that a camera has blurred. If the loss is 'relativistic', that is the relativistic blur
loss of Zhang et al., "Deblurring by Realistic Blurring", CVPR 2020, arXiv:2004.01860.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from deblur_jax import optim
from deblur_jax.losses.adversarial import GAN_LOSSES, gradient_penalty
from deblur_jax.metrics import METRICS
from deblur_jax.nn.patchgan import PatchGAN
from deblur_jax.trainers import supervised
from deblur_jax.types import Batch, Trainer, TrainState


class Roles(NamedTuple):
  """What the images of a step are used for, `[b h w 3]` each."""

  given: jax.Array
  """The input of the network."""
  wanted: jax.Array
  """What the content losses compare the result with."""
  real: jax.Array
  """What is real to the critic."""


def _to_restore(blurred: jax.Array, sharp: jax.Array) -> Roles:
  return Roles(given=blurred, wanted=sharp, real=sharp)


def _to_blur(blurred: jax.Array, sharp: jax.Array) -> Roles:
  return Roles(given=sharp, wanted=sharp, real=blurred)


def make(config: Any, model: nn.Module, roles: Callable[..., Roles] = _to_restore) -> Trainer:
  """The trainer of `config` for `model`, which is the generator.

  Reads what `supervised.make` reads, and config.critic: loss (see `losses.adversarial.GAN_LOSSES`),
  weight (of the adversarial loss), steps (for each of the generator's), penalty (weight of the
  gradient penalty; 0 for none) and penalty_per_pixel, ndf and n_layers (of `nn.patchgan.PatchGAN`)
  and optim. `roles(blurred, sharp)` assigns the images of a batch.
  """
  if 'critic' not in config:
    raise ValueError('adversarial training requires config.critic: start from configs/deblurgan.py')
  settings = config.critic
  if settings.loss not in GAN_LOSSES:
    raise ValueError(
      f'unknown GAN loss {settings.loss!r} (known: {", ".join(GAN_LOSSES)}): set config.critic.loss'
    )
  if settings.steps < 1:
    raise ValueError(f'config.critic.steps must be at least 1, not {settings.steps}')
  if config.first:
    raise ValueError('config.first is for the generative trainer')
  if config.head.kind:
    raise ValueError('adversarial training does not support config.head: train the head afterwards')
  if config.accumulate != 1:
    raise ValueError('adversarial training requires config.accumulate to be 1')
  if config.teacher.weights or config.teacher.weight:
    raise ValueError('adversarial training does not support config.teacher')
  gan_loss, critic = (
    GAN_LOSSES[settings.loss],
    PatchGAN(settings.ndf, settings.n_layers, model.dtype),
  )
  plain, pair = supervised.make(config, model), supervised.pairing(config)
  content = supervised.content(config, model)
  optimizer, rate = optim.make(config.optim, config.steps)
  critic_optimizer, _ = optim.make(settings.optim, config.steps * settings.steps)

  def init(key: jax.Array, batch: Batch) -> TrainState:
    own, other = jax.random.split(key)
    shape = jax.ShapeDtypeStruct((1, *batch['sharp'].shape[1:]), jnp.float32)
    params = critic.lazy_init(other, shape)['params']
    return plain.init(own, batch).replace(critic=(params, critic_optimizer.init(params)))

  def judge(params, images) -> Any:
    return critic.apply({'params': params}, images)

  def critic_loss(params, key, images, made):
    real, fake = judge(params, images), judge(params, made)
    loss = gan_loss.critic(real, fake).mean()
    values = {'critic/loss': loss, 'critic/accuracy': jnp.mean(real > fake, dtype=jnp.float32)}
    if settings.penalty:
      # The gradient for images in [-1, 1], as the critic and the penalty's authors use them.
      penalty, norm = gradient_penalty(
        key,
        lambda signed: judge(params, (signed + 1) / 2),
        2 * images - 1,
        2 * made - 1,
        per_pixel=settings.penalty_per_pixel,
      )
      values |= {'critic/penalty': penalty.mean(), 'critic/gradient_norm': norm.mean()}
      loss = loss + settings.penalty * penalty.mean()
    return loss, values

  def apply(params, given, key) -> Any:
    streams: Any = dict(zip(('dropout', 'noise'), jax.random.split(key), strict=True))
    return model.apply({'params': params}, given, train=True, rngs=streams)

  def objective(params, images, critic_params, key):
    output = apply(params, images.given, key)
    loss, terms = content(output, images.wanted)
    real, fake = judge(critic_params, images.real), judge(critic_params, output['restored'])
    terms['adversarial'] = gan_loss.generator(real, fake).mean()
    return loss + settings.weight * terms['adversarial'], (terms, output['restored'])

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    blur_key, own_key, critic_key = jax.random.split(key, 3)
    images = roles(*pair(batch, blur_key))
    made = apply(state.params, images.given, own_key)['restored']

    def learn(carry, key):
      params, opt_state = carry
      gradient, values = jax.grad(critic_loss, has_aux=True)(params, key, images.real, made)
      updates, opt_state = critic_optimizer.update(
        gradient, opt_state, params, value=values['critic/loss']
      )
      return (optax.apply_updates(params, updates), opt_state), values

    keys = jax.random.split(critic_key, settings.steps)
    judging, judged = jax.lax.scan(learn, state.critic, keys)
    (loss, (terms, restored)), gradient = jax.value_and_grad(objective, has_aux=True)(
      state.params, images, judging[0], own_key
    )
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params, value=loss)
    params = optax.apply_updates(state.params, updates)
    metrics = {
      'loss': loss,
      **{f'loss/{name}': term for name, term in terms.items()},
      **{name: values[-1] for name, values in judged.items()},
      'psnr': METRICS['psnr'](jnp.clip(restored, 0, 1), images.wanted).mean(),
      'gradient_norm': optax.tree.norm(gradient),
      'learning_rate': rate(state.step, state.opt_state),
    }
    ema = optim.moving_average(state.ema, params, config.ema) if config.ema else None
    return TrainState(state.step + 1, params, opt_state, ema, judging), metrics

  return Trainer(init, step, plain.predict)


def make_unpaired(config: Any, model: nn.Module) -> Trainer:
  """Like `make`, for BGAN: `model` blurs the sharp images as those of other scenes are blurred."""
  return make(config, model, _to_blur)
