"""Classical methods: deconvolution with a known PSF, without weights.

  restored = SOLVERS['wiener'](blurred, psf)

If the PSF is unknown, `estimate_psf.estimate(blurred).psf` estimates it.

Images are float32, gray `[h w]` or `[... h w c]`, in linear light; nothing is clipped. All can be
jitted, vmapped and differentiated.
"""

from deblur_jax.solvers import deblock, estimate_gaussian, estimate_noise, estimate_psf
from deblur_jax.solvers.deep_image_prior import deep_image_prior
from deblur_jax.solvers.hyper_laplacian import hyper_laplacian
from deblur_jax.solvers.plug_and_play import plug_and_play
from deblur_jax.solvers.polyblur import estimate as polyblur_estimate
from deblur_jax.solvers.polyblur import polyblur
from deblur_jax.solvers.richardson_lucy import richardson_lucy
from deblur_jax.solvers.tikhonov import tikhonov
from deblur_jax.solvers.total_variation import total_variation
from deblur_jax.solvers.unsupervised_wiener import unsupervised_wiener
from deblur_jax.solvers.wavelet import wavelet
from deblur_jax.solvers.wiener import wiener

__all__ = [
  'SOLVERS',
  'WITHOUT_PSF',
  'deblock',
  'deep_image_prior',
  'estimate_gaussian',
  'estimate_noise',
  'estimate_psf',
  'hyper_laplacian',
  'plug_and_play',
  'polyblur',
  'richardson_lucy',
  'tikhonov',
  'total_variation',
  'unsupervised_wiener',
  'wavelet',
  'wiener',
]

SOLVERS = {
  'deep_image_prior': deep_image_prior,
  'hyper_laplacian': hyper_laplacian,
  'polyblur': polyblur,
  'plug_and_play': plug_and_play,
  'richardson_lucy': richardson_lucy,
  'tikhonov': tikhonov,
  'total_variation': total_variation,
  'unsupervised_wiener': unsupervised_wiener,
  'wavelet': wavelet,
  'wiener': wiener,
}

WITHOUT_PSF = {'polyblur': polyblur_estimate}
"""Solvers that estimate the PSF if none is given, and their `estimate(image [h w c])`."""
