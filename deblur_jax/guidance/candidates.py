"""Several ways to restore a picture, as prompts, and a memory of which ones people chose.

The model of taste is plain: new candidates lie around the mean of the last choices, closer the more
choices there are.
"""

from collections.abc import Sequence
import json
import os
import pathlib
from typing import NamedTuple

from deblur_jax.guidance import words
from deblur_jax.guidance.words import Request

FILE = '.deblur_jax_choices.jsonl'
"""In the folder of the results that were chosen from; one line a choice."""

LAST = 5
"""How many choices count."""


class Taste(NamedTuple):
  """What candidates are spread around; shares in [0, 1]."""

  deblur: float = 0.75
  denoise: float = 0.5
  spread: float = 0.5
  """How far amounts differ from the mean."""


def taste(choices: Sequence[str]) -> Taste:
  """The taste that chosen prompts show, the last ones."""
  amounts = [words.parse(prompt).amounts for prompt in choices[-LAST:]]
  if not amounts:
    return Taste()
  count = len(amounts)
  blurs = [max(one.get('motion', 0), one.get('defocus', 0)) for one in amounts]
  return Taste(
    min(sum(blurs) / count, 1.0),
    min(sum(one.get('noise', 0) for one in amounts) / count, 1.0),
    Taste().spread / (1 + count),
  )


def prompts(count: int, liked: Taste, request: Request | None = None) -> list[str]:
  """`count` different prompts, the first one the mean of what is liked.

  With a `request`, candidates differ only in the amounts of its faults, and keep its region.
  """
  found: list[str] = []
  index = 0
  while len(found) < count:
    at = [_halton(index + 1, base) for base in (2, 3)] if index else [0.5] * 2
    spread = liked.spread * max(1, index / count)  # wider if all nearer ones are taken
    amounts = [
      min(max(round(middle + (2 * share - 1) * spread, 2), 0.05), 1.0)
      for middle, share in zip((liked.deblur, liked.denoise), at, strict=True)
    ]
    deblur, denoise = amounts
    if request is None:
      one = Request({'motion': deblur, 'noise': denoise})
    else:
      own = {'noise': denoise, 'jpeg': denoise}
      one = Request({fault: own.get(fault, deblur) for fault in request.amounts}, request.region)
    index += 1
    if str(one) not in found:
      found.append(str(one))
  return found


def remember(folder: str | os.PathLike[str], prompt: str) -> None:
  """Adds a choice to the memory of a folder of results, unless it was the last one."""
  if choices(folder)[-1:] == [prompt]:
    return
  with open(pathlib.Path(folder) / FILE, 'a', encoding='ascii') as file:
    file.write(json.dumps({'prompt': prompt}) + '\n')


def choices(folder: str | os.PathLike[str]) -> list[str]:
  """The prompts that were chosen in a folder, oldest first; lines that are damaged are ignored."""
  path = pathlib.Path(folder) / FILE
  found = []
  for line in (
    path.read_text(encoding='ascii', errors='replace').splitlines() if path.is_file() else ()
  ):
    try:
      prompt = json.loads(line)['prompt']
      words.parse(prompt)
    except (ValueError, TypeError, KeyError, AttributeError):
      continue
    found.append(prompt)
  return found


def _halton(index: int, base: int) -> float:
  """Element `index` of the low-discrepancy sequence of a base, in (0, 1)."""
  result, share = 0.0, 1.0
  while index:
    share /= base
    result += share * (index % base)
    index //= base
  return result
