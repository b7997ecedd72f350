"""Prepares a published data set for training: checks its folder and packs it into ArrayRecord.

  python tools/prepare.py gopro --from GOPRO_Large
  python tools/prepare.py realblur --from RealBlur --to /data/tensorflow_datasets --config j

Data that is already prepared is kept, so after an interruption, run the same command again. `python
tools/prepare.py NAME --help` says where a set comes from and what its folder contains.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
import time
import warnings

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
import tensorflow_datasets as tfds

from deblur_jax.datasets import builders, catalog
from deblur_jax.datasets.published import Examples, Published

STALE = 3600  # seconds after which an unfinished folder cannot belong to a running process


def main(argv: list[str] | None = None) -> int:
  """0, or 1 after one line that says what is wrong."""
  arguments = _parser().parse_args(argv)
  console = Console(highlight=False, soft_wrap=True)
  try:
    _run(catalog.SETS[arguments.set], arguments, console)
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('stopped; nothing unfinished is left, the same command starts again', file=sys.stderr)
    return 130
  return 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  sets = parser.add_subparsers(dest='set', required=True)
  for name, published in catalog.SETS.items():
    about = published.description.strip().splitlines()[0]
    one = sets.add_parser(
      name, help=about, formatter_class=argparse.RawDescriptionHelpFormatter,
      description=f'{about}\n\n{published.download}.\nThe folder contains {published.layout}.'
      f'\nLicense: {published.license}.',
    )  # fmt: skip
    one.add_argument('--from', dest='source', required=True, type=pathlib.Path, metavar='DIR',
                     help=f'the folder {published.folder}')  # fmt: skip
    one.add_argument('--to', type=pathlib.Path, metavar='DATA_DIR',
                     help='default: $TFDS_DATA_DIR or ~/tensorflow_datasets')  # fmt: skip
    if published.kinds:
      one.add_argument('--config', choices=tuple(published.kinds),
                       help='default: all kinds in the folder')  # fmt: skip
  return parser


def _run(published: Published, arguments: argparse.Namespace, console: Console) -> None:
  source = arguments.source.expanduser()
  names = catalog.names(published)
  if published.kinds:
    # The first if there is none: its check reports what was expected and what was found.
    kinds = [arguments.config] if arguments.config else published.kinds_in(source)
    names = [f'{published.name}/{kind}' for kind in kinds] or names[:1]
  # Everything is checked before anything is written.
  checked = []
  for name in names:
    builder = builders.make(name, arguments.to)
    checked.append((name, builder, _examples(builder, source, console)))
  for name, builder, examples in checked:
    _prepare(name, builder, source, examples, console)
  console.print(_hint(published, names[0], arguments.to))


def _examples(builder: builders.Builder, source: pathlib.Path, console: Console) -> Examples:
  """The examples in the folder; each warning about it is printed as a line."""
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    examples = builder.examples(source)
  for warning in caught:
    console.print(f'warning: {warning.message}')
  return examples


def _prepare(
  name: str, builder: builders.Builder, source: pathlib.Path, examples: Examples, console: Console
) -> None:
  target = pathlib.Path(builder.data_dir)
  what = 'pairs' if 'train' in examples else 'pictures'
  expected = {split: len(found) for split, found in examples.items()}
  if target.is_dir():
    there = {split: info.num_examples for split, info in builder.info.splits.items()}
    if there != expected:
      raise ValueError(
        f'{target} has {_counts(there, what)}, but {source} has {_counts(expected, what)}: remove'
        f' the former to prepare it again, or use another --to'
      )
    console.print(f'{name}: already in {target}: {_counts(there, what)}')
    return
  _clear_stale(target.parent)
  with _bar(console) as bar, tempfile.TemporaryDirectory() as downloads, _quiet():
    task = bar.add_task(name, total=sum(expected.values()))
    builder.on_example = lambda: bar.advance(task)
    builder.download_and_prepare(
      download_dir=downloads,
      download_config=tfds.download.DownloadConfig(manual_dir=source),
      file_format='array_record',
    )
  console.print(f'{name}: {_counts(expected, what)} in {target}')


def _hint(published: Published, name: str, to: pathlib.Path | None) -> str:
  """The command to train with; for a set that is not aligned, how to open it."""
  if published.unaligned:
    directory = f', directory={os.fspath(to)!r}' if to else ''
    return f"open: deblur_jax.data.sources.open({name!r}, 'train'{directory}, unaligned=True)"
  settings = ('data.source', 'evaluate.gopro.source') if name != 'gopro/blur' else ()
  changes = ''.join(f' --config.{setting}={name}' for setting in settings)
  directory = f' --config.data.directory={to}' if to else ''
  return f'train: python -m deblur_jax.main --config=configs/nafnet.py:gopro{changes}{directory}'


def _clear_stale(directory: pathlib.Path) -> None:
  """Removes what a killed run left unfinished; TFDS itself cleans up in all other cases."""
  for left in directory.glob('incomplete.*'):
    newest = max((p.stat().st_mtime for p in (left, *left.rglob('*'))), default=0.0)
    if time.time() - newest > STALE:
      shutil.rmtree(left)


def _counts(numbers: dict[str, int], what: str) -> str:
  return ', '.join(f'{count} {split} {what}' for split, count in numbers.items())


def _bar(console: Console) -> Progress:
  return Progress(
    TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    console=console,
  )  # fmt: skip


@contextlib.contextmanager
def _quiet():
  """Keeps TFDS's own bars and messages off the terminal."""
  tfds.disable_progress_bar()
  with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
    yield


if __name__ == '__main__':
  sys.exit(main())
