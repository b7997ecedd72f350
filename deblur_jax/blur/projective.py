"""Blur by a moving camera: the mean of what it sees at each instant of the exposure.

Positions in a picture are (x, y) in pixels, x to the right and y down, with the origin at the
center of the top left pixel.
"""

from collections.abc import Iterator
import functools

from flax import struct
import jax
import jax.numpy as jnp

from deblur_jax.blur import operators, trajectories

_FAR = 2.0**20  # pixels; farther out, float32 is too coarse to interpolate


@struct.dataclass
class ProjectiveMotion:
  """Blur along a path of homographies: the mean of the picture warped by each of them, bilinear.

  Tai et al., "Richardson-Lucy deblurring for scenes under a projective motion path", IEEE TPAMI
  33(8), 2011; Whyte et al., "Non-uniform deblurring for shaken images", CVPR 2010.

  homographies: `[t 3 3]`; each maps a pixel (x, y, 1) of the blurred picture to the position in the
    sharp one that it sees at that instant. `homographies` computes them from camera poses.
  boundary: see `operators.Convolution`.
  """

  homographies: jax.Array
  boundary: str = struct.field(pytree_node=False, default='reflect')

  def apply(self, image: jax.Array) -> jax.Array:
    """Blurred `image`, of the same shape `[... h w c]`."""

    def add(total, homography):
      return total + warp(image, homography, boundary=self.boundary), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(image), self.homographies)
    return total / self.homographies.shape[0]

  def adjoint(self, image: jax.Array) -> jax.Array:
    """The adjoint, so that <apply(x), y> = <x, adjoint(y)> for all x and y, borders included."""
    height, width, channels = image.shape[-3:]
    pixels = jnp.moveaxis(jnp.reshape(image, (-1, height * width, channels)), 0, 1)  # [hw n c]

    def add(total, homography):
      places = _transform(homography, height, width)
      for index, weight in _neighbors(*places, height, width, self.boundary):
        total = total.at[index.ravel()].add(weight.reshape(-1, 1, 1) * pixels)
      return total, None

    total, _ = jax.lax.scan(add, jnp.zeros_like(pixels), self.homographies)
    return jnp.moveaxis(total, 1, 0).reshape(image.shape) / self.homographies.shape[0]


def homographies(
  poses: jax.Array, height: int, width: int, *, focal: jax.Array | float
) -> jax.Array:
  """Homographies `[t 3 3]` of a camera with `poses` `[t 6]` facing a flat scene, for `[h w]`.

  A pose says how the picture differs from the sharp one: x and y, its shift to the right and down
  in pixels; z, how far the camera has moved towards the scene, as a fraction of the distance, so
  that the picture is 1 / (1 - z) times as large; pitch and yaw, the rotation of the camera in
  degrees that moves the picture down and to the right; roll, the counter-clockwise rotation of the
  picture about its center in degrees. `focal` is the focal length in pixels.
  """
  x, y, z = poses[:, 0], poses[:, 1], poses[:, 2]
  cos, sin = jnp.cos(jnp.deg2rad(poses[:, 3:])), jnp.sin(jnp.deg2rad(poses[:, 3:]))
  one, zero = jnp.ones_like(x), jnp.zeros_like(x)

  def matrix(*rows):
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)

  pitch = matrix((one, zero, zero), (zero, cos[:, 0], sin[:, 0]), (zero, -sin[:, 0], cos[:, 0]))
  yaw = matrix((cos[:, 1], zero, sin[:, 1]), (zero, one, zero), (-sin[:, 1], zero, cos[:, 1]))
  roll = matrix((cos[:, 2], sin[:, 2], zero), (-sin[:, 2], cos[:, 2], zero), (zero, zero, one))
  product = functools.partial(jnp.einsum, 'tij,tjk,tkl->til', precision='highest')
  shift = matrix((zero, zero, x / focal), (zero, zero, y / focal), (zero, zero, -z))
  moved = product(roll, yaw, pitch) + shift
  # Up to scale, which a homography ignores, the inverse is the adjugate.
  rows = moved[:, 0], moved[:, 1], moved[:, 2]
  back = jnp.stack([jnp.cross(rows[i - 2], rows[i - 1]) for i in range(3)], axis=-1)
  right, down = one * (width - 1) / 2, one * (height - 1) / 2
  camera = matrix((focal * one, zero, right), (zero, focal * one, down), (zero, zero, one))
  rays = matrix((one, zero, -right), (zero, one, -down), (zero, zero, focal * one))  # times focal
  return product(camera, back, rays)


def camera_path(
  key: jax.Array,
  *,
  extent: jax.Array | float,
  roll: jax.Array | float,
  approach: jax.Array | float = 0.0,
  focal: jax.Array | float | None = None,
  anxiety: jax.Array | float = 0.005,
  exposure: jax.Array | float = 1.0,
  steps: int = 32,
) -> jax.Array:
  """Random poses `[steps 6]` of a hand-held camera, as `homographies` takes them.

  The poses follow paths of `trajectories.trajectory`, which `anxiety` and `exposure` are passed to:
  `extent` is the longer side, in pixels, of the bounding box of the path of the picture's center,
  `roll` the range of the rotation in degrees, `approach` the range of z. Without `focal` the camera
  only shifts and rolls (3 degrees of freedom); with it, pitch and yaw contribute as much to the
  path as the shift does (6). The mean pose is 0. A path looks smooth if its steps are one pixel or
  less.
  """

  def draw(key):
    path = trajectories.trajectory(key, anxiety=anxiety, exposure=exposure, steps=steps)
    return path - path.mean(axis=0, keepdims=True)

  shift, turn, rest = jax.vmap(draw)(jax.random.split(key, 3))
  if focal is None:
    turn = jnp.zeros_like(turn)
  scale = extent / jnp.maximum(jnp.ptp(shift + turn, axis=0).max(), 1e-6)
  if focal is not None:
    turn = jnp.rad2deg(jnp.arctan(scale * turn / focal))
  rest = rest / jnp.maximum(jnp.ptp(rest, axis=0, keepdims=True), 1e-6)
  x, y = scale * shift.T
  yaw, pitch = turn.T
  return jnp.stack([x, y, approach * rest[:, 0], pitch, yaw, roll * rest[:, 1]], axis=-1)


def warp(image: jax.Array, homography: jax.Array, *, boundary: str = 'reflect') -> jax.Array:
  """`image` `[... h w c]` seen through one homography `[3 3]`, as in `ProjectiveMotion`."""
  return sample(image, *_transform(homography, *image.shape[-3:-1]), boundary=boundary)


def sample(image: jax.Array, x: jax.Array, y: jax.Array, *, boundary: str = 'reflect') -> jax.Array:
  """`image` `[... h w c]` at positions `x` and `y`, each `[i j]`: `[... i j c]`, bilinear."""
  height, width, channels = image.shape[-3:]
  pixels = jnp.reshape(image, (*image.shape[:-3], height * width, channels))
  lead = (1,) * (image.ndim - 3)
  return sum(
    weight.reshape(*lead, *weight.shape, 1) * pixels[..., index, :]
    for index, weight in _neighbors(x, y, height, width, boundary)
  )


def _transform(homography: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
  """Where `homography` maps the pixels of a picture: x and y, each `[h w]`."""
  x, y = jnp.meshgrid(jnp.arange(width, dtype=jnp.float32), jnp.arange(height, dtype=jnp.float32))
  x, y, scale = (row[0] * x + row[1] * y + row[2] for row in homography)
  return x / scale, y / scale


def _neighbors(
  x: jax.Array, y: jax.Array, height: int, width: int, boundary: str
) -> Iterator[tuple[jax.Array, jax.Array]]:
  """Flat index and weight of each of the four pixels around the positions, shaped like `x`."""
  operators.check_boundary(boundary)
  x, y = jnp.clip(x, -_FAR, _FAR), jnp.clip(y, -_FAR, _FAR)
  left, top = jnp.floor(x).astype(jnp.int32), jnp.floor(y).astype(jnp.int32)
  right, below = x - left, y - top
  for row, high in ((top, 1 - below), (top + 1, below)):
    for column, wide in ((left, 1 - right), (left + 1, right)):
      weight = high * wide
      if boundary == 'zero':
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        weight = jnp.where(inside, weight, 0.0)
      yield _fold(row, height, boundary) * width + _fold(column, width, boundary), weight


def _fold(index: jax.Array, length: int, boundary: str) -> jax.Array:
  """The row or column inside the picture that is used for `index`."""
  if boundary == 'wrap':
    return index % length
  if boundary == 'reflect':
    period = max(2 * (length - 1), 1)
    index = index % period
    return jnp.minimum(index, period - index)
  return jnp.clip(index, 0, length - 1)
