"""Blur of scenes with depth: objects that move or are out of focus hide and reveal what is behind.

Images are linear light. A layer is blurred together with its mask, the share of the light that it
blocks, so soft edges show what is behind.
"""

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp

from deblur_jax.blur import kernels, projective, trajectories
from deblur_jax.blur.operators import Convolution

_RADIUS = 0.1, 0.3  # of a random object, relative to the shorter side of the picture
_WAVES, _WAVE = 5, 0.3  # of its outline: how many, and the amplitude of the first
_TRUST = 10.0  # opacity of filled-in pixels, per share of visible ones within the largest radius


def composite(
  layers: jax.Array, masks: jax.Array, motions: jax.Array, *, boundary: str = 'reflect'
) -> jax.Array:
  """What a camera sees of moving layers `[h w c]`: the mean over time of their composites.

  layers: `[n h w c]`, from back to front.
  masks: `[n h w]`, in [0, 1]; 1 everywhere for a background, or black shows through.
  motions: `[n t 3 3]`, how each layer moves, as in `projective.ProjectiveMotion`; identities for a
    layer at rest.
  """
  lights = _with_mask(layers, masks)

  def add(total, instant):  # [n 3 3]
    seen = jnp.zeros_like(total)
    for layer, homography in zip(lights, instant, strict=True):
      moved = projective.warp(layer, homography, boundary=boundary)
      seen = moved[..., :-1] + (1 - moved[..., -1:]) * seen
    return total + seen, None

  total, _ = jax.lax.scan(add, jnp.zeros_like(layers[0]), motions.swapaxes(0, 1))
  return total / motions.shape[1]


def moving_object(
  key: jax.Array, image: jax.Array, *, shift: jax.Array | float, steps: int = 64
) -> jax.Array:
  """`image` `[h w c]` in which an object moves by `shift` pixels during the exposure.

  The object is a part of the picture, cut out along a random outline; its direction is random too.
  In the middle of the exposure it is where `image` has it, so `image` is the sharp half of the
  pair. The exposure is the mean of `steps` instants one pixel apart or less, so `shift` is limited
  to `steps - 1`.
  """
  outline, way = jax.random.split(key)
  mask, behind = cut_out(outline, image)
  angle = jax.random.uniform(way, (), maxval=2 * jnp.pi)
  along = jnp.linspace(-0.5, 0.5, steps) * jnp.minimum(shift, steps - 1)
  path = jnp.stack([along * jnp.cos(angle), along * jnp.sin(angle)], axis=-1)
  # With a background at rest, the mean of the composites is the composite of the means.
  blur = Convolution(trajectories.render(path, 2 * (steps // 2) + 1))
  moved = blur.apply(_with_mask(image, mask))
  return moved[..., :-1] + (1 - moved[..., -1:]) * behind


def cut_out(key: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Mask `[h w]` of a random object in `image` `[h w c]`, and the picture `[h w c]` without it.

  The outline is smooth and star-shaped: the logarithm of its radius is a random Fourier series.
  What the object hides is filled in with its surroundings, mirrored at the outline.
  """
  height, width, _ = image.shape
  place, size, waves = jax.random.split(key, 3)
  middle = jax.random.uniform(place, (2,), minval=0.2, maxval=0.8) * jnp.array([width, height])
  x, y = jnp.meshgrid(jnp.arange(width) - middle[0], jnp.arange(height) - middle[1])
  angle, radius = jnp.arctan2(y, x), jnp.hypot(x, y)
  order = jnp.arange(1, _WAVES + 1)
  waves = _WAVE / order[:, None] * jax.random.normal(waves, (_WAVES, 2))
  turns = angle[..., None] * order[None, None]
  outline = jnp.stack([jnp.cos(turns), jnp.sin(turns)], axis=-1)  # [h w waves 2]
  outline = jnp.exp(jnp.einsum('hwki,ki->hw', outline, waves, precision='highest'))
  low, high = _RADIUS
  outline *= min(height, width) * jax.random.uniform(size, minval=low, maxval=high)
  mirrored = jnp.maximum(2 * outline - radius, radius)
  x, y = middle[0] + mirrored * jnp.cos(angle), middle[1] + mirrored * jnp.sin(angle)
  behind = jnp.where((radius < outline)[..., None], projective.sample(image, x, y), image)
  return jnp.clip(outline - radius + 0.5, 0.0, 1.0), behind


def defocus(
  image: jax.Array,
  depth: jax.Array,
  *,
  focus: jax.Array | float,
  aperture: jax.Array | float,
  layers: int,
  size: int | None = None,
  bokeh: Callable[[jax.Array, int], jax.Array] = kernels.disk,
) -> jax.Array:
  """`image` `[h w c]`, sharp everywhere, as seen through a thin lens focused at `focus`.

  `depth` `[h w]` and `focus` are distances from the lens, positive, in any unit. A point spreads to
  `bokeh(radius, size)` with a radius of `aperture * abs(1 - focus / depth)` pixels, so `aperture`
  is the radius for a point at infinity. The scene is divided into `layers`, at least 3, in even
  steps of the radius, one of them in focus. Nearer layers cover farther ones, which are extended a
  little behind them with neighboring colors; pixels between two layers are shared between them.

  `size` is the side of the kernels, odd; larger radii are clipped to it. By default it fits the
  largest radius, which requires a concrete `depth`: raises ValueError without `size` under jit.
  """
  if layers < 3:
    raise ValueError(f'a scene needs at least 3 layers, not {layers}')
  spread = 1 - focus / depth  # below 0 in front of the focus
  if size is None:
    size = _canvas(aperture * spread)
  step = jnp.maximum((spread.max() - spread.min()) / (layers - 2), 1e-3)
  planes = step * (jnp.floor(spread.min() / step) + jnp.arange(layers))  # from near to far
  masks = jnp.maximum(1 - jnp.abs(spread[None] - planes[:, None, None]) / step, 0)
  # Hidden by the layers in front, except its neighbor, with which it forms one slanted surface.
  hidden = jnp.pad(jnp.cumsum(masks, axis=0)[:-2], [(2, 0), (0, 0), (0, 0)])[..., None]
  lights = _with_mask(image[None], masks)
  around = Convolution(kernels.disk(size / 2, size)).apply(lights)
  share = jnp.maximum(around[..., -1:], 1e-6)
  lights += hidden * jnp.minimum(_TRUST * share, 1) * around / share
  radii = jnp.minimum(aperture * jnp.abs(planes), size / 2)
  psfs = jax.vmap(lambda radius: bokeh(radius, size))(radii)
  seen, covered = jnp.zeros_like(lights[0]), 0.0
  for layer in Convolution(psfs).apply(lights):
    # Adjacent layers are shares of one surface, so they add up and do not hide each other.
    passing = 1 - jnp.minimum(covered, 1)
    covered = seen[..., -1:]
    seen += passing * layer
  return seen[..., :-1] / seen[..., -1:]


def _with_mask(image: jax.Array, mask: jax.Array) -> jax.Array:
  """The light of a layer, with its mask as an extra channel: `[... h w c+1]`."""
  mask = mask[..., None]
  return jnp.concatenate([image * mask, mask], axis=-1)


def _canvas(radii: jax.Array) -> int:
  if isinstance(radii, jax.core.Tracer):
    raise ValueError('the largest radius is unknown under jit: pass the `size` of the kernels')
  return 2 * math.ceil(float(jnp.abs(radii).max())) + 1
