"""Sentences about what is wrong with a picture, made from the phrases in sentences.txt.

They train the encoder (`tools/train_prompts.py`) and networks that take prompts
(`trainers.guided`). `tests/prompts.csv` was written before them and is never used here.
"""

import functools
import pathlib

import numpy as np

from deblur_jax.guidance import encoder

FILE = pathlib.Path(__file__).parent / 'sentences.txt'


@functools.cache
def phrases() -> dict[str, list[str]]:
  """Section of sentences.txt -> its phrases."""
  found = {}
  for section in FILE.read_text().split('[')[1:]:
    name, _, text = section.partition(']')
    found[name] = [' '.join(phrase.split()) for phrase in text.split('|')]
  return found


def draw(rng: np.random.Generator, kind: str) -> str:
  """A sentence of one of `encoder.KINDS`."""
  parts = phrases()
  choices = [parts[f'{kind}: whole']]
  if f'{kind}: nouns' in parts:
    nouns = parts[f'{kind}: nouns']
    choices += [nouns, parts[f'{kind}: states']]
    choices += [[f'{rng.choice(parts["verbs"])} {the}{rng.choice(nouns)}'] for the in ('the ', '')]
  text = str(rng.choice(choices[rng.integers(len(choices))]))
  if kind != 'none' or rng.random() < 0.5:
    before, after = (
      str(rng.choice(parts[name])) if rng.random() < 0.45 else '' for name in ('starts', 'ends')
    )
    text = f'{before} {text} {after}'
  return text


def misspelled(rng: np.random.Generator, text: str) -> str:
  """`text` with two neighboring letters swapped, or one left out."""
  i = int(rng.integers(max(len(text) - 1, 1)))
  return text[:i] + (text[i + 1 : i + 2] + text[i : i + 1]) * (rng.random() < 0.5) + text[i + 2 :]


def embeddings(kind: str, count: int, seed: int = 0) -> np.ndarray:
  """The embeddings `[count encoder.WIDTH]` of different sentences of one kind."""
  rng = np.random.default_rng(seed)
  return np.stack([encoder.embed(draw(rng, kind)) for _ in range(count)])
