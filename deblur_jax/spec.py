"""Chains of steps as text: `shake(9..31) or disk(1..4) | noise(0..0.02)`.

`|` separates steps, `or` separates alternatives of a step, `a..b` is a range to draw from, a bare
name uses its defaults. Blur mixes (`blur.synthesis`) and host augmentations (`data.ops`) are both
written this way, so that a config reads like a sentence.

Wherever a name is looked up, `package.module:name` imports that name from that module instead:
external networks, losses, metrics, steps, optimizers, trainers and writers (`find`; see
docs/extending.md).
"""

import ast
from collections.abc import Callable, Mapping, Sequence
import difflib
import functools
import importlib
import inspect
import re
from typing import Any, NamedTuple


class Range(NamedTuple):
  """A closed interval from which a step draws a value."""

  low: float
  high: float


class Call(NamedTuple):
  """One step as written: `shake(9..31, taps=500)`."""

  name: str
  args: tuple
  kwargs: dict[str, Any]
  text: str


def find(what: str, name: str, known: Mapping[str, Any]) -> Any:
  """What `name` refers to: `known[name]`, or 'package.module:name' imported.

  `what` describes it in errors, such as 'loss'. Raises ValueError for an unknown name (with the
  nearest one), a module that cannot be imported, and a name that is not in it.
  """
  module, colon, attribute = name.partition(':')
  if not colon:
    if name in known:
      return known[name]
    near = difflib.get_close_matches(name, known, 1)
    hint = f'; did you mean {near[0]}?' if near else ''
    listed = ', '.join([*known, 'package.module:name'])
    raise ValueError(f'no {what} {name!r} (known: {listed}){hint}')
  try:
    found = importlib.import_module(module)
  except ImportError as error:
    raise ValueError(f'{what} {name!r}: cannot import {module} ({error})') from error
  if not hasattr(found, attribute):
    raise ValueError(f'{what} {name!r}: the module has no {attribute}')
  return getattr(found, attribute)


def functions(
  what: str,
  text: str,
  known: Mapping[str, Any],
  *,
  positional: int = 2,
  named: Sequence[str] = (),
) -> dict[str, Callable[..., Any]]:
  """The functions in `text`, `a | package.module:b(x=2)`, by their names 'a' and 'b'.

  Options in parentheses are bound. The caller will call each with as many `positional` arguments,
  and those `named`. Raises ValueError as `find` does, for a name that is given twice, and for
  options that the function does not take or lacks.
  """
  found: dict[str, Callable[..., Any]] = {}
  for choices in parse(text):
    if len(choices) != 1:
      raise ValueError(f"{what} {text!r}: 'or' is only for steps; separate these with |")
    call = choices[0]
    name = call.name.rpartition(':')[2]
    if name in found:
      raise ValueError(f'{what} {text!r}: {name!r} is given twice')
    function = find(what, call.name, known)
    if call.args:
      raise ValueError(f'{what} {call.text!r}: write options as name=value')
    _check_options(what, call, function, positional, named)
    found[name] = functools.partial(function, **call.kwargs) if call.kwargs else function
  return found


def _check_options(
  what: str, call: Call, function: Any, positional: int, named: Sequence[str]
) -> None:
  if not callable(function):
    raise ValueError(f'{what} {call.text!r}: not a function')
  try:
    signature = inspect.signature(function)
  except ValueError:  # some functions written in C have none
    return
  try:
    signature.bind(*(None,) * positional, **dict.fromkeys(named), **call.kwargs)
  except TypeError as error:
    raise ValueError(f'{what} {call.text!r}: {error}') from None


def parse(text: str) -> tuple[tuple[Call, ...], ...]:
  """The chain in `text`: a tuple of steps, each a tuple of alternatives.

  Raises ValueError naming the step that cannot be read.
  """
  if not text.strip():
    return ()
  return tuple(
    tuple(_call(choice.strip(), text) for choice in re.split(r'\bor\b', step))
    for step in text.split('|')
  )


def build(text: str, steps: Mapping[str, Callable[..., Any]]) -> tuple[tuple[Any, ...], ...]:
  """Like `parse`, with each call made: `steps[name](*args, **kwargs)`.

  Raises ValueError for an unknown step (with the nearest name) or arguments that do not fit.
  """
  return tuple(tuple(_make(call, steps) for call in choices) for choices in parse(text))


def _call(text: str, chain: str) -> Call:
  name = r'[a-z_]\w*|[A-Za-z_][\w.]*:\w+'
  match = re.fullmatch(rf'({name})\s*(?:\((.*)\))?', text, flags=re.DOTALL)
  if match is None:
    raise ValueError(
      f'cannot read step {text!r} in {chain!r}: write name(value, low..high, x=value)'
    )
  name, inside = match.groups()
  args, kwargs = [], {}
  for part in (inside or '').split(','):
    if not part.strip():
      continue
    key, equals, value = part.rpartition('=')
    if equals:
      kwargs[key.strip()] = _value(value, text)
    elif kwargs:
      raise ValueError(f'step {text!r}: a positional value follows a named one')
    else:
      args.append(_value(value, text))
  return Call(name, tuple(args), kwargs, text)


def _value(text: str, step: str) -> Any:
  text = text.strip()
  low, dots, high = text.partition('..')
  try:
    if dots:
      bounds = Range(float(low), float(high))
    else:
      return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    raise ValueError(f'step {step!r}: {text!r} is neither a value nor a range low..high') from None
  if bounds.low > bounds.high:
    raise ValueError(f'step {step!r}: the range {text} runs backwards')
  return bounds


def _make(call: Call, steps: Mapping[str, Callable[..., Any]]) -> Any:
  step = find('step', call.name, steps)
  try:
    inspect.signature(step).bind(*call.args, **call.kwargs)
    return step(*call.args, **call.kwargs)
  except (TypeError, ValueError) as error:
    raise ValueError(f'step {call.text!r}: {error}') from None
