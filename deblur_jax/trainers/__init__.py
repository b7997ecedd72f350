"""(state, batch) -> state: ways to train, each made by `make(config, model)`."""

from deblur_jax.trainers import adversarial, generative, guided, supervised

__all__ = ['TRAINERS', 'adversarial', 'generative', 'guided', 'supervised']

TRAINERS = {
  'supervised': supervised.make,
  'adversarial': adversarial.make,
  'generative': generative.make,
  'guided': guided.make,
  'unpaired': adversarial.make_unpaired,
}
