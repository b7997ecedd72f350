"""The published data sets that can be prepared, by name."""

from deblur_jax.datasets import gopro, hide, kaggle, mcblur, realblur, unpaired
from deblur_jax.datasets.published import Published

SETS: dict[str, Published] = {
  'gopro': gopro.SET,
  'hide': hide.SET,
  'realblur': realblur.SET,
  'kaggle': kaggle.SET,
  'mcblur': mcblur.SET,
  'unpaired': unpaired.SET,
}


def names(published: Published) -> list[str]:
  """The names of a set's sources: `set/kind`, or `set` if it has only one form."""
  return [f'{published.name}/{kind}' for kind in published.kinds] or [published.name]
