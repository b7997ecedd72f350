"""Whether a PSF that was estimated can be trusted, before a picture is restored with it.

A wrong PSF makes total variation overshoot: what it adds rings far beyond black and white. Measured
on 40 pictures (six shakes and out-of-focus shots of phones and cameras, 17 crops of GoPro pairs, 8
of Levin's shakes, 6 Kodak pictures blurred by known kernels, 3 sharp ones), by the gain of total
variation over the blurred picture, both after the best shift:

  overshoot up to 0.65 and confidence from 0.4   10 pictures, -0.3 to +4.0 dB
  the others                                     30 pictures, one of which gained (0.3 dB)
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
"""Of an `Estimate`; below it a PSF is wrong."""

MOST_OVERSHOOT = 0.65
"""Of `overshoot`; above it a PSF is wrong."""

AT_THE_EDGE = 0.01
"""Part of a PSF in its outermost pixels above which it is likely cut off."""


def objection(colors: np.ndarray, found: estimate_psf.Estimate, transfer: color.Transfer) -> str:
  """Why `found` is no PSF to restore with, in a few words; '' if there is no objection.

  `colors` `[h w c]` in [0, 1] are the code values that the PSF was estimated from.
  """
  if found.confidence < LEAST_CONFIDENCE:
    return f'confidence {found.confidence:.2f}'
  if (over := overshoot(colors, found.psf, transfer)) > MOST_OVERSHOOT:
    return f'it makes the picture ring, overshoot {over:.1f}'
  return ''


def overshoot(colors: np.ndarray, psf: Any, transfer: color.Transfer) -> float:
  """How far the values that `psf` leads to leave [0, 1], over how much it changes the picture.

  Root mean squares of code values, of the most textured square of `estimate_psf.WINDOW` pixels.
  """
  rows, columns = estimate_psf.most_textured(jnp.asarray(colors).mean(-1))
  return float(_overshoot(jnp.asarray(colors[rows, columns]), jnp.asarray(psf), transfer))


def cut_off(found: estimate_psf.Estimate) -> str:
  """A hint if the PSF reaches the edge of the square it was looked for in; else ''."""
  size = len(found.psf)
  if 1 - found.psf[1:-1, 1:-1].sum() <= AT_THE_EDGE:
    return ''
  return (
    f'the PSF reaches the edge of its {size} pixels, so the blur is likely larger: '
    f'try --psf auto:{2 * size - 1}'
  )


@functools.partial(jax.jit, static_argnames='transfer')
def _overshoot(colors: jax.Array, psf: jax.Array, transfer: color.Transfer) -> jax.Array:
  restored = transfer.from_linear(total_variation(transfer.to_linear(colors), psf))
  shown = jnp.clip(restored, 0, 1)
  beyond, changed = restored - shown, (shown - colors).mean(-1)
  return jnp.sqrt(jnp.square(beyond).mean() / jnp.maximum(jnp.square(changed).mean(), 1e-9))
