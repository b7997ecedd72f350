"""Chains of steps as text: `shake(9..31) or disk(1..4) | noise(0..0.02)`.

`|` puts steps one after another, `or` draws one of several, `a..b` is a range to draw from, a bare
name takes its defaults. Blur mixes (`blur.synthesis`) and host augmentations (`data.ops`) are both
written this way, so that a config reads like a sentence.
"""

import ast
from collections.abc import Callable, Mapping
import difflib
import inspect
import re
from typing import Any, NamedTuple


class Range(NamedTuple):
  """A closed interval that a step draws a value from."""

  low: float
  high: float


class Call(NamedTuple):
  """One step as written: `shake(9..31, taps=500)`."""

  name: str
  args: tuple
  kwargs: dict[str, Any]
  text: str


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
  """As `parse`, with each call made: `steps[name](*args, **kwargs)`.

  Raises ValueError for an unknown step (with the nearest name) or arguments that do not fit.
  """
  return tuple(tuple(_make(call, steps) for call in choices) for choices in parse(text))


def _call(text: str, chain: str) -> Call:
  match = re.fullmatch(r'([a-z_]\w*)\s*(?:\((.*)\))?', text, flags=re.DOTALL)
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
  if call.name not in steps:
    near = difflib.get_close_matches(call.name, steps, 1)
    hint = f'; did you mean {near[0]}?' if near else ''
    raise ValueError(f'no step {call.name!r} (known: {", ".join(steps)}){hint}')
  try:
    inspect.signature(steps[call.name]).bind(*call.args, **call.kwargs)
    return steps[call.name](*call.args, **call.kwargs)
  except (TypeError, ValueError) as error:
    raise ValueError(f'step {call.text!r}: {error}') from None
