"""Sharp pictures, and blurred ones of other scenes, to learn from without pairs.

Zhang et al., "Deblurring by realistic blurring", CVPR 2020, learn real-world blur in this way: from
sharp photographs such as COCO's (Lin et al. 2014), and blurred ones such as their RWBI. Any two
folders will do, with pictures in any order and depth, and so will links to folders. A tenth of each
is held out to test on. There is no PSNR or SSIM, and no two pictures are cropped as a pair.
"""

import pathlib

from deblur_jax.datasets import files, pairs
from deblur_jax.datasets.published import SPLITS, Examples, Published, Single

SIDES = ('sharp', 'blurred')


def read(directory: pathlib.Path, kind: str) -> Examples:
  """Single pictures of `train_sharp`, `train_blurred`, `test_sharp` and `test_blurred`."""
  found = [pairs.pictures(folder) for folder in pairs.folders(directory, *SIDES)]
  test = [files.held_out(names) for names in found]
  return {
    f'{split}_{side}': [
      Single(name, file)
      for name, file in found[i].items()
      if (name in test[i]) == (split == 'test')
    ]
    for split in SPLITS
    for i, side in enumerate(SIDES)
  }


SET = Published(
  name='unpaired',
  title='an unpaired set',
  description=__doc__,
  homepage='https://github.com/HDCVLab/Deblurring-by-Realistic-Blurring',
  license='that of the pictures: photographers differ for COCO, not stated for RWBI',
  citation="""@inproceedings{zhang2020deblurring,
  title={Deblurring by realistic blurring},
  author={Zhang, Kaihao and Luo, Wenhan and Zhong, Yiran and Ma, Lin and Stenger, Bjorn and Liu, Wei and Li, Hongdong},
  booktitle={Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages={2737--2746},
  year={2020}
}
@inproceedings{lin2014microsoft,
  title={Microsoft {COCO}: Common Objects in Context},
  author={Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona, Pietro and Ramanan, Deva and Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},
  booktitle={European Conference on Computer Vision},
  year={2014}
}""",  # noqa: E501
  download='put a folder or a link sharp/ (such as train2017 of https://cocodataset.org) and one'
  ' blurred/ (such as RWBI of https://github.com/HDCVLab/Deblurring-by-Realistic-Blurring) into'
  ' one folder',
  folder='SHARP_AND_BLURRED',
  layout='sharp/ and blurred/ with pictures in any order',
  read=read,
  unaligned='sharp and blurred pictures show different scenes',
  example=Single,
)
