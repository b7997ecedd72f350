"""Whether an estimated PSF can be trusted, checked before a picture is restored with it.

A wrong PSF makes total variation overshoot: its result rings far beyond black and white. Measured
on 40 pictures (six shaken and out-of-focus shots from phones and cameras, 17 crops of GoPro pairs,
8 of Levin's shakes, 6 Kodak pictures blurred with known kernels, 3 sharp ones), as the gain of
total variation over the blurred picture, each at its best shift:

  overshoot <= 0.65 and confidence >= 0.4   10 pictures, -0.3 to +4.0 dB
  all other pictures                        30 pictures, one of which gained (0.3 dB)
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import color
from deblur_jax.solvers import estimate_psf
from deblur_jax.solvers.total_variation import total_variation

LEAST_CONFIDENCE = 0.4
"""An `Estimate` with a lower confidence is rejected."""

MOST_OVERSHOOT = 0.65
"""A PSF with a larger `overshoot` is rejected."""

AT_THE_EDGE = 0.01
"""A PSF with a larger share of its sum in its outermost pixels is likely cut off."""


def objection(colors: np.ndarray, found: estimate_psf.Estimate, transfer: color.Transfer) -> str:
  """Why `found` should not be used, in a few words; '' if it can be.

  `colors` `[h w c]` in [0, 1] are the code values that the PSF was estimated from.
  """
  if found.confidence < LEAST_CONFIDENCE:
    return f'confidence {found.confidence:.2f}'
  if (over := overshoot(colors, found.psf, transfer)) > MOST_OVERSHOOT:
    return f'it causes ringing, overshoot {over:.1f}'
  return ''


def overshoot(colors: np.ndarray, psf: Any, transfer: color.Transfer) -> float:
  """How far restoring with `psf` leaves [0, 1], relative to how much it changes the picture.

  Both are root mean squares of code values, over the most textured square of
  `estimate_psf.WINDOW` pixels.
  """
  rows, columns = estimate_psf.most_textured(jnp.asarray(colors).mean(-1))
  return float(_overshoot(jnp.asarray(colors[rows, columns]), jnp.asarray(psf), transfer))


def cut_off(found: estimate_psf.Estimate) -> str:
  """A hint if the PSF touches the edge of the square it was estimated in; else ''."""
  size = len(found.psf)
  if 1 - found.psf[1:-1, 1:-1].sum() <= AT_THE_EDGE:
    return ''
  return (
    f'the PSF touches the edge of its {size}x{size} pixels, so the blur is likely larger: '
    f'try --psf auto:{2 * size - 1}'
  )


@functools.partial(jax.jit, static_argnames='transfer')
def _overshoot(colors: jax.Array, psf: jax.Array, transfer: color.Transfer) -> jax.Array:
  restored = transfer.from_linear(total_variation(transfer.to_linear(colors), psf))
  shown = jnp.clip(restored, 0, 1)
  beyond, changed = restored - shown, (shown - colors).mean(-1)
  return jnp.sqrt(jnp.square(beyond).mean() / jnp.maximum(jnp.square(changed).mean(), 1e-9))
