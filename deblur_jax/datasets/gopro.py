"""GoPro: 3,214 pairs from a moving camera, blurred by averaging frames of a 240 Hz film.

Nah, Kim and Lee, "Deep multi-scale convolutional neural network for dynamic scene deblurring", CVPR
2017. Two kinds: `blur` averages the frames as file values, `blur_gamma` averages them in linear
light (a camera response of gamma 2.2) and applies the gamma again. The sharp halves are the same.
Networks are mostly trained and compared on `blur`. Some copies of the set mix them up, so the kind
is also determined from the pixels, see `averaging`.
"""

import pathlib

from deblur_jax.datasets import averaging, pairs
from deblur_jax.datasets.published import SPLITS, Examples, Kind, Published


def read(directory: pathlib.Path, kind: str) -> Examples:
  """Pairs `sequence/frame` of each split; some of the sequences are enough."""
  folders = pairs.folders(directory, *SPLITS)
  return {split: _split(folder, kind) for split, folder in zip(SPLITS, folders, strict=True)}


def doubt(examples: Examples, kind: str) -> str:
  """A warning if more than a quarter of a sample of pairs was averaged as in the other kind."""
  found = [pair for split in SPLITS for pair in examples[split]]
  slopes = averaging.sample(found)
  others = [name for name, slope in slopes.items() if (slope > 0.5) == (kind == 'blur')]
  if 4 * len(others) <= len(slopes):
    return ''
  light, other = {
    'blur': ('in linear light', 'blur_gamma'), 'blur_gamma': ('as file values', 'blur'),
  }[kind]  # fmt: skip
  return (
    f'{len(others)} of {len(slopes)} sampled pictures in {kind}/ seem to be averaged {light}, like'
    f' {other} (the first is {others[0]}); their scores are not comparable with those on {kind}'
  )


def _split(directory: pathlib.Path, kind: str) -> list[pairs.Pair]:
  sequences = sorted(p for p in directory.iterdir() if p.is_dir() and not p.name.startswith('.'))
  if not sequences:
    raise FileNotFoundError(f'{directory}: no sequences, {pairs.listed(directory)}')
  return [
    pair._replace(name=f'{sequence.name}/{pair.name}')
    for sequence in sequences
    for pair in pairs.match(sequence / kind, sequence / 'sharp')
  ]


SET = Published(
  name='gopro',
  title='GoPro',
  description=__doc__,
  homepage='https://seungjunnah.github.io/Datasets/gopro',
  license='CC BY 4.0',
  citation="""@inproceedings{nah2017deep,
  title={Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring},
  author={Nah, Seungjun and Kim, Tae Hyun and Lee, Kyoung Mu},
  booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
  year={2017}
}""",
  download='download GOPRO_Large.zip from https://seungjunnah.github.io/Datasets/gopro and unpack'
  ' it',
  folder='GOPRO_Large',
  layout='{train,test}/<sequence>/{blur,blur_gamma,sharp}/*.png',
  read=read,
  kinds={
    'blur': Kind('Mean of the frames as file values.', '*/*/blur'),
    'blur_gamma': Kind('Mean of the frames in linear light.', '*/*/blur_gamma'),
  },
  doubt=doubt,
)
