"""Blur by averaging the frames of a film, as one longer exposure would."""

import jax

from deblur_jax import color

# Name -> functions from file values to light, and back.
RESPONSES = {
  'linear': (lambda values: values, lambda values: values),
  'gamma': (lambda values: values**2.2, lambda values: values ** (1 / 2.2)),
  'srgb': (color.SRGB.to_linear, color.SRGB.from_linear),
}


def average(frames: jax.Array, *, response: str = 'linear') -> jax.Array:
  """The mean of frames `[n ... h w c]` in [0, 1], as one exposure `[... h w c]`.

  `response` is the camera's response from light to file values: 'linear' averages the values
  themselves, as GoPro's `blur`; 'gamma', a power of 1 / 2.2, is GoPro's `blur_gamma`; 'srgb' is the
  sRGB curve. Raises ValueError for any other. Nah et al., "Deep multi-scale convolutional neural
  network for dynamic scene deblurring", CVPR 2017, section 2.
  """
  if response not in RESPONSES:
    raise ValueError(f'no camera response {response!r} (known: {", ".join(RESPONSES)})')
  to_light, from_light = RESPONSES[response]
  return from_light(to_light(frames).mean(axis=0))
