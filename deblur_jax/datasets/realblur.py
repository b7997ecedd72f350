"""RealBlur: 4,738 pairs taken at once by two cameras behind a beam splitter, in low light.

Rim et al., "Real-world blur dataset for learning and benchmarking deblurring algorithms", ECCV
2020. Two kinds: `j` is the camera's JPEG, `r` is developed from raw and denoised by BM3D. Each has
3,758 pairs to train on and 980 to test on. The authors rectified, aligned and intensity-matched the
pairs, yet a small shift remains: their scores align once more before comparing
(`evaluation_RealBlur_ecc.py`).

The pairs of a split are those in the authors' list, a file next to the picture folders with a sharp
and a blurred path on every line, relative to the folder of the list:
`RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene183/gt/gt_7.png .../scene183/blur/blur_7.png`. The
lists of `j` were read for this; those of `r` are named the same way.
"""

import pathlib

from deblur_jax.datasets import pairs
from deblur_jax.datasets.published import SPLITS, Examples, Kind, Published


def read(directory: pathlib.Path, kind: str) -> Examples:
  """Pairs `scene/number` of each split, in the order of the authors' list."""
  lists = [directory / f'RealBlur_{kind.upper()}_{split}_list.txt' for split in SPLITS]
  missing = [file.name for file in lists if not file.is_file()]
  if missing:
    raise FileNotFoundError(
      f'{directory}: no {" and no ".join(missing)}, {pairs.listed(directory)}'
    )
  return {split: _listed(file) for split, file in zip(SPLITS, lists, strict=True)}


def _listed(file: pathlib.Path) -> list[pairs.Pair]:
  found = []
  for number, line in enumerate(file.read_text().splitlines(), 1):
    paths = [file.parent / path for path in line.split()]
    if not paths:
      continue
    if len(paths) != 2:
      raise pairs.WrongPairs(f'{file}, line {number}: not a sharp and a blurred path: {line[:80]}')
    sharp, blurred = paths
    name = f'{blurred.parents[1].name}/{blurred.stem.removeprefix("blur_")}'
    found.append(pairs.Pair(name, blurred, sharp))
  missing = [path for pair in found for path in (pair.sharp, pair.blurred) if not path.is_file()]
  if not found:
    raise pairs.WrongPairs(f'{file}: lists no pairs; unpack the archive again')
  if missing:
    raise FileNotFoundError(
      f'{file}: {len(missing)} of its {2 * len(found)} pictures are missing (the first is'
      f' {missing[0]}), {pairs.listed(file.parent)}'
    )
  return found


SET = Published(
  name='realblur',
  title='RealBlur',
  description=__doc__,
  homepage='http://cg.postech.ac.kr/research/RealBlur',
  license='CC BY 4.0',
  citation="""@inproceedings{rim_2020_ECCV,
  title={Real-World Blur Dataset for Learning and Benchmarking Deblurring Algorithms},
  author={Rim, Jaesung and Lee, Haeyun and Won, Jucheol and Cho, Sunghyun},
  booktitle={Proceedings of the European Conference on Computer Vision (ECCV)},
  year={2020}
}""",
  download='download RealBlur, linked from https://github.com/rimchang/RealBlur, and unpack it',
  folder='RealBlur',
  layout='RealBlur_{J,R}_{train,test}_list.txt, and RealBlur-J_ECC_IMCORR_centroid_itensity_ref/'
  ' and RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref/ with scene*/{gt,blur}/*.png',
  read=read,
  kinds={
    'j': Kind("The camera's JPEG.", 'RealBlur-J_*'),
    'r': Kind('Developed from raw.', 'RealBlur-R_*'),
  },
)
