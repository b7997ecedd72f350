"""TFDS builders of the published data sets: from a folder as published to ArrayRecord.

Run them with `python tools/prepare.py NAME --from DIR`, or like any TFDS builder, with that folder
as the manual directory. They yield file paths, never pixels, so that pictures are copied into
ArrayRecord unchanged and nothing here needs TensorFlow.
"""

from collections.abc import Callable, Iterator
import os
import pathlib
from typing import Any, ClassVar
import warnings

import tensorflow_datasets as tfds

from deblur_jax.datasets import files, gopro, hide, kaggle, mcblur, realblur, unpaired
from deblur_jax.datasets.published import Examples, Published, scan


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A published set: {'name': text, 'blurred': picture, 'sharp': picture}.

  For an unpaired set {'name': text, 'picture': picture}, with sharp and blurred in separate splits.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES: ClassVar = {'1.0.0': 'As published.'}

  published: ClassVar[Published]
  on_example: Callable[[], None] | None = None
  """Called after each example that is written, for a progress bar."""

  def __init_subclass__(cls, **options: Any):
    cls.BUILDER_CONFIGS = [
      tfds.core.BuilderConfig(name=name, description=kind.description)
      for name, kind in cls.published.kinds.items()
    ]
    cls.MANUAL_DOWNLOAD_INSTRUCTIONS = (
      f'{cls.published.download}; the manual directory contains {cls.published.layout}.'
    )
    super().__init_subclass__(**options)

  def examples(self, directory: str | os.PathLike) -> Examples:
    """The examples in a folder, checked, see `published.scan`; warns about anything suspicious.

    Cached for the same folder, as this reads thousands of files.
    """
    directory = pathlib.Path(directory)
    if self._scanned is None or self._scanned[0] != directory:
      kind = self.builder_config.name if self.builder_config else ''
      found = scan(self.published, directory, kind)
      doubt = self.published.doubt(found, kind)
      if doubt:
        warnings.warn(f'{directory}: {doubt}', stacklevel=2)
      self._scanned = directory, found
    return self._scanned[1]

  _scanned: tuple[pathlib.Path, Examples] | None = None

  def _info(self) -> tfds.core.DatasetInfo:
    name, *pictures = self.published.example._fields
    image = tfds.features.Image(shape=(None, None, 3))
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.published.description.strip(),
      homepage=self.published.homepage,
      license=self.published.license,
      citation=self.published.citation,
      features=tfds.features.FeaturesDict(
        {name: tfds.features.Text(), **dict.fromkeys(pictures, image)}
      ),
      supervised_keys=('blurred', 'sharp') if 'blurred' in pictures else None,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    found = self.examples(dl_manager.manual_dir)
    return {split: self._generate_examples(examples) for split, examples in found.items()}

  def _generate_examples(self, examples: list) -> Iterator[tuple[str, dict[str, Any]]]:
    for example in examples:
      for picture in example[1:]:
        files.verify(picture)
      yield example.name, example._asdict()
      if self.on_example is not None:
        self.on_example()


class Gopro(Builder):
  """GoPro."""

  published = gopro.SET


class Hide(Builder):
  """HIDE."""

  published = hide.SET


class Realblur(Builder):
  """RealBlur."""

  published = realblur.SET


class Kaggle(Builder):
  """Kaggle's blur dataset."""

  published = kaggle.SET


class Mcblur(Builder):
  """MC-Blur."""

  published = mcblur.SET


class Unpaired(Builder):
  """Sharp pictures, and blurred ones of other scenes."""

  published = unpaired.SET


BUILDERS: dict[str, type[Builder]] = {
  builder.published.name: builder for builder in (Gopro, Hide, Realblur, Kaggle, Mcblur, Unpaired)
}


def make(name: str, directory: str | os.PathLike | None = None) -> Builder:
  """The builder of `set` or `set/kind` that writes or reads a TFDS data directory."""
  name, _, kind = name.partition('/')
  directory = directory and pathlib.Path(directory).expanduser()
  return BUILDERS[name](config=kind or None, data_dir=directory, file_format='array_record')
