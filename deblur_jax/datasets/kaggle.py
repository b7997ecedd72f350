"""Kaggle's "blur dataset": 350 scenes, each sharp, out of focus and shaken, by 66 devices.

By Alekseev, scaled to a longer side of 2048 pixels. Two kinds: `defocus` and `motion`, with the
same sharp halves. The photographs of a scene were taken one after another by hand, and differ in
view, exposure and sometimes size: according to their author, neither PSNR nor SSIM can compare
them, nor can one train on them as pairs. There is no split; a tenth of the scenes is held out to
test on, the same ones for both kinds.

The photographs of a scene share number and device: `106_NIKON-D3400-35MM_S.JPG` is sharp, `_F` out
of focus, `_M` shaken.
"""

import pathlib
import re

from deblur_jax.datasets import files, pairs
from deblur_jax.datasets.published import SPLITS, Examples, Kind, Published

FOLDERS = {'defocus': 'defocused_blurred', 'motion': 'motion_blurred'}


def read(directory: pathlib.Path, kind: str) -> Examples:
  """Pairs `number_device` of each split."""
  blurred, sharp = pairs.folders(directory, FOLDERS[kind], 'sharp')
  found = pairs.match(blurred, sharp, scene=_scene)
  test = files.held_out(pair.name for pair in found)
  return {
    split: [pair for pair in found if (pair.name in test) == (split == 'test')] for split in SPLITS
  }


def _scene(name: str) -> str:
  """The name without the letter for the kind of blur and anything after it."""
  return re.sub(r'_[SFM](\.\w+)?$', '', name, flags=re.IGNORECASE)


SET = Published(
  name='kaggle',
  title="Kaggle's blur dataset",
  description=__doc__,
  homepage='https://www.kaggle.com/datasets/kwentar/blur-dataset',
  license='CC0 on Kaggle; none stated in https://github.com/Kwentar/blur_dataset',
  citation="""@misc{alekseev_blur_dataset,
  title={Blur dataset},
  author={Alekseev},
  howpublished={https://www.kaggle.com/datasets/kwentar/blur-dataset}
}""",
  download='download https://www.kaggle.com/datasets/kwentar/blur-dataset and unpack it',
  folder='blur-dataset',
  layout='sharp/*_S.*, defocused_blurred/*_F.* and motion_blurred/*_M.*',
  read=read,
  kinds={
    'defocus': Kind('Out of focus, and sharp.', FOLDERS['defocus']),
    'motion': Kind('Shaken, and sharp.', FOLDERS['motion']),
  },
  unaligned='the photographs of a scene were taken one after another',
)
