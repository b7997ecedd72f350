"""Finds the state dict in a checkpoint and removes prefixes from its names.

Published checkpoints hold it directly, or in containers ({'state_dict': ...}, {'params_ema': ...}),
next to optimizers and discriminators, averaged and raw, with prefixes that wrappers add to every
name ('module.', 'model.', 'net_g.', '_orig_mod.').
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import re
from typing import Any

import numpy as np

# Words in names of containers and prefixes, split at underscores, dots and capitals.
_AVERAGED = {'ema', 'avg', 'average', 'averaged', 'swa', 'shadow'}
_OTHER = {'optimizer', 'optimizers', 'optim', 'opt', 'scheduler', 'schedulers', 'sched', 'scaler'}
_OTHER |= {'d', 'dis', 'disc', 'discriminator', 'discriminators', 'critic'}

# Of several state dicts, the one to use, in order of preference.
_PREFERRED = (
  'params',
  'state_dict',
  'model',
  'model_state_dict',
  'generator',
  'netG',
  'net_g',
  'G',
)
_PREFERRED += ('g',)

# Not parameters: added to a state dict by AveragedModel and profilers.
_COUNTERS = re.compile(r'(.*\.)?(n_averaged|total_ops|total_params)')


def unwrap(content: Any, key: str = '') -> dict[str, np.ndarray]:
  """The state dict inside a container, without 'module.', as numpy arrays.

  Averaged weights are preferred to raw ones; optimizers and discriminators are skipped. `key`
  selects one of several, such as 'generator' or 'state_dict.net_g'. Raises ValueError if there is
  none, or if there are several and it is not clear which to use.
  """
  if key:
    content = _chosen(content, key, key)
  found = list(_state_dicts(content))
  if not found:
    among = isinstance(content, Mapping) and content
    raise ValueError(f'no state dict {"among" if among else "in"} {_listed(content)}')
  state = _best(found)[1]
  # Flax's older optimizers saved parameters with the prefix 'opt/target/'.
  return {
    name.removeprefix('module.').removeprefix('opt/target/'): _to_numpy(value)
    for name, value in state.items()
    if not _COUNTERS.fullmatch(name)
  }


def stripped(
  state: Mapping[str, np.ndarray], signatures: Iterable[Sequence[str]]
) -> dict[str, np.ndarray]:
  """`state` without the prefix before all names of one of `signatures`; unchanged without any.

  Tensors with another prefix, such as those of a loss network, are dropped. Raises ValueError if
  several prefixes match.
  """
  found = list(_unprefixed(state, [set(names) for names in signatures]))
  return _best(found)[1] if found else dict(state)


def _unprefixed(state, signatures, path=()) -> Iterator[tuple[tuple[str, ...], dict]]:
  if any(state.keys() >= names for names in signatures):
    yield path, dict(state)
    return
  groups: dict[str, dict] = {}
  for name, value in state.items():
    prefix, point, rest = name.partition('.')
    if point:
      groups.setdefault(prefix, {})[rest] = value
  for prefix, group in groups.items():
    yield from _unprefixed(group, signatures, (*path, prefix))


def _state_dicts(
  content: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict]]:
  """Yields (path, state dict) of all in nested containers, except those of `_OTHER`."""
  if isinstance(content, list | tuple):
    content = {str(number): value for number, value in enumerate(content)}
  if not isinstance(content, Mapping):
    return
  nested = [
    found
    for name, value in content.items()
    if not _words([str(name)]) & _OTHER
    for found in _state_dicts(value, (*path, str(name)))
  ]
  yield from nested
  tensors = {name: value for name, value in content.items() if hasattr(value, 'shape')}
  named = all(isinstance(name, str) for name in tensors)
  if not nested and named and any(len(value.shape) for value in tensors.values()):
    yield path, tensors


def _best(found: list[tuple[tuple[str, ...], dict]]) -> tuple[tuple[str, ...], dict]:
  """The state dict to use, of several with their paths."""
  kept = [one for one in found if not _words(one[0]) & _OTHER] or found
  kept = [one for one in kept if _words(one[0]) & _AVERAGED] or kept
  levels = zip(*(path for path, _ in kept), strict=False)
  beside = next((level for level, names in enumerate(levels) if len(set(names)) > 1), 0)
  for name in _PREFERRED:
    if len(kept) > 1:
      kept = [one for one in kept if one[0][beside : beside + 1] == (name,)] or kept
  if len(kept) > 1:
    names = ', '.join('.'.join(path) for path, _ in kept)
    raise ValueError(f'several state dicts: {names}; choose one with --key')
  return kept[0]


def _chosen(content: Any, key: str, whole: str) -> Mapping[str, Any]:
  """The contents that `key` selects: a container, a path of containers, or a prefix of names."""
  if isinstance(content, Mapping):
    if isinstance(content.get(key), Mapping):
      return content[key]
    first, _, rest = key.partition('.')
    if rest and isinstance(content.get(first), Mapping):
      return _chosen(content[first], rest, whole)
    inside = {name: value for name, value in content.items() if str(name).startswith(f'{key}.')}
    if inside:
      return {name.removeprefix(f'{key}.'): value for name, value in inside.items()}
  raise ValueError(f'no {whole!r} among {_listed(content)}')


def _words(names: Iterable[str]) -> set[str]:
  """The lower-case words in names: {'net', 'g', 'ema'} for 'netG_ema'."""
  found = (re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+', name) for name in names)
  return {word.lower() for words in found for word in words}


def _listed(content: Any, most: int = 6) -> str:
  if not isinstance(content, Mapping):
    return _kind(content)
  if not content:
    return 'an empty dict'
  names = [str(name) for name in content]
  return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')


def _kind(content: Any) -> str:
  return f'a {type(content).__name__}'


def _to_numpy(value: Any) -> np.ndarray:
  if hasattr(value, 'detach'):  # a torch tensor; numpy has no bfloat16, so all become float32
    value = value.detach().cpu().float().numpy()
  return np.asarray(value, np.float32)
