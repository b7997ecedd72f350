"""Trains a config with every combination of some settings, and tabulates the results.

  python tools/sweep.py configs/nafnet.py optim.learning_rate=1e-3,3e-4 model.width=16,32
  python tools/sweep.py @study.txt              the same from a file, one argument per line
  python tools/sweep.py @study.txt --table      the results so far, as Markdown
  python tools/sweep.py @study.txt --dry-run    the commands, and one for a Slurm array

Runs are trained one after another, each in its own folder named after its settings, in a folder
named after config and recipe; finished runs are skipped, and stopped ones resumed. Lists are split
at commas outside parentheses: blur=disk(1..3),shake(3..9, exposure=0.5) has two values.
"""

import argparse
import itertools
import json
import pathlib
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax import atomic, writers
from deblur_jax.runs import folder_name

STOPPED = (130, 143)


class Run(NamedTuple):
  """One combination of settings."""

  settings: dict[str, str]
  workdir: pathlib.Path
  command: list[str]


def main(argv: list[str] | None = None) -> int:
  """0, or 1 if a run failed."""
  parser = argparse.ArgumentParser(
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    fromfile_prefix_chars='@',
  )
  parser.convert_arg_line_to_args = lambda line: (
    [] if not line.strip() or line.startswith('#') else [line.strip()]
  )
  parser.add_argument('config', help='configs/NAME.py or configs/NAME.py:RECIPE')
  parser.add_argument(
    'settings', nargs='+', metavar='NAME=VALUE,VALUE', help='settings of the config'
  )
  parser.add_argument(
    '--workdir',
    type=pathlib.Path,
    default=pathlib.Path('runs'),
    help='runs are saved in WORKDIR/sweep-NAME-RECIPE (default: runs)',
  )
  parser.add_argument('--index', type=int, help='only this run, counted from 0, for a Slurm array')
  parser.add_argument('--table', action='store_true', help='only print the table')
  parser.add_argument('--dry-run', action='store_true', help='only print the commands')
  arguments = parser.parse_args(argv)
  folder = arguments.workdir / f'sweep-{folder_name(arguments.config)}'
  try:
    runs = plan(arguments.config, arguments.settings, folder)
  except ValueError as error:
    parser.error(str(error))
  if arguments.index is not None and not 0 <= arguments.index < len(runs):
    parser.error(f'--index must be from 0 to {len(runs) - 1}, not {arguments.index}')
  if arguments.table:
    print(table(runs))
    return 0
  if arguments.dry_run:
    own = sys.argv[1:] if argv is None else argv
    print('\n'.join(shlex.join(run.command) for run in runs))
    print(array([part for part in own if part != '--dry-run'], len(runs)))
    return 0
  if arguments.index is not None:
    return subprocess.run(runs[arguments.index].command).returncode
  return train(runs, folder)


def plan(config: str, settings: list[str], folder: pathlib.Path) -> list[Run]:
  """A run for each combination; the last setting changes fastest.

  Raises ValueError for a setting without a value, or given twice, and for runs that would share a
  folder.
  """
  lists = {}
  for setting in settings:
    name, _, text = setting.partition('=')
    values = [value.strip() for value in re.split(r',(?![^(\[]*[)\]])', text)]
    if not name or not all(values):
      raise ValueError(f'cannot read {setting!r}: settings are NAME=VALUE,VALUE')
    if name in lists:
      raise ValueError(f'{name} is given twice: put its values into one list')
    lists[name] = values
  runs = [_run(config, dict(zip(lists, values, strict=True)), folder)
          for values in itertools.product(*lists.values())]  # fmt: skip
  folders = [run.workdir for run in runs]
  if alike := next((one for one in folders if folders.count(one) > 1), None):
    raise ValueError(f'two runs would share {alike}: give values that differ in letters or digits')
  return runs


def _run(config: str, settings: dict[str, str], folder: pathlib.Path) -> Run:
  name = ','.join(f'{name}={value}' for name, value in settings.items())
  workdir = folder / re.sub(r'[^\w.,=()-]+', '_', name)
  changes = [f'--config.{name}={value}' for name, value in settings.items()]
  start = [sys.executable, '-m', 'deblur_jax.main', f'--config={config}']
  return Run(settings, workdir, [*start, *changes, f'--workdir={workdir}'])


def array(arguments: list[str], count: int) -> str:
  """The command that trains all runs as a Slurm array, one GPU each."""
  own = shlex.join([sys.executable, 'tools/sweep.py', *arguments])
  return shlex.join(
    ['sbatch', f'--array=0-{count - 1}', '--gpus=1', f'--wrap={own} --index=$SLURM_ARRAY_TASK_ID']
  )


def train(runs: list[Run], folder: pathlib.Path) -> int:
  """Trains the runs one after another and writes table.md; 1 if any failed."""
  failed = 0
  for number, run in enumerate(runs, start=1):
    print(f'{number}/{len(runs)}: {run.workdir.name}', flush=True)
    code = subprocess.run(run.command).returncode
    if code in STOPPED:
      return code
    failed += code != 0
  text = table(runs)
  folder.mkdir(parents=True, exist_ok=True)
  atomic.write_text(folder / 'table.md', text + '\n')
  print(f'{text}\n\n{len(runs) - failed} of {len(runs)} runs done; table in {folder / "table.md"}')
  return 1 if failed else 0


def table(runs: list[Run]) -> str:
  """Markdown: settings, steps and loss of each run, and the scores of its best weights."""
  found = [results(run.workdir) for run in runs]
  names, columns = list(runs[0].settings), list(dict.fromkeys(key for one in found for key in one))
  lines = [[*names, *columns], ['---'] * len(names) + ['---:'] * len(columns)]
  for run, one in zip(runs, found, strict=True):
    values = [one.get(column, '') for column in columns]
    lines.append(
      [*run.settings.values(), *(f'{value:.5g}' if value != '' else '' for value in values)]
    )
  cells = [[cell.replace('|', r'\|') for cell in line] for line in lines]
  return '\n'.join(f'| {" | ".join(line)} |' for line in cells)


def results(workdir: pathlib.Path) -> dict[str, float]:
  """The last step and loss of a run, and its scores as 'set metric'; empty before it has any."""
  if not (workdir / 'metrics.jsonl').exists():
    return {}
  found = {}
  for line in writers.read_metrics(workdir):
    if 'loss' in line:
      found = {'steps': line['step'], 'loss': line['loss']}
  path = workdir / 'results.json'
  for name, methods in (json.loads(path.read_text()) if path.exists() else {}).items():
    own = next(scores for method, scores in methods.items() if method != 'blurred')
    found |= {f'{name} {key}': value for key, value in own.items() if isinstance(value, float)}
  return found


if __name__ == '__main__':
  sys.exit(main())
