"""(state, batch) -> state: ways to train, each made by `make(config, model)`."""

from deblur_jax.trainers import adversarial, supervised

__all__ = ['TRAINERS', 'adversarial', 'supervised']

TRAINERS = {
  'supervised': supervised.make,
  'adversarial': adversarial.make,
  'unpaired': adversarial.make_unpaired,
}
