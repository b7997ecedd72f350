"""What the words of a prompt ask for: what to remove, how strongly, and where.

A prompt is cut into clauses. A grammar finds regions, amounts and negation in each, and the encoder
tells what kind of fault the remaining words are about. Nothing is guessed: words that are not
understood raise an error that lists what is possible.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import difflib
import re

from deblur_jax import methods
from deblur_jax.guidance import encoder, grammar

FAULTS = ('motion', 'defocus', 'noise', 'jpeg', 'dark')
NAMES = {
  'motion': 'motion blur',
  'defocus': 'defocus',
  'noise': 'noise',
  'jpeg': 'JPEG artifacts',
  'dark': 'darkness',
}
MEANING = {
  **{fault: frozenset([fault]) for fault in FAULTS},
  'blur': frozenset(['motion', 'defocus']),
  'all': frozenset(FAULTS),
}
"""Kind of the encoder -> the faults that it stands for."""

ORDER = ('jpeg', 'noise', 'blur', 'defocus', 'motion', 'dark')
"""In which faults are removed: file, sensor, lens, camera, light."""

LIGHT, STRONG = 0.45, 1.5
"""Amounts of 'a little' and 'strongly'; 1 is usual."""

SURE = 0.6
"""If no kind is more probable than this, a clause is not understood."""

OPPOSITE = {'subject': 'background', 'left half': 'right half', 'top half': 'bottom half'}
OPPOSITE |= {other: one for one, other in OPPOSITE.items()}

HELP = (
  'can remove motion blur, defocus, noise, JPEG artifacts and darkness; a little or strongly; '
  'everywhere or in the subject, background, face, text, a half or corner, the center or a box '
  'X,Y,W,H'
)


@dataclasses.dataclass(frozen=True)
class Request:
  """What a prompt asks for."""

  amounts: Mapping[str, float]
  """Fault -> how much of it to remove; 1 is usual."""
  region: str = ''
  """Where: '' is everywhere, 'not face' all but the face."""

  def steps(self) -> tuple[tuple[str, float], ...]:
    """(what to remove, how much of it), one after the other, the last fault that happened first."""
    amounts = dict(self.amounts)
    if amounts.get('motion', 0) == amounts.get('defocus', -1):
      amounts['blur'] = amounts.pop('motion')
      del amounts['defocus']
    found = ((fault, amounts[fault]) for fault in ORDER if fault in amounts)
    return tuple((NAMES.get(fault, fault), amount) for fault, amount in found)

  def __str__(self) -> str:
    """The request as a prompt that `parse` understands, such as 'motion blur in the subject'."""
    what = [
      NAMES[fault] + ('' if amount == 1 else f' {100 * amount:g}%')
      for fault, amount in self.amounts.items()
    ]
    if self.region.startswith('not '):
      return f'{", ".join(what)} outside the {self.region[4:]}'
    return ', '.join(what) + (f' in the {self.region}' if self.region else '')

  def row(self) -> tuple[str, str, str]:
    """(kinds, strength, region), as in `tests/prompts.csv`."""
    faults = frozenset(self.amounts)
    named = [name for name, meaning in MEANING.items() if meaning == faults]
    blur = MEANING['blur'] <= faults
    parts = (['blur'] if blur else []) + [
      fault for fault in FAULTS if fault in faults and not (blur and fault in MEANING['blur'])
    ]
    amount = set(self.amounts.values())
    level = {1.0: '', LIGHT: 'light', STRONG: 'strong'}
    strength = '?' if len(amount) > 1 else level.get(max(amount), f'{100 * max(amount):g}')
    return (named[0] if named else '+'.join(parts), strength, self.region)


def network(amounts: Mapping[str, float]) -> str | None:
  """The shipped weights for what is to be removed; None if that is not blur."""
  return methods.DEFAULT if {'motion', 'defocus'} & amounts.keys() else None


@dataclasses.dataclass
class _Clause:
  text: str
  kept: bool
  """Whether the clause says what to leave alone."""
  regions: list[str]
  spared: list[str]
  """Regions that are excepted."""
  amount: float | None
  kind: str


def parse(prompt: str) -> Request:
  """The request in a prompt; raises a one-line ValueError if it is not understood."""
  plain = _plain(prompt)
  _check_language(plain)
  clauses = [_clause(text) for text in _clauses(plain)]
  wanted, kept, amounts = set(), set(), {}
  within, spared = [], []
  overall = None
  for clause in clauses:
    if clause.kind == 'other':
      raise _not_understood(clause.text)
    faults = MEANING.get(clause.kind, frozenset())
    spared += clause.spared
    (spared if clause.kept else within).extend(clause.regions)
    if clause.kept:
      kept |= set() if clause.regions else {clause.kind} & MEANING.keys()
      continue
    wanted |= {clause.kind} if faults else set()
    if clause.amount is not None:
      overall = clause.amount if not faults else overall
      amounts |= dict.fromkeys(faults, clause.amount)
  faults = _faults(wanted, kept, bool(spared))
  if not faults:
    raise _not_understood(prompt.strip())
  found = {fault: amounts.get(fault, overall or 1.0) for fault in FAULTS if fault in faults}
  return Request(found, _region(within, spared))


def _faults(wanted: set[str], kept: set[str], has_spared: bool) -> frozenset[str]:
  """The faults to remove; a named type of blur is preferred to 'blur', anything to 'all'."""
  if both := wanted & kept:
    name = NAMES.get(min(both), min(both))
    raise ValueError(f'the prompt contradicts itself: it both removes and keeps {name}')
  if not wanted and has_spared and not kept:
    wanted = {'all'}
  if len(wanted) > 1:
    wanted = wanted - {'all'}
  if wanted & {'motion', 'defocus'}:
    wanted = wanted - {'blur'}
  faults = frozenset().union(*(MEANING[kind] for kind in wanted))
  if not wanted <= set(FAULTS):  # what is named by itself is removed
    faults = faults - frozenset().union(*(MEANING[kind] for kind in kept))
  return faults


def _region(within: list[str], spared: list[str]) -> str:
  """The one region that is meant; raises ValueError if there are several or none is left."""
  inside = {*within, *(_outside(name) for name in spared)}
  if set(within) & set(spared) or any(_outside(name) in inside for name in inside):
    name = min(set(within) & set(spared) or inside)
    raise ValueError(f'the prompt contradicts itself: it both changes and keeps the {name}')
  if len(inside) > 1:
    raise ValueError(
      f'the prompt names several regions ({", ".join(sorted(inside))}): name one, or use --mask'
    )
  return next(iter(inside), '')


def _outside(name: str) -> str:
  if name.startswith('not '):
    return name[4:]
  return OPPOSITE.get(name, f'not {name}')


def _plain(prompt: str) -> str:
  """Lower case, without contractions."""
  text = prompt.lower().replace('\u2019', "'").strip()
  for pattern, instead in grammar.PLAIN:
    text = re.sub(pattern, instead, text)
  return ' '.join(text.split())


def _check_language(text: str) -> None:
  """Raises ValueError for an empty prompt, and for one that hardly has a known word."""
  plainer = _find_regions(text, True)[1]
  found = [word for word in encoder.words(plainer) if not word[0].isdecimal()]
  if not text:
    raise ValueError(f'the prompt is empty; {HELP}')
  known = sum(_is_known(word) for word in found)
  if 2 * known <= len(found) or not all(map(str.isascii, found)):
    raise _not_understood(text)


def _is_known(word: str) -> bool:
  """Whether a word is in the vocabulary, perhaps misspelled, or in the grammar."""
  known = encoder.vocabulary()
  if word in known or re.fullmatch(
    f'{grammar.FIGURES}|{grammar.KEEP}|{grammar.NOT}|{grammar.LIGHT}|{grammar.STRONG}', word
  ):
    return True
  if any(re.fullmatch(pattern, word) for pattern, _ in grammar.REGIONS):
    return True
  return len(word) > 4 and bool(difflib.get_close_matches(word, known, 1, 0.85))


def _clauses(text: str) -> Iterator[str]:
  """The clauses of a prompt; 'everything but' stays whole."""
  text = re.sub(
    rf'\b(everything|all|anything|everywhere) but\b(?! (?:{grammar.KEEP}|{grammar.NOT})\b)',
    r'\1 _but',
    text,
  )
  text = re.sub(r'\bbut not\b', '_but not', text)
  text = re.sub(r'(?<=\d)\s*,\s*(?=\d)', '_', text)
  for part in re.split(
    r'[,;:.!?()]+(?!\d)|\bbut\b|\band\b|\bthen\b|(?=\bwithout\b)|\bwhile\b|\bbecause\b', text
  ):
    part = part.replace('_but', 'but').replace('_', ',').strip()
    if part:
      yield part


def _clause(text: str) -> _Clause:
  """What one clause says."""
  if grammar.ADD_BLUR.search(text):
    raise ValueError(f"the prompt asks to add blur or noise ('{text}'), which is not possible")
  rest, spared = text, []
  if match := re.search(rf'\b{grammar.EXCEPT}\b', text):
    rest = text[: match.start()]
    spared, remainder = _find_regions(text[match.end() :], True)
    if not spared:
      raise _not_understood(text[match.start() :])
    rest = f'{rest} {remainder}'
  acts = bool(re.search(rf'\b(?:{grammar.VERB}|{grammar.KEEP}|touch|change)\b', rest))
  regions, rest = _find_regions(rest, acts)
  is_good = bool(regions) and bool(re.search(grammar.GOOD, rest))
  negative = bool(re.search(rf'\b(?:{grammar.NOT})\b', rest))
  keeps = bool(re.search(rf'\b(?:{grammar.KEEP})\b', rest))
  rest, amount = _amount(
    re.sub(rf'\b(?:{grammar.NOT}|{grammar.KEEP})\b|{grammar.UNCHANGED}', ' ', rest)
  )
  kind = 'none' if is_good else _kind(rest)
  kept = is_good or negative != keeps
  if kept and not regions and kind == 'none' and keeps and not _filler(text):
    raise _not_understood(text)
  _check_object(rest, text)
  return _Clause(text, kept, regions, spared, amount, kind)


def _find_regions(text: str, acts: bool) -> tuple[list[str], str]:
  """(the regions in a clause, the clause with 'area' for each).

  People and animals are regions only if the clause `acts` on them: 'sharpen the bird'.
  """
  found = []
  patterns = (*grammar.REGIONS, (grammar.FIGURES, 'subject')) if acts else grammar.REGIONS
  for pattern, name in patterns:

    def take(match, name=name):
      found.append(_named(name, match[1]))
      return 'the area'

    text = re.sub(
      rf'\b{grammar.DETERMINER}({pattern})(?:\'s| is(?= eyes| face))?(?![\w-])', take, text
    )
  return list(dict.fromkeys(found)), text


def _named(name: str, text: str) -> str:
  """The region that a text stands for."""
  if name == 'box':
    return ','.join(re.findall(r'\d+', text))
  sides = [
    grammar.SIDES.get(str(word), str(word))
    for word in re.findall('left|right|top|upper|bottom|lower', text)
  ]
  if name == 'corner':
    return ' '.join(sides)
  return f'{sides[0]} half' if name == 'half' else name


def _amount(text: str) -> tuple[str, float | None]:
  """(the rest of a clause, how much it asks for)."""
  if match := re.search(r'(\d+(?:\.\d+)?) ?%', text):
    share = float(match[1]) / 100
    if not 0 < share <= 2:
      raise ValueError(f'the prompt asks for {match[0]}, which is not from 1 to 200 %')
    return text.replace(match[0], ' '), share
  for pattern, amount in ((grammar.LIGHT, LIGHT), (grammar.STRONG, STRONG)):
    if match := re.search(rf'\b(?:{pattern})(?!\w)', text):
      rest = match[0] if match[0].startswith('as ') else ' '
      return text.replace(match[0], rest), amount
  return text, None


def _kind(text: str) -> str:
  """The kind of fault that a clause names; 'none' if that is not clear."""
  if not encoder.words(text):
    return 'none'
  shares = encoder.kinds(text)
  blurs = shares['motion'] + shares['defocus'] + shares['blur']
  best = max(shares, key=lambda kind: shares[kind])
  if shares[best] >= SURE:
    return best
  return 'blur' if blurs >= SURE else 'none'


def _filler(text: str) -> bool:
  """Whether 'keep' is followed by words that ask for nothing."""
  return bool(re.search(r'\b(?:natural|simple|real|realistic|original|nothing|it)\b', text))


def _check_object(rest: str, text: str) -> None:
  """Raises ValueError if what is to be restored, as in 'sharpen the mountain', is unknown."""
  for match in grammar.OBJECT.finditer(rest):
    is_picture = re.search(rf'\b(?:{grammar.PICTURE})\b', match[1])
    is_part = re.search(rf'\b(?:{grammar.PART})\b', match[1]) and not re.search(r'\bin\b', match[0])
    if is_part or (not is_picture and _kind(match[1]) not in MEANING):
      raise _not_understood(text)


def _not_understood(text: str) -> ValueError:
  shown = text if len(text) <= 80 else f'{text[:77]}...'
  return ValueError(f"did not understand '{shown}'; {HELP}")
