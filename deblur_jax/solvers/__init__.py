"""Classical methods: what was blurred by a known PSF, restored without weights.

  restored = SOLVERS['wiener'](blurred, psf)

Images are float32, grey `[h w]` or `[... h w c]`, linear in the light for which the PSF holds;
nothing is clipped. All can be jitted, mapped and differentiated.
"""

from deblur_jax.solvers.richardson_lucy import richardson_lucy
from deblur_jax.solvers.total_variation import total_variation
from deblur_jax.solvers.wiener import wiener

SOLVERS = {
  'richardson_lucy': richardson_lucy,
  'total_variation': total_variation,
  'wiener': wiener,
}
