"""Blur by adding up the frames of a film, as one longer exposure would have."""

import jax

from deblur_jax import color

# Name -> functions from the values in a file to light, and back.
RESPONSES = {
  'linear': (lambda values: values, lambda values: values),
  'gamma': (lambda values: values**2.2, lambda values: values ** (1 / 2.2)),
  'srgb': (color.SRGB.to_linear, color.SRGB.from_linear),
}


def average(frames: jax.Array, *, response: str = 'linear') -> jax.Array:
  """The picture `[... h w c]` that the frames `[n ... h w c]`, in [0, 1], add up to.

  `response` is how the camera turns light into values: 'linear', the mean of the values as they
  are, is GoPro's `blur`; 'gamma', of the power 1 / 2.2, its `blur_gamma`; 'srgb' is sRGB's curve.
  Raises ValueError for any other. Nah et al., "Deep multi-scale convolutional neural
  network for dynamic scene deblurring", CVPR 2017, section 2.
  """
  if response not in RESPONSES:
    raise ValueError(f'no camera response {response!r} (known: {", ".join(RESPONSES)})')
  to_light, from_light = RESPONSES[response]
  return from_light(to_light(frames).mean(axis=0))
