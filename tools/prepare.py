"""Prepares a published data set for training: checks its folder and packs it into ArrayRecord.

  python tools/prepare.py gopro --from GOPRO_Large
  python tools/prepare.py gopro --from GOPRO_Large --to /data/tensorflow_datasets --config blur

What is prepared already is left alone, so an interrupted run is simply started again.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
import tensorflow_datasets as tfds

from deblur_jax.datasets import gopro, pairs

STALE = 3600  # seconds after which an unfinished folder cannot belong to a running process


def main(argv: list[str] | None = None) -> int:
  """0, or 1 after one line that says what is wrong."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  sets = parser.add_subparsers(dest='set', required=True)
  one = sets.add_parser('gopro', help=f'{gopro.DOWNLOAD}; {gopro.LAYOUT}')
  one.add_argument('--from', dest='source', required=True, type=pathlib.Path, metavar='DIR',
                   help='the unpacked folder with train/ and test/')  # fmt: skip
  one.add_argument('--to', type=pathlib.Path, metavar='DATA_DIR',
                   help='default: $TFDS_DATA_DIR or ~/tensorflow_datasets')  # fmt: skip
  one.add_argument('--config', choices=gopro.CONFIGS, help='default: all that are in the folder')
  arguments = parser.parse_args(argv)
  console = Console(highlight=False, soft_wrap=True)
  try:
    _gopro(arguments, console)
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('stopped; nothing half-done is left, the same command starts again', file=sys.stderr)
    return 130
  return 0


def _gopro(arguments: argparse.Namespace, console: Console) -> None:
  source = arguments.source.expanduser()
  if not source.is_dir():
    raise FileNotFoundError(f'{source}: no such folder; {gopro.DOWNLOAD}')
  # `blur` where neither is there: its check says what was expected and what found.
  configs = [arguments.config] if arguments.config else gopro.configs_in(source) or ['blur']
  # Everything is checked before anything is written.
  found = {config: gopro.scan(source, config) for config in configs}
  for config in configs:
    _prepare(source, arguments.to, config, found[config], console)
  directory = f' --config.data.directory={arguments.to}' if arguments.to else ''
  if 'blur' in configs:
    kind = ''
  else:
    settings = ('data.source', 'evaluate.gopro.source')
    kind = ''.join(f' --config.{setting}=gopro/blur_gamma' for setting in settings)
  command = f'python -m deblur_jax.main --config=configs/nafnet.py:gopro{kind}{directory}'
  console.print(f'train: {command}')


def _prepare(
  source: pathlib.Path,
  to: pathlib.Path | None,
  config: str,
  found: dict[str, list[pairs.Pair]],
  console: Console,
) -> None:
  builder = gopro.Gopro(config=config, data_dir=to and to.expanduser(), file_format='array_record')
  target = pathlib.Path(builder.data_dir)
  expected = {split: len(found[split]) for split in gopro.SPLITS}
  if target.is_dir():
    there = {split: builder.info.splits[split].num_examples for split in gopro.SPLITS}
    if there != expected:
      raise ValueError(
        f'{target} holds {_counts(there)}, but {source} {_counts(expected)}: remove the former to'
        f' prepare anew, or give another --to'
      )
    console.print(f'gopro/{config}: already in {target}: {_counts(there)}')
    return
  _clear_stale(target.parent)
  with _bar(console) as bar, tempfile.TemporaryDirectory() as downloads, _quiet():
    task = bar.add_task(f'gopro/{config}', total=sum(expected.values()))
    builder.on_example = lambda: bar.advance(task)
    builder.download_and_prepare(
      download_dir=downloads,
      download_config=tfds.download.DownloadConfig(manual_dir=source),
      file_format='array_record',
    )
  console.print(f'gopro/{config}: {_counts(expected)} in {target}')


def _clear_stale(directory: pathlib.Path) -> None:
  """Removes what a killed run left unfinished; TFDS itself cleans up after any other end."""
  for left in directory.glob('incomplete.*'):
    newest = max((p.stat().st_mtime for p in (left, *left.rglob('*'))), default=0.0)
    if time.time() - newest > STALE:
      shutil.rmtree(left)


def _counts(numbers: dict[str, int]) -> str:
  return ' and '.join(f'{count} {split} pairs' for split, count in numbers.items())


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
