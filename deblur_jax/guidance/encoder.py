"""A text encoder small enough to ship: which kind of fault a few words are about.

Words, pairs of words and groups of three and four letters are hashed into 4096 rows of a table; the
mean of their rows, through tanh, is the embedding, and a linear layer gives the probabilities of
the kinds. Groups of letters make it tolerant of spelling. `tools/train_prompts.py` trains it, in
seconds.
"""

from collections.abc import Sequence
import functools
import itertools
import pathlib
import re
import zlib

import numpy as np

KINDS = ('motion', 'defocus', 'blur', 'noise', 'jpeg', 'dark', 'all', 'other', 'none')
"""'blur' is of either type; 'other' is a request for something else, 'none' is no request."""

ROWS, WIDTH = 4096, 64
FILE = pathlib.Path(__file__).parent / 'encoder.npz'


def words(text: str) -> list[str]:
  """The words and numbers of a text in lower case."""
  return re.findall(r'[^\W_]+', text.lower())


def rows(text: str) -> list[int]:
  """The rows of the table that a text adds up, as often as they occur."""
  found = words(text)
  grams = [*found, *(f'{one} {two}' for one, two in itertools.pairwise(found))]
  for word in found:
    framed = f'<{word}>'
    grams += [framed[i : i + n] for n in (3, 4) for i in range(len(framed) - n + 1)]
  return [zlib.crc32(gram.encode()) % ROWS for gram in grams]


def bags(texts: Sequence[str]) -> np.ndarray:
  """How often each row occurs in each text `[n ROWS]`, float32, each text of length 1."""
  found = np.stack([np.bincount(rows(text), minlength=ROWS) for text in texts]).astype(np.float32)
  return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1)


def embed(text: str) -> np.ndarray:
  """The embedding `[WIDTH]` of a text, float32 in (-1, 1); zeros if it has no words."""
  return np.tanh(bags([text])[0] @ _load()['table'])


def kinds(text: str) -> dict[str, float]:
  """The probability of each of `KINDS` for a text."""
  found = _load()
  logits = embed(text) @ found['head'] + found['bias']
  shares = np.exp(logits - logits.max())
  return dict(zip(KINDS, (shares / shares.sum()).tolist(), strict=True))


def vocabulary() -> frozenset[str]:
  """The words that the encoder was trained with."""
  return _load()['vocabulary']


@functools.cache
def _load() -> dict:
  with np.load(FILE) as file:
    return {
      'table': file['table'].astype(np.float32) * file['scale'],
      'head': file['head'].astype(np.float32),
      'bias': file['bias'].astype(np.float32),
      'vocabulary': frozenset(str(file['vocabulary']).split()),
    }
