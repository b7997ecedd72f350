"""The methods that a server offers, loaded once."""

from collections.abc import Sequence
import dataclasses
import functools
import os
import pathlib
from typing import Any

from deblur_jax import methods, weights, zoo
from deblur_jax.guidance import words
from deblur_jax.photos import guided, psfs
from deblur_jax.photos.restorer import FALLBACK_STRENGTH, TURNS, Path, Restorer, load
from deblur_jax.serve.settings import RefusedError, Settings
from deblur_jax.uncertainty import stored

SLOW = ('deep_image_prior',)
"""Classical methods that take minutes for a small picture, so they are offered only if named."""


def default_names() -> list[str]:
  """The default weights, other shipped weights, and the classical methods that are not `SLOW`."""
  shipped = list(methods.shipped())
  first = [name for name in (methods.DEFAULT, 'mobile') if name in shipped]
  rest = [name for name in shipped if name not in first]
  return [*first, *rest, *(name for name in methods.SOLVERS if name not in SLOW)]


def public_name(name: str) -> str:
  """The name that clients see: no folders."""
  path = pathlib.Path(name)
  if methods.is_solver(name) or name in methods.shipped():
    return name
  return path.name if path.is_dir() else path.stem


class Restorers:
  """Loads each network at its first use; only the thread that computes may call `get`."""

  def __init__(self, names: Sequence[str]):
    """`names` are those of `methods.find` or `methods.SOLVERS`; the first is the default.

    Raises FileNotFoundError if there is no method of a name, ValueError if two would have the same
    name.
    """
    self._files: dict[str, pathlib.Path] = {}
    self._digests: dict[str, str] = {}
    self._loaded: dict[tuple[pathlib.Path, str, str], Restorer] = {}
    self.names: list[str] = []
    for name in names:
      public = public_name(name)
      if public in self.names:
        raise ValueError(f'--weights: two methods are called {public}')
      self.names.append(public)
      if methods.is_solver(name):
        self._digests[public] = public
      else:
        self._files[public] = methods.find(name)
        self._digests[public] = weights.digest(self._files[public])

  def digest(self, name: str) -> str:
    """Identifies the method: the digest of its weights."""
    return self._digests[name]

  def made_with(self, settings: Settings) -> str | pathlib.Path | None:
    """The file of the weights; of a classical method, its name; None if a prompt needs neither."""
    path = self._files.get(settings.weights, settings.weights)
    return None if settings.request and _without_network(settings.request, path) else path

  def choose(self, name: str, prompt: str) -> str:
    """The method called `name`, or if that is '' the one that suits a prompt, or the first.

    Raises RefusedError if the prompt is not understood, or needs no network but one is named.
    """
    request = Settings(name, prompt=prompt).request
    if name:
      if request and name in self._files and _without_network(request, self._files[name]):
        raise RefusedError(400, f'{name} would not be used: no blur is to be removed')
      return name
    suited = words.network(request.amounts) if request else None
    return suited if suited in self.names else self.names[0]

  def check(self, settings: Settings) -> None:
    """Raises RefusedError if the method does not exist or does not fit the other settings."""
    name = settings.weights
    if name not in self.names:
      raise RefusedError(400, f'unknown weights; available: {", ".join(self.names)}')
    if settings.request and name not in self._files:
      raise RefusedError(400, f'{name} is a classical method: prompt requires a network')
    if name in self._files and settings.psf:
      raise RefusedError(400, f'{name} is a network and takes no psf')
    if name not in self._files and not settings.psf and name not in methods.WITHOUT_PSF:
      raise RefusedError(400, f'{name} requires psf, such as motion:15,30, disk:4 or auto')
    if settings.uncertainty and not (known := self.calibration(name)):
      raise RefusedError(400, f'{name} is not calibrated, so its uncertainty is not known')
    if settings.uncertainty == 'map' and not known.intervals:
      raise RefusedError(400, f'{name} has a reliability, but no map')

  def calibration(self, name: str) -> stored.Stored | None:
    """What is known about the uncertainty of a network; None for others."""
    return stored.find(self._files[name]) if name in self._files else None

  def get(self, settings: Settings) -> Restorer:
    """What restores with these settings, as `photos.restorer.load` with the same arguments."""
    name, strength = settings.weights, settings.strength
    known = self.calibration(name) if settings.uncertainty else None
    if known and known.intervals:
      return self._network(self._files[name], known.intervals.spread_of)
    if settings.request:
      return self._guided(self._files[name], settings.request, strength)
    if name in self._files:
      return dataclasses.replace(self._network(self._files[name]), strength=strength)
    psf = psfs.described(settings.psf) if settings.psf else None
    restorer = load(name, psf=psf, strength=strength)
    if restorer.fallback is None:
      return restorer
    return dataclasses.replace(restorer, fallback=functools.partial(self._fallback, strength))

  def describe(self) -> list[dict[str, Any]]:
    """The methods for `GET /v1/models`."""
    found = []
    for name in self.names:
      network = name in self._files
      entry = {'name': name, 'kind': 'network' if network else 'classical', 'default': not found}
      entry['psf'] = 'none' if network or name in methods.WITHOUT_PSF else 'required'
      if network:
        entry['megabytes'] = round(os.path.getsize(self._files[name]) / 1e6, 1)
      found.append(entry)
    return found

  def networks(self) -> list[str]:
    """The names of the methods that have weights."""
    return list(self._files)

  def _network(self, path: pathlib.Path, spread_of: str = TURNS, prompt: str = '') -> Restorer:
    key = path, spread_of, prompt
    if key not in self._loaded:
      settings = {'prompt': prompt} if prompt else None
      self._loaded[key] = load(path, spread_of=spread_of, settings=settings)
    return self._loaded[key]

  def _guided(self, path: pathlib.Path, request: words.Request, strength: float) -> Restorer:
    """What a prompt asks for, by the loaded network if it has a part in it."""
    if _without_network(request, path):
      return guided.load(request, strength=strength)
    return guided.load(request, weights=path, strength=strength, load_network=self._loaded_network)

  def _loaded_network(self, path: Path, *, settings: Any = None, strength: float = 1.0, **_: Any):
    """As `photos.restorer.load`, once for every network and prompt."""
    prompt = (settings or {}).get('prompt', '')
    network = self._network(pathlib.Path(path), prompt=prompt)
    return dataclasses.replace(network, strength=strength)

  def _fallback(self, strength: float) -> Restorer:
    """The default weights, for pictures whose PSF cannot be estimated."""
    network = self._network(methods.find(methods.DEFAULT))
    return dataclasses.replace(network, strength=FALLBACK_STRENGTH * strength)


def _without_network(request: words.Request, path: Path) -> bool:
  """Whether what is asked for needs no network."""
  return words.network(request.amounts) is None and not zoo.reads_words(path)
