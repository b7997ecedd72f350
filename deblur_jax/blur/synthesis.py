"""Blurred pictures made from sharp ones, on the accelerator, by a mix that reads like a sentence.

  degrade = parse('shake(9..31) or disk(1..5) or sharp | poisson(0.01) | saturate | jpeg(60..95)')
  blurred = degrade(key, sharp)

Each image draws its own alternative, all equally likely, and its own values, uniformly from the
ranges. The steps are documented in `blur.steps`. Blur, photon noise and saturation act in linear
light with mirrored borders; `noise`, which stands in for a whole camera, `quantize` and `jpeg` act
on the sRGB-encoded picture. The result is clipped to [0, 1], as by any sensor or file.

`saturate(1.5)` makes the white pixels of the sharp picture 1.5 times as bright before the first
step, and clips at 1 at its own place: blur before it thus spreads light that the sharp picture has
lost. A sensor adds photon noise before it saturates; files are written last.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
import numpy as np

from deblur_jax import checks, color, spec
from deblur_jax.blur import kernels, operators, sensor
from deblur_jax.blur.steps import STEPS, KernelStep, PixelStep, Saturate, Step

MIXED = 'shake(3..9) or motion(3..9) or disk(1..3) or gaussian(0.8..2) | noise(0..0.01)'
"""The default mix of blurs, which configs train on and benchmarks score."""

Choices = tuple[Step, ...]


class Place(NamedTuple):
  """What an image draws at one place of a mix; with a leading axis, what several images draw."""

  chosen: jax.Array
  """Index of the chosen alternative."""
  values: list[dict[str, jax.Array]]
  """The values drawn for each alternative."""
  psf: jax.Array | None
  """PSF of the chosen one, on a canvas that fits all of them; None if no alternative has one."""


class Drawn(NamedTuple):
  """What an image drew at one place of a mix, in readable form."""

  step: str
  values: dict[str, np.ndarray]
  """By the names of the step's ranges; 'key', if there is one, as its two numbers."""
  psf: np.ndarray | None
  """`[size size]` if the step blurs by one PSF, in linear light."""


@dataclasses.dataclass(frozen=True)
class Degrade:
  """A mix: steps in order, each a tuple of equally likely alternatives."""

  chain: tuple[Choices, ...]

  def __call__(self, key: jax.Array, sharp: jax.Array) -> jax.Array:
    """Degraded images `[b h w c]` of `sharp` ones in [0, 1], pure in both arguments.

    What image i draws depends only on `key` and i, not on the size of the batch or the number of
    devices. Under `jax.set_mesh` with axes 'data', 'fsdp' or both, every device works on its own
    images; a batch sharded without them gives the same result, but XLA gathers it on every device
    for the FFT. Raises ValueError for integer images, or values outside [0, 1].
    """
    checks.images(sharp, 'sharp images')
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(sharp.shape[0]))
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    axes = tuple(name for name in ('data', 'fsdp') if types.get(name) == AxisType.Auto)
    if axes and sharp.shape[0] % math.prod(mesh.shape[name] for name in axes) == 0:
      rows = PartitionSpec(axes)
      sharded = jax.shard_map(
        self._run, in_specs=(rows, rows), out_specs=rows, axis_names=set(axes), check_vma=False
      )
      return sharded(keys, sharp)
    return self._run(keys, sharp)

  def draw(self, key: jax.Array) -> list[Place]:
    """What the image with `key` draws; image i of a call draws with `fold_in(key, i)`."""
    places = []
    for number, choices in enumerate(self.chain):
      first, *keys = jax.random.split(jax.random.fold_in(key, number), len(choices) + 1)
      chosen = jax.random.randint(first, (), 0, len(choices))
      values = [step.draw(own) for step, own in zip(choices, keys, strict=True)]
      places.append(Place(chosen, values, _psf(choices, chosen, values)))
    return places

  def apply(self, places: list[Place], sharp: jax.Array) -> jax.Array:
    """Degraded images `[b h w c]` of `sharp` ones, given what each drew."""
    image, linear = sharp, False
    for choices, place in zip(self.chain, places, strict=True):
      for number, step in enumerate(choices):
        if isinstance(step, Saturate):
          image, linear = _light(image, linear, True), True
          gain = jnp.where(place.chosen == number, place.values[number]['gain'], 1.0)
          image = sensor.brighten(image, gain=gain[:, None, None, None])
    for choices, place in zip(self.chain, places, strict=True):
      image, linear = _step(choices, place, image, linear)
    return jnp.clip(_light(image, linear, False), 0.0, 1.0)

  def drawn(self, key: jax.Array, index: int = 0) -> tuple[Drawn, ...]:
    """What image `index` of a batch drew at each place when called with `key`."""
    return self.describe(_draw(self, jax.random.fold_in(key, index)))

  def describe(self, places: list[Place]) -> tuple[Drawn, ...]:
    """What one image drew at each place, in readable form."""
    drawn = []
    for choices, place in zip(self.chain, places, strict=True):
      step, values = choices[place.chosen], place.values[place.chosen]
      kind = type(step)
      outside = f'{kind.__module__}:{kind.__name__}'
      name = next((name for name, one in STEPS.items() if one is kind), outside)
      if 'key' in values:
        values = values | {'key': jax.random.key_data(values['key'])}
      psf = np.asarray(place.psf) if isinstance(step, KernelStep) else None
      drawn.append(Drawn(name, jax.tree.map(np.asarray, values), psf))
    return tuple(drawn)

  def _run(self, keys: jax.Array, sharp: jax.Array) -> jax.Array:
    return self.apply(jax.vmap(self.draw)(keys), sharp)


_draw = jax.jit(Degrade.draw, static_argnums=0)


def parse(text: str) -> Degrade:
  """The mix in `text`; raises ValueError naming the step that is wrong. '' changes nothing."""
  degrade = Degrade(spec.build(text, STEPS))
  if any(isinstance(step, Saturate) for choices in degrade.chain[:1] for step in choices):
    raise ValueError(
      "step 'saturate' comes first, before any blur has spread light: move it after the blur"
    )
  return degrade


def _step(choices: Choices, place: Place, image: jax.Array, linear: bool) -> tuple[jax.Array, bool]:
  """Images after one of `choices` each, and whether they are now in linear light."""
  if place.psf is not None:
    image, linear = operators.Convolution(place.psf).apply(_light(image, linear, True)), True
  if len(choices) == 1 and isinstance(choices[0], PixelStep):
    image, linear = _light(image, linear, choices[0].linear), choices[0].linear
    image = jax.vmap(lambda image, values: choices[0](image, **values))(image, place.values[0])
  elif any(isinstance(step, PixelStep) for step in choices):
    acts = [
      functools.partial(_apply_step, linear, step, index) for index, step in enumerate(choices)
    ]
    drawn = place.chosen, place.values, image
    image = operators.each(lambda own: jax.lax.switch(own[0], acts, *own[1:]), drawn)
  return image, linear


def _apply_step(linear: bool, step: Step, index: int, values: list, image: jax.Array) -> jax.Array:
  """One image after `step` if it acts on pixels; linear or encoded as it came in."""
  if not isinstance(step, PixelStep):
    return image
  changed = step(_light(image, linear, step.linear), **values[index])
  return _light(changed, step.linear, linear)


def _psf(choices: Choices, chosen: jax.Array, values: list) -> jax.Array | None:
  sizes = [step.size for step in choices if isinstance(step, KernelStep)]
  if not sizes:
    return None
  # Drawing the kernels of all alternatives is cheap, and one convolution then serves them all.
  return jnp.stack(
    [
      step.psf(max(sizes), **own) if isinstance(step, KernelStep) else kernels.delta(max(sizes))
      for step, own in zip(choices, values, strict=True)
    ]
  )[chosen]


def _light(image: jax.Array, linear: bool, wanted: bool) -> jax.Array:
  if linear == wanted:
    return image
  return color.SRGB.to_linear(image) if wanted else color.SRGB.from_linear(image)
