"""Deep image prior: an untrained network is fitted to a single picture.

Requires an accelerator in practice: fitting a picture takes minutes on a GPU and hours on a CPU.
`progress.listening` reports the progress.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from deblur_jax.nn.conv import Conv
from deblur_jax.nn.norm import InstanceNorm
from deblur_jax.nn.resample import upsample2_bilinear
from deblur_jax.solvers import borders, planes, progress
from deblur_jax.solvers.estimate_psf import LEAST_SIZE, SIZE, Estimate, likeness

_NOISE_CHANNELS, _PSF_NOISE, _PSF_WIDTH = 8, 200, 1000
_RATE, _PSF_RATE, _MILESTONES = 1e-2, 1e-4, (0.4, 0.6, 0.8)
_JITTER, _LATEST, _TINY, _SMALLEST = 1e-3, 0.99, 1e-12, 1e-20


class SkipNet(nn.Module):
  """An hourglass network with narrow skips: noise `[b h w c]` -> picture `[b h w channels]`."""

  channels: int
  features: int
  levels: int
  skip: int = 16

  @nn.compact
  def __call__(self, noise: jax.Array) -> jax.Array:
    def layer(x, features, size=3, stride=1):
      x = Conv(features, size, stride, kernel_init=nn.initializers.he_normal())(x)
      return nn.leaky_relu(InstanceNorm(affine=True)(x), 0.2)

    def hourglass(x, levels):
      if not levels:
        return x
      deep = layer(layer(x, self.features, stride=2), self.features)
      deep = upsample2_bilinear(hourglass(deep, levels - 1))
      both = InstanceNorm(affine=True)(jnp.concatenate([layer(x, self.skip, 1), deep], -1))
      return layer(layer(both, self.features), self.features, 1)

    return nn.sigmoid(Conv(self.channels, 1)(hourglass(noise, self.levels)))


class PsfNet(nn.Module):
  """Noise `[n]` -> a nonnegative PSF `[size size]` that sums to 1."""

  size: int

  @nn.compact
  def __call__(self, noise: jax.Array) -> jax.Array:
    x = nn.relu6(nn.Dense(_PSF_WIDTH)(noise))
    return nn.softmax(nn.Dense(self.size**2)(x)).reshape(self.size, self.size)


def deep_image_prior(
  image: jax.Array,
  psf: jax.Array,
  num_iter: int = 2000,
  *,
  features: int = 128,
  levels: int = 5,
  key: jax.Array | None = None,
  boundary: str = 'unknown',
  history: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """The output of a network trained so that `psf` blurs it into `image`; stops before overfitting.

  Ulyanov, Vedaldi, Lempitsky, "Deep image prior", CVPR 2018.

  Args:
    image: blurred, in [0, 1], `[h w]` or `[... h w c]`; one network for all channels.
    psf: `[kh kw]`, or one for each image.
    num_iter: steps of Adam.
    features: of the network; the paper has 128, fewer are faster.
    levels: how many times the network halves the picture.
    key: of the noise and the initial weights; a constant by default.
    boundary: 'unknown' or 'wrap', see `planes.BOUNDARIES`.
    history: whether to also return half the squared error after each step:
      `(restored, [... num_iter])`.

  Raises ValueError as `planes.each` does, and for less than one step.
  """
  fit = functools.partial(
    _fit,
    key=jax.random.key(0) if key is None else key,
    num_iter=num_iter,
    features=features,
    levels=levels,
    boundary=boundary,
    reports=progress.heard(),
  )

  def solve(image, psf):
    restored, _, errors = fit(image, psf)
    return (restored, errors) if history else restored

  if num_iter < 1:
    raise ValueError(f'num_iter must be at least 1, got {num_iter}')
  return planes.each_image(solve, image, psf, boundary=boundary)


def self_deblur(
  image: jax.Array,
  size: int = SIZE,
  num_iter: int = 5000,
  *,
  features: int = 128,
  levels: int = 5,
  key: jax.Array | None = None,
) -> tuple[jax.Array, Estimate]:
  """`(restored, PSF estimate)` of an image `[h w]` or `[h w c]` in [0, 1].

  Ren et al., "Neural blind deconvolution using deep priors" (SelfDeblur), CVPR 2020: a second
  network generates the PSF, of an odd side `size`. The confidence, from 0 to 1, is the fraction of
  the variance of `image` that is explained, times how far the PSF is from no blur. The other
  arguments are those of `deep_image_prior`. Raises ValueError for an even size and one larger than
  the image.
  """
  if size < LEAST_SIZE or size % 2 == 0:
    raise ValueError(f'the side of the PSF must be odd and at least {LEAST_SIZE}, got {size}')
  image = jnp.asarray(image, jnp.float32)
  if size > min(image.shape[:2]):
    raise ValueError(f'the PSF of {size}x{size} is larger than the picture')
  colors = image if image.ndim == 3 else image[..., None]
  key = jax.random.key(0) if key is None else key
  restored, psf, errors = _fit(
    colors,
    None,
    size=size,
    key=key,
    num_iter=num_iter,
    features=features,
    levels=levels,
    reports=progress.heard(),
  )
  spread = 0.5 * jnp.sum(jnp.square(colors - colors.mean((0, 1), keepdims=True)))
  explained = jnp.clip(1 - errors[-1] / jnp.maximum(spread, _TINY), 0, 1)
  blurs = 1 - likeness(psf, jnp.ones((1, 1))) ** 2
  confidence = explained * jnp.sqrt(jnp.maximum(blurs, 0))
  return restored.reshape(image.shape), Estimate(psf, confidence)


@functools.partial(
  jax.jit, static_argnames=('num_iter', 'features', 'levels', 'boundary', 'size', 'reports')
)
def _fit(image, psf, *, key, num_iter, features, levels, reports, boundary='unknown', size=0):
  """The picture `[h w c]`, the given PSF or, if None, the estimated one, and the errors."""
  height, width, channels = image.shape
  known = psf is not None
  around = borders.scene(
    psf if known else jnp.ones((size, size)), (height, width), boundary, multiple=2**levels
  )
  over_channels = functools.partial(jax.vmap, in_axes=-1, out_axes=-1)
  placed = over_channels(around.place)(image)
  canvas = [2**levels * math.ceil(side / 2**levels) for side in around.shape]
  noise_key, net_key, psf_noise_key, psf_key, steps_key = jax.random.split(key, 5)
  noise = 0.1 * jax.random.uniform(noise_key, (1, *canvas, _NOISE_CHANNELS))
  psf_noise = jax.random.uniform(psf_noise_key, (_PSF_NOISE,))
  net, psf_net = SkipNet(channels, features, levels), PsfNet(size)
  params: dict[str, Any] = {'net': net.init(net_key, noise)['params']}
  if not known:
    params['psf'] = psf_net.init(psf_key, psf_noise)['params']

  def draw(params, noise):
    drawn = net.apply({'params': params['net']}, noise)[0]
    return drawn[: around.shape[0], : around.shape[1]]

  def scene_of(params):
    if known:
      return around
    found: Any = psf_net.apply({'params': params['psf']}, psf_noise)
    return borders.scene(found, (height, width), boundary, multiple=2**levels)

  def error(params, noise):
    drawn, scene = draw(params, noise), scene_of(params)
    misfit = jax.vmap(scene.misfit, in_axes=-1)(over_channels(scene.blur)(drawn), placed).sum()
    return misfit / image.size, (misfit, drawn)

  def adam(peak):
    halved = {round(part * num_iter): 0.5 for part in _MILESTONES}
    schedule = optax.piecewise_constant_schedule(peak, halved)
    return optax.adam(schedule, eps_root=_SMALLEST)  # keeps its steps differentiable

  optimizer = optax.multi_transform(
    {'net': adam(_RATE), 'psf': adam(_PSF_RATE)}, {name: name for name in params}
  )

  def step(carry, i):
    params, state, mean = carry
    jitter = _JITTER * jax.random.normal(jax.random.fold_in(steps_key, i), noise.shape)
    slope, (misfit, drawn) = jax.grad(error, has_aux=True)(params, noise + jitter)
    updates, state = optimizer.update(slope, state, params)
    # The running mean of the latest outputs is less noisy.
    share = jnp.maximum(1 - _LATEST, 1 / (i + 1))
    if reports:
      progress.report(i, num_iter)
    return (optax.apply_updates(params, updates), state, mean + share * (drawn - mean)), misfit

  start: Any = (params, optimizer.init(params), jnp.zeros_like(placed))
  (learned, _, mean), errors = jax.lax.scan(step, start, jnp.arange(num_iter))
  if not known:
    psf = psf_net.apply({'params': learned['psf']}, psf_noise)
  return over_channels(around.crop)(mean), psf, errors
