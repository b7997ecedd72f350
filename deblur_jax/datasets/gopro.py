"""GoPro: 3,214 pairs of a moving camera, blur made by averaging frames of a 240 Hz film.

Nah, Kim and Lee, "Deep multi-scale convolutional neural network for dynamic scene deblurring",
CVPR 2017. Two configs: `blur` averages the frames as they are in the file, `blur_gamma` averages
them in linear light (a camera response of gamma 2.2) and puts the gamma back. The sharp halves are
the same. Networks are mostly trained on and compared by `blur`.

Prepared by `python tools/prepare.py gopro --from DIR`, or as any TFDS builder. The builder hands
over file paths, never pixels, so that pictures go into ArrayRecord as they are and nothing here
needs TensorFlow.
"""

from collections.abc import Callable, Iterator
import os
import pathlib
from typing import Any

import tensorflow_datasets as tfds

from deblur_jax.datasets import files, pairs

HOMEPAGE = 'https://seungjunnah.github.io/Datasets/gopro'
ARCHIVE = 'GOPRO_Large.zip'
SPLITS = ('train', 'test')
CONFIGS = ('blur', 'blur_gamma')
LAYOUT = '{train,test}/<sequence>/{blur,blur_gamma,sharp}/*.png'

DOWNLOAD = f'download {ARCHIVE} from {HOMEPAGE} and unpack it'


class Gopro(tfds.core.GeneratorBasedBuilder):
  """GoPro pairs: {'name': sequence/frame, 'blurred': picture, 'sharp': picture}."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'As published.'}  # noqa: RUF012 (read by TFDS)
  BUILDER_CONFIGS = [  # noqa: RUF012
    tfds.core.BuilderConfig(name='blur', description='Mean of the frames as they are.'),
    tfds.core.BuilderConfig(name='blur_gamma', description='Mean of the frames in linear light.'),
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'{DOWNLOAD}; the manual directory is the one with train/ and test/.'
  )

  on_example: Callable[[], None] | None = None
  """Called after each example that is written; for a progress bar."""

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=__doc__.strip(),
      homepage=HOMEPAGE,
      license='CC BY 4.0',
      citation="""@inproceedings{nah2017deep,
  title={Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring},
  author={Nah, Seungjun and Kim, Tae Hyun and Lee, Kyoung Mu},
  booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
  year={2017}
}""",
      features=tfds.features.FeaturesDict(
        {
          'name': tfds.features.Text(),
          'blurred': tfds.features.Image(shape=(None, None, 3), encoding_format='png'),
          'sharp': tfds.features.Image(shape=(None, None, 3), encoding_format='png'),
        }
      ),
      supervised_keys=('blurred', 'sharp'),
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    found = scan(dl_manager.manual_dir, self.builder_config.name)
    return {split: self._generate_examples(found[split]) for split in SPLITS}

  def _generate_examples(self, found: list[pairs.Pair]) -> Iterator[tuple[str, dict[str, Any]]]:
    for pair in found:
      files.verify(pair.blurred)
      files.verify(pair.sharp)
      yield pair.name, {'name': pair.name, 'blurred': pair.blurred, 'sharp': pair.sharp}
      if self.on_example is not None:
        self.on_example()


def scan(directory: str | os.PathLike, config: str = 'blur') -> dict[str, list[pairs.Pair]]:
  """Pairs of each split in a folder laid out as published, checked: names `sequence/frame`.

  Some of the sequences are enough, but there must be a pair in each split.

  Raises:
    FileNotFoundError: a split, or a folder in a sequence, that is missing or empty.
    pairs.WrongPairs: names without partner, or sizes that differ.
  """
  directory = pathlib.Path(directory)
  missing = [split for split in SPLITS if not (directory / split).is_dir()]
  if missing:
    raise FileNotFoundError(
      f'{directory}: no {" and no ".join(f"{split}/" for split in missing)}; expected {LAYOUT},'
      f' {pairs.listed(directory)}; {DOWNLOAD}'
    )
  return {split: _split(directory / split, config) for split in SPLITS}


def configs_in(directory: str | os.PathLike) -> list[str]:
  """Which of the two kinds of blur a folder holds, by the sequences of its splits."""
  folders = {
    folder.name
    for split in SPLITS
    for folder in pathlib.Path(directory).glob(f'{split}/*/*')
    if folder.is_dir()
  }
  return [config for config in CONFIGS if config in folders]


def _split(directory: pathlib.Path, config: str) -> list[pairs.Pair]:
  sequences = sorted(p for p in directory.iterdir() if p.is_dir() and not p.name.startswith('.'))
  if not sequences:
    raise FileNotFoundError(
      f'{directory}: no sequence in it; expected {LAYOUT}, {pairs.listed(directory)}'
    )
  found = [
    pair._replace(name=f'{sequence.name}/{pair.name}')
    for sequence in sequences
    for pair in pairs.match(sequence / config, sequence / 'sharp')
  ]
  pairs.check_sizes(found)
  return found
