"""Trains the text encoder of `deblur_jax.guidance` on the sentences of `guidance.sentences`.

python tools/train_prompts.py          # writes deblur_jax/guidance/encoder.npz, in seconds
python tools/train_prompts.py --check  # and compares the grammar with tools/prompts_dev.csv
"""

import argparse
import csv
import pathlib
import re

import numpy as np
import scipy.sparse

from deblur_jax.guidance import encoder, sentences

SHARES = (0.14, 0.12, 0.12, 0.13, 0.11, 0.09, 0.09, 0.11, 0.09)
"""Of the sentences, by kind."""


def labeled(rng: np.random.Generator, count: int) -> tuple[list[str], np.ndarray, set[str]]:
  """(texts, the index of the kind of each `[count]`, the words that they were made of)."""
  texts, labels = [], []
  known = set(encoder.words(' '.join(sentences.phrases()['common words'])))
  for _ in range(count):
    kind = encoder.KINDS[rng.choice(len(encoder.KINDS), p=SHARES)]
    text = sentences.draw(rng, kind)
    known |= set(encoder.words(text))
    texts.append(sentences.misspelled(rng, text) if rng.random() < 0.25 else text)
    labels.append(encoder.KINDS.index(kind))
  return texts, np.array(labels), known


def train(seed: int = 0, count: int = 4200, steps: int = 120) -> dict[str, np.ndarray]:
  """The encoder's parameters, by Adam on the cross-entropy of all sentences at once."""
  rng = np.random.default_rng(seed)
  texts, labels, known = labeled(rng, count)
  x = encoder.bags(texts)
  seen = x.any(0)
  used = scipy.sparse.csr_array(x[:, seen])
  wanted = np.eye(len(encoder.KINDS), dtype=np.float32)[labels]
  shape = (int(seen.sum()), encoder.WIDTH)
  params = [
    rng.normal(0, 0.3, shape).astype(np.float32),
    rng.normal(0, 0.1, (encoder.WIDTH, len(encoder.KINDS))).astype(np.float32),
    np.zeros(len(encoder.KINDS), np.float32),
  ]
  moments = [(np.zeros_like(one), np.zeros_like(one)) for one in params]
  for step in range(1, steps + 1):
    hidden = np.tanh(used @ params[0])
    logits = hidden @ params[1] + params[2]
    shares = np.exp(logits - logits.max(1, keepdims=True))
    error = (shares / shares.sum(1, keepdims=True) - wanted) / count
    inner = error @ params[1].T * (1 - hidden**2)
    slopes = [used.T @ inner + 1e-5 * params[0], hidden.T @ error, error.sum(0)]
    for i, slope in enumerate(slopes):
      first, second = moments[i]
      moments[i] = first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
      corrected = first / (1 - 0.9**step), second / (1 - 0.99**step)
      params[i] = params[i] - 0.02 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
  table = np.zeros((encoder.ROWS, encoder.WIDTH), np.float32)
  table[seen] = params[0]
  scale = np.float32(np.abs(table).max() / 127)
  return {
    'table': np.rint(table / scale).astype(np.int8),
    'scale': scale,
    'head': params[1].astype(np.float16),
    'bias': params[2].astype(np.float16),
    'vocabulary': np.array(' '.join(sorted(word for word in known if not re.search(r'\d', word)))),
  }


def main() -> None:
  """Trains, writes, and with --check prints what the grammar gets wrong."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--check', action='store_true', help='compare with tools/prompts_dev.csv')
  parser.add_argument('--output', default=encoder.FILE, help='the file to write')
  arguments = parser.parse_args()
  np.savez_compressed(arguments.output, **train())
  if not arguments.check:
    return
  from deblur_jax.guidance import words

  with open(pathlib.Path(__file__).parent / 'prompts_dev.csv', newline='') as file:
    asked = list(csv.DictReader(file))
  wrong = 0
  for row in asked:
    try:
      found, reason = words.parse(row['prompt']).row(), ''
    except ValueError as error:
      found, reason = ('refuse', '', ''), str(error)
    if found != (row['kinds'], row['strength'], row['region']):
      wrong += 1
      print(f'{row["prompt"]!r}: {found} {reason}')
  print(f'{len(asked) - wrong} of {len(asked)} right')


if __name__ == '__main__':
  main()
