"""MC-Blur: blur of several causes, in subsets that are downloaded separately.

Zhang et al., "MC-Blur: a comprehensive benchmark for image deblurring", 2023. Three kinds: `rhm`
averages frames of 250 to 1000 Hz films (70,000 pairs to train on, 17,500 to test on), `uhdm`
convolves ultra-high-definition pictures with large kernels (8,000 and 2,000), `lsd` is real
defocus, in crops (18,000 and 4,400). The fourth subset, RMBQ, has no sharp halves: its folder real/
can serve as the blurred half of `unpaired`.

The layout follows the authors' description; their archives (117, 278 and 34 GB) could not be opened
when this was written: that the two halves of a pair have the same name is assumed, and checked.
"""

import pathlib

from deblur_jax.datasets import pairs
from deblur_jax.datasets.published import SPLITS, Examples, Kind, Published

FOLDERS = {'rhm': 'motion_avg', 'uhdm': 'Conv', 'lsd': 'defocus_crop'}


def read(directory: pathlib.Path, kind: str) -> Examples:
  """Pairs of each split of a subset."""
  (subset,) = pairs.folders(directory, FOLDERS[kind])
  folders = pairs.folders(subset, 'Train', 'Test')
  return {
    split: pairs.match(folder / 'blurry', folder / 'sharp')
    for split, folder in zip(SPLITS, folders, strict=True)
  }


SET = Published(
  name='mcblur',
  title='MC-Blur',
  description=__doc__,
  homepage='https://github.com/HDCVLab/MC-Blur-Dataset',
  license='CC BY-NC-ND 4.0',
  citation="""@article{zhang2023mcblur,
  title={MC-Blur: A Comprehensive Benchmark for Image Deblurring},
  author={Zhang, Kaihao and Wang, Tao and Luo, Wenhan and Chen, Boheng and Ren, Wenqi and Stenger, Bjorn and Liu, Wei and Li, Hongdong and Yang, Ming-Hsuan},
  journal={arXiv:2112.00234},
  year={2023}
}""",  # noqa: E501
  download='download motion_avg.zip (RHM), Conv.zip (UHDM) or defocus_crop.zip (LSD), linked from'
  ' https://github.com/HDCVLab/MC-Blur-Dataset, and unpack it',
  folder='MC-Blur',
  layout='{motion_avg,Conv,defocus_crop}/{Train,Test}/{blurry,sharp}/*',
  read=read,
  kinds={
    'rhm': Kind('Averaged frames of high-speed films.', FOLDERS['rhm']),
    'uhdm': Kind('Large pictures under large kernels.', FOLDERS['uhdm']),
    'lsd': Kind('Real defocus, in crops.', FOLDERS['lsd']),
  },
)
