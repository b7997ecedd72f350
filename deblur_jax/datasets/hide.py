"""HIDE: 8,422 pairs of people in motion, blurred by averaging eleven frames of a 240 Hz film.

Shen et al., "Human-aware motion deblurring", ICCV 2019. 6,397 pairs to train on, 2,025 to test on;
the latter are close-ups ("HIDE II") or long shots ("HIDE I"), as their names begin.

All sharp halves are in one folder GT/ and have the names of their blurred halves. The layout is
that of scripts that unpack the authors' archive, which itself could not be opened when this was
written; the error for another layout lists what was found.
"""

import pathlib

from deblur_jax.datasets import files, pairs
from deblur_jax.datasets.published import SPLITS, Examples, Published

TEST = ('test-close-ups', 'test-long-shot')


def read(directory: pathlib.Path, kind: str) -> Examples:
  """Pairs of each split; in the test split, names begin with their folder."""
  train, test, sharp = pairs.folders(directory, *SPLITS, 'GT')
  pairs.folders(test, *TEST)
  sharp_by_name = {file.stem: file for file in pairs.pictures(sharp).values()}
  return {
    split: [_pair(name, file, sharp_by_name, sharp) for name, file in files.find(folder).items()]
    for split, folder in zip(SPLITS, (train, test), strict=True)
    if pairs.pictures(folder)
  }


def _pair(
  name: str, blurred: pathlib.Path, sharp_by_name: dict[str, pathlib.Path], folder: pathlib.Path
) -> pairs.Pair:
  if blurred.stem not in sharp_by_name:
    raise pairs.WrongPairs(f'{blurred}: no picture of that name in {folder}')
  return pairs.Pair(name, blurred, sharp_by_name[blurred.stem])


SET = Published(
  name='hide',
  title='HIDE',
  description=__doc__,
  homepage='https://github.com/joanshen0508/HA_deblur',
  license='not stated by the authors',
  citation="""@inproceedings{HAdeblur,
  author={Shen, Ziyi and Wang, Wenguan and Shen, Jianbing and Ling, Haibin and Xu, Tingfa and Shao, Ling},
  title={Human-Aware Motion Deblurring},
  booktitle={IEEE International Conference on Computer Vision},
  year={2019}
}""",  # noqa: E501
  download='download HIDE_dataset.zip, linked from https://github.com/joanshen0508/HA_deblur, and'
  ' unpack it',
  folder='HIDE_dataset',
  layout='train/*.png, test/{test-close-ups,test-long-shot}/*.png and, sharp, GT/*.png',
  read=read,
)
