"""Training of networks that remove what a prompt asks for (models/instructir.py).

Every picture gets some faults, and a sentence asks to remove one of them, or several. The target is
the same picture without these, and with the other faults exactly as they are. So the network learns
to leave blur alone if it is asked to remove noise. A network without words learns to remove all.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deblur_jax import methods, weights
from deblur_jax.blur import synthesis
from deblur_jax.guidance import sentences, words
from deblur_jax.trainers import supervised
from deblur_jax.types import Batch, Trainer, as_float

SENTENCES = 256
"""Of each kind."""

NAMED = 0.8
"""Share of the pictures that certainly have a fault that the sentence names."""

ORDER = ('dark', 'motion', 'defocus', 'noise', 'jpeg')
"""In which faults happen to a picture: light, camera, file."""


def make(config: Any, model: nn.Module) -> Trainer:
  """The trainer of `config` for a network that is called with words and masks.

  Reads what the supervised trainer does, except blur, bgan and mixup, and

  - config.faults: fault (see `guidance.words.FAULTS`) -> the mix of steps that causes it,
  - config.fault_probability: that a picture has a fault, for each of them; most have one of those
    that are named,
  - config.mask_probability: that it has a region that is to stay as it is,
  - config.first: weights of a network without words that training starts from.

  Raises ValueError if the network takes no prompt, for unknown faults, for pictures that come
  in pairs, and if the weights do not fit.
  """
  if not getattr(model, 'reads_masks', False):
    raise ValueError('the guided trainer needs a network that takes prompts: instructir')
  if unknown := sorted(set(config.faults) - set(words.FAULTS)):
    known = ', '.join(words.FAULTS)
    raise ValueError(f'config.faults: no fault {", ".join(unknown)} (known: {known})')
  if not config.faults:
    raise ValueError('config.faults is empty: name at least one fault')
  if config.mixup or config.bgan or config.teacher.weights:
    raise ValueError('the guided trainer supports neither mixup nor bgan nor config.teacher')
  plain = supervised.make(config, model, pairing(config, reads_words=model.reads_words))
  if not config.first:
    return plain

  def init(key: jax.Array, batch: Batch):
    state = plain.init(key, batch)
    params = _started(state.params, config.first)
    return state.replace(params=params, ema=state.ema and jax.tree.map(jnp.copy, params))

  return plain._replace(init=init)


def pairing(config: Any, *, reads_words: bool = True) -> supervised.Pair:
  """(batch, key) -> pictures with faults, what they should become, words, what is to be spared.

  For a network that does not read words, all faults are to be removed.
  """
  faults = [fault for fault in ORDER if fault in config.faults]
  mixes = [synthesis.parse(config.faults[fault]) for fault in faults]
  kinds = [kind for kind, meant in words.MEANING.items() if meant & set(faults)]
  kinds = kinds if reads_words else ['all']
  embedded = jnp.stack([sentences.embeddings(kind, SENTENCES, config.seed) for kind in kinds])
  removed = jnp.array([[fault in words.MEANING[kind] for fault in faults] for kind in kinds])

  def degraded(keys: jax.Array, sharp: jax.Array, present: jax.Array) -> jax.Array:
    image = sharp
    for i, mix in enumerate(mixes):
      image = jnp.where(present[:, i, None, None, None], mix(keys[i], image), image)
    return image

  def pair(batch: Batch, key: jax.Array) -> tuple[jax.Array, ...]:
    if 'blurred' in batch:
      raise ValueError('the guided trainer makes its own faults: use sharp pictures')
    sharp = as_float(batch['sharp'])
    count = len(sharp)
    chance, choice, which, region, named, truth, *keys = jax.random.split(key, 6 + len(faults))
    kind = jax.random.randint(choice, (count,), 0, len(kinds))
    present = jax.random.uniform(chance, (count, len(faults))) < config.fault_probability
    one = jax.random.categorical(named, jnp.where(removed[kind], 0.0, -jnp.inf))
    there = jax.random.uniform(truth, (count, 1)) < NAMED
    present = present | (jax.nn.one_hot(one, len(faults), dtype=bool) & there)
    asked = embedded[kind, jax.random.randint(which, (count,), 0, SENTENCES)]
    given = degraded(jnp.stack(keys), sharp, present)
    wanted = degraded(jnp.stack(keys), sharp, present & ~removed[kind])
    spared = regions(region, sharp.shape[:3], config.mask_probability)
    return given, spared * given + (1 - spared) * wanted, asked, spared

  return pair


def regions(key: jax.Array, shape: tuple[int, ...], probability: float) -> jax.Array:
  """Random half-planes `[b h w 1]` of ones for `shape` (b, h, w); zeros in the other pictures."""
  count, height, width = shape
  whether, turn, place = jax.random.split(key, 3)
  angle = jax.random.uniform(turn, (count, 1, 1), maxval=2 * jnp.pi)
  offset = jax.random.uniform(place, (count, 1, 1), minval=-0.5, maxval=0.5)
  y, x = (jnp.linspace(-1, 1, side) for side in (height, width))
  y, x = y[None, :, None], x[None, None]
  inside = jnp.cos(angle) * x + jnp.sin(angle) * y > offset
  used = jax.random.uniform(whether, (count, 1, 1)) < probability
  return (inside & used)[..., None].astype(jnp.float32)


def _started(params: Any, name: str) -> Any:
  """`params` with those of the weights called `name`, which has fewer."""
  found, manifest = weights.read(methods.find(name))
  weights.check_fit(
    found,
    {key: leaves for key, leaves in params.items() if key in found},
    what=f'first {name} ({manifest["network"]})',
  )
  return {**params, **jax.tree.map(jnp.asarray, found)}
