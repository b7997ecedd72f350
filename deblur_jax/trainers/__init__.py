"""(state, batch) -> state: ways to train, each made by `make(config, model)`."""

from deblur_jax.trainers import adversarial, generative, supervised

__all__ = ['TRAINERS', 'adversarial', 'generative', 'supervised']

TRAINERS = {
  'supervised': supervised.make,
  'adversarial': adversarial.make,
  'generative': generative.make,
  'unpaired': adversarial.make_unpaired,
}
