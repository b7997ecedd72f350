"""A benchmark's results as tables: for the terminal, as CSV, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
import csv
import io
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from deblur_jax.evaluation import protocols
from deblur_jax.evaluation.quoted import GOPRO

MEASURED = 'measured'


class Line(NamedTuple):
  """A method: its scores on each set, and what it costs (`costs.Costs`, parameters, device)."""

  method: str
  scores: Mapping[str, Mapping[str, float]]
  costs: Mapping[str, Any]
  source: str = MEASURED


class ScoredSet(NamedTuple):
  """How a set was scored."""

  protocol: str
  pictures: int


Sets = Mapping[str, ScoredSet]


def _milliseconds(value: float) -> str:
  return f'{value:.3g}' if value < 100 else f'{value:,.0f}'


# Column -> key in `Line.costs`, and its format; the most important first.
_COSTS = {
  'params': ('parameters', lambda value: f'{value / 1e6:.2f} M'),
  'GMACs': ('gmacs', lambda value: f'{value:.2f}' if value < 100 else f'{value:.1f}'),
  'ms 256²': ('ms_256x256', _milliseconds),
  'ms 720p': ('ms_1280x720', _milliseconds),
  'MiB': ('memory_mib', lambda value: f'{value:,}'),
  'compile s': ('compile_s', lambda value: f'{value:.1f}'),
}
_ON_TERMINAL = 7
"""How many columns of numbers fit into 80 characters."""


def quoted(sets: Sets) -> list[Line]:
  """Published scores on GoPro, as lines of the first set with the same protocol."""
  name = next((name for name, one in sets.items() if one.protocol == 'gopro'), None)
  lines = []
  for method, quote in GOPRO.items() if name else ():
    scores = {'psnr': quote.psnr} | ({'ssim': quote.ssim} if quote.ssim else {})
    costs = {'parameters': quote.parameters, 'gmacs': quote.gmacs}
    lines.append(Line(method, {name: scores}, costs, f'quoted: {quote.source}'))
  return lines


def terminal(lines: Sequence[Line], sets: Sets) -> list[Table]:
  """A table for every set, at most 80 characters wide."""
  tables = []
  for name, one in sets.items():
    title = f'{name}, {one.pictures} pictures ({protocols.describe(one.protocol)})'
    table = Table(title=title, title_justify='left', box=box.SIMPLE, padding=(0, 1, 0, 0))
    metrics = _metrics(lines, name)
    costs = list(_COSTS)[: _ON_TERMINAL - len(metrics)]
    for index, column in enumerate(['method', *metrics, *costs]):
      table.add_column(column, justify='right' if index else 'left', overflow='fold')
    shown = [line for line in lines if name in line.scores]
    for index, line in enumerate(shown):
      if line.source != MEASURED and (index == 0 or shown[index - 1].source == MEASURED):
        table.add_section()
        table.add_row('quoted:')
      scores = [_score(line, name, metric) for metric in metrics]
      table.add_row(line.method, *scores, *_costs(line, costs))
    tables.append(table)
  return tables


def markdown(lines: Sequence[Line], sets: Sets, command: str) -> str:
  """One table, methods by sets, followed by how it was measured and by `command`."""
  columns = [(name, metric) for name in sets for metric in _metrics(lines, name)]
  header = ['method', *(f'{name} {metric.upper()}' for name, metric in columns), *_COSTS, 'source']
  rows = [header, ['---', *['---:'] * (len(header) - 2), '---']]
  for line in lines:
    scores = [_score(line, name, metric) for name, metric in columns]
    rows.append([line.method, *scores, *_costs(line, _COSTS, spread=True), line.source])
  text = [''.join(f'| {cell} ' for cell in row) + '|' for row in rows]
  text += ['', *(_note(name, one) for name, one in sets.items())]
  devices = dict.fromkeys(line.costs['device'] for line in lines if 'device' in line.costs)
  text += [
    '- GMACs: billions of multiply-adds at 256x256, of convolutions and matrix products, counted',
    f'- ms: median for one picture on {", ".join(devices)}, and quartiles, without compiling;',
    '  720p is 1280x720',
    '- MiB: peak at 1280x720, of the whole process on a CPU; compile s: for both sizes',
  ]
  if any(line.source != MEASURED for line in lines):
    text.append(
      "- quoted: PSNR and SSIM as the authors report them for GoPro's test set, not measured"
    )
  return '\n'.join([*text, '', '```bash', command, '```', ''])


def comma_separated(lines: Sequence[Line], sets: Sets) -> str:
  """A row for every method and set, with unrounded numbers."""
  rows = [
    {
      'set': name,
      'protocol': one.protocol,
      'pictures': one.pictures if line.source == MEASURED else '',
      'method': line.method,
      'source': line.source,
      **line.scores[name],
      **line.costs,
    }
    for name, one in sets.items()
    for line in lines
    if name in line.scores
  ]
  text = io.StringIO()
  writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()


def _metrics(lines: Sequence[Line], name: str) -> list[str]:
  """The metrics of a set, in order."""
  return list(dict.fromkeys(metric for line in lines for metric in line.scores.get(name, {})))


def _score(line: Line, name: str, metric: str) -> str:
  value = line.scores.get(name, {}).get(metric)
  if value is None:
    return ''
  return f'{value:.2f}' if metric == 'psnr' or value >= 10 else f'{value:.4f}'


def _costs(line: Line, columns: Iterable[str], *, spread: bool = False) -> list[str]:
  """The cells of some columns; with `spread`, also the quartiles if there are any."""
  cells = []
  for key, form in (_COSTS[column] for column in columns):
    value = line.costs.get(key)
    cells.append('' if value is None else form(value))
    quartiles = [line.costs.get(f'{key}_{quartile}') for quartile in ('q1', 'q3')]
    if spread and None not in quartiles:
      cells[-1] += ' ({}..{})'.format(*map(form, quartiles))
  return cells


def _note(name: str, one: ScoredSet) -> str:
  return f'- {name}: {one.pictures} pictures, protocol {protocols.describe(one.protocol)}'
