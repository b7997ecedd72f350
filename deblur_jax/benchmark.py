"""Methods by test sets: quality, multiply-adds, milliseconds, memory -> CSV, Markdown, a figure.

Every method runs in processes of its own, so that its memory can be measured and that one that
fails, or takes all the memory, ends neither the others nor the run. What is measured is kept in the
output folder at once, and is measured again only if weights, set, protocol, device or the source
code of method and metrics changed.
"""

from collections.abc import Callable, Iterable, Sequence
import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import jax
import numpy as np

import deblur_jax
from deblur_jax import atomic, methods, sharding, weights, writers, zoo
from deblur_jax.blur import kernels
from deblur_jax.blur.synthesis import MIXED
from deblur_jax.evaluation import code, costs, figures, protocols, restoration, tables
from deblur_jax.solvers import SOLVERS
from deblur_jax.types import Needs

Path = str | os.PathLike[str]
Say = Callable[[Any], None]

BLURRED = 'blurred'
"""The method that does nothing."""

TIMED_PSF = 21, 30, 25
"""Length, angle and canvas of the motion that solvers are timed with."""

BUILTIN_DRAWS = 4
"""How often each of the few built-in pictures comes; as the configs have it."""

_BOOKKEEPING = ('tag', 'protocol', 'pictures')

_SCORING = ('deblur_jax.evaluation.restoration', 'deblur_jax.metrics', 'deblur_jax.zoo')
"""Modules that scores depend on, with all that they import; `zoo` leads to what methods share."""


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be measured, and where it is kept."""

  output: pathlib.Path
  methods: dict[str, str]
  """Its name in the table -> what `zoo.load` takes."""
  sets: dict[str, dict[str, Any]]
  """Its name in the table -> the arguments of `restoration.open_set`."""


def plan(methods: Sequence[str], sets: Iterable[str], output: Path, **settings: str) -> Plan:
  """The plan for methods and sets as they are written on the command line.

  Args:
    methods: run folders, weights files or solvers; these take the PSF from sets that know it.
    sets: `SOURCE`, `SOURCE:DIRECTORY`, each perhaps with `@PROTOCOL`.
    output: the folder for the results.
    **settings: `blur`, `lpips` and `dists` of `restoration.open_set`, for all sets.

  Raises ValueError where two methods or two sets would go by one name, or a protocol is unknown.
  """
  return Plan(
    pathlib.Path(output),
    _by_name([(_method_name(method), method) for method in methods], 'methods'),
    _by_name([_set(text, settings) for text in sets], 'sets'),
  )


def run(plan: Plan, say: Say, *, command: str = '') -> int:
  """Measures what is not measured yet, writes and shows the tables; how many parts failed.

  The output folder gets benchmark.md (which quotes `command`), benchmark.csv, benchmark.png,
  pictures.csv (the scores of every picture), and what all of them are made from: results.json and
  costs.json. Raises ValueError or OSError where a
  set cannot be opened.
  """
  # Not the weights of learned metrics: this process leaves the accelerator to the others.
  opened = {
    name: restoration.open_set(**{**one, 'lpips': '', 'dists': ''})
    for name, one in plan.sets.items()
  }
  plan.output.mkdir(parents=True, exist_ok=True)
  device = _device()
  lines, failed = [], 0
  for name, method in {BLURRED: '', **plan.methods}.items():
    try:
      digest, source = _digest(method), _source(method)
    except (OSError, ValueError) as error:
      say(f'{name}: {_line(error)}')
      failed += 1
      continue
    job: dict[str, Any] = {'name': name, 'method': method, 'output': str(plan.output)}
    costs_tag = _tag(digest, source, code.digest('deblur_jax.evaluation.costs'), device)
    jobs = [{**job, 'device': device, 'tag': costs_tag}] if method else []
    for set_name, pictures in opened.items():
      settings = plan.sets[set_name]
      scoring = code.digest(*_SCORING, *_outside(settings.get('metrics', '')))
      tag = _tag(digest, source, scoring, settings, pictures.protocol, len(pictures))
      jobs.append({**job, 'set': set_name, 'settings': settings, 'tag': tag})
    found = {one.get('set', ''): _done(one, say) for one in jobs}
    failed += sum(one is None for one in found.values())
    measured = found.pop('', None) or {}
    scores = {set_name: one for set_name, one in found.items() if one}
    lines.append(tables.Line(name, scores, measured))
  sets = {name: tables.ScoredSet(one.protocol, len(one)) for name, one in opened.items()}
  lines = _means(plan.output, lines)
  _write(plan.output, lines, sets, say, command)
  return failed


def _device() -> str:
  """The name of the device, asked for in another process: this one must not hold it."""
  command = [sys.executable, '-m', __spec__.name, 'device']
  asked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
  if asked.returncode:
    raise OSError('jax finds no device to measure on; what it says stands above')
  return asked.stdout.strip()


def _done(job: dict[str, Any], say: Say) -> dict[str, Any] | None:
  """What a job finds: kept from before, or done now in a process of its own; None if it fails."""
  if _known(job).get('tag') != job['tag']:
    what = f'on {job["set"]}' if 'set' in job else 'speed and memory'
    say(f'{job["name"]}: {what}')
    # What was compiled in an earlier run must not make compiling look fast.
    fresh = {} if 'set' in job else {'JAX_ENABLE_COMPILATION_CACHE': 'false'}
    command = [sys.executable, '-m', __spec__.name, json.dumps(job)]
    code = subprocess.run(command, env=os.environ | fresh, check=False).returncode
    if code < 0:
      say(f'{job["name"]}: {what}: killed by signal {-code}; was there too little memory?')
    if code:
      return None
  return {key: value for key, value in _known(job).items() if key not in _BOOKKEEPING}


def _write(output: pathlib.Path, lines, sets, say: Say, command: str) -> None:
  everything = [*lines, *tables.quoted(sets)]
  atomic.write_text(output / 'benchmark.md', tables.markdown(everything, sets, command))
  atomic.write_text(output / 'benchmark.csv', tables.comma_separated(everything, sets))
  written = ['benchmark.md', 'benchmark.csv', 'pictures.csv']
  if any('psnr' in scores for line in lines for scores in line.scores.values()):
    figures.save(output / 'benchmark.png', figures.quality_and_time(lines, sets))
    written.append('benchmark.png')
  for table in tables.terminal(everything, sets):
    say(table)
  say(f'{", ".join(written)} are in {output}')


def _main(text: str) -> int:
  """One job, in a process of its own."""
  if text == 'device':
    print(costs.device_name())
    return 0
  job = json.loads(text)
  try:
    found = _score(job) if 'set' in job else _cost(job)
  except KeyboardInterrupt:
    return 130
  except Exception as error:  # Whatever it is, the next method must have its turn.
    print(f'{job["name"]}: {_line(error)}', file=sys.stderr)
    return 1
  _keep(job, found | {'tag': job['tag']})
  return 0


def _cost(job: dict[str, Any]) -> dict[str, Any]:
  method, parameters, psf = job['method'], 0, None
  if methods.is_solver(method):
    psf = np.asarray(kernels.motion(*TIMED_PSF))
  else:
    # Not to be kept beside the method's own: they would count as its memory.
    parameters = sum(leaf.size for leaf in jax.tree.leaves(weights.read(methods.find(method))[0]))
  found = costs.measure(lambda: zoo.load(method, psf=psf))
  return {'parameters': parameters, **found._asdict(), 'device': job['device']}


def _score(job: dict[str, Any]) -> dict[str, Any]:
  sharding.keep_compiled()
  pictures = restoration.open_set(**job['settings'])
  if job['method']:
    _, restore, needs = zoo.load(job['method'])
  else:
    restore, needs = lambda blurred, **known: blurred, Needs()
  done = restoration.restore_set(restore, pictures, needs)
  progress = writers.track(done, f'{job["name"]} on {job["set"]}', total=len(pictures))
  each = [
    {'picture': example['name'], **_as_json(pictures.score(restored, example))}
    for _, example, restored in progress
  ]
  return {'protocol': pictures.protocol, 'pictures': len(pictures), 'each': each}


def _as_json(scores: restoration.Scores) -> dict[str, float | None]:
  """Scores with null for infinity, which JSON does not have."""
  return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _means(output: pathlib.Path, lines: list[tables.Line]) -> list[tables.Line]:
  """The lines with the means of each set over the same pictures, see `restoration.means`.

  Writes pictures.csv on the way.
  """
  rows, means = [], {}
  for name in dict.fromkeys(name for line in lines for name in line.scores):
    each = {line.method: line.scores[name]['each'] for line in lines if name in line.scores}
    rows += [
      {'set': name, 'method': method, **one} for method, ones in each.items() for one in ones
    ]
    scores = {
      method: [
        {
          key: math.inf if value is None else value
          for key, value in one.items()
          if key != 'picture'
        }
        for one in ones
      ]
      for method, ones in each.items()
    }
    pictures = zip(*scores.values(), strict=True)
    means[name] = restoration.means(dict(zip(scores, one, strict=True)) for one in pictures)
  text = io.StringIO()
  writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
  writer.writeheader()
  writer.writerows(rows)
  atomic.write_text(output / 'pictures.csv', text.getvalue())
  return [
    line._replace(scores={name: means[name][line.method] for name in line.scores}) for line in lines
  ]


def _source(method: str) -> str:
  """A digest of the source code of a method itself."""
  if not method:
    return ''
  if methods.is_solver(method):
    function = SOLVERS[method]
    return code.digest(getattr(function, 'func', function).__module__)
  network = weights.read(methods.find(method))[1].get('network', '')
  module, colon, _ = network.partition(':')
  return code.digest(module if colon else f'deblur_jax.models.{network}')


def _outside(text: str) -> list[str]:
  """The modules of the metrics in `text` that come from outside."""
  return re.findall(r'([A-Za-z_][\w.]*):', text)


def _digest(method: str) -> str:
  """What stands for the weights of a method in a tag: its name if it has none."""
  if not method or methods.is_solver(method):
    return method
  return weights.read(methods.find(method))[1]['sha256']


def _file(job: dict[str, Any]) -> pathlib.Path:
  return pathlib.Path(job['output'], 'results.json' if 'set' in job else 'costs.json')


def _read(path: pathlib.Path) -> dict[str, Any]:
  return json.loads(path.read_text()) if path.exists() else {}


def _known(job: dict[str, Any]) -> dict[str, Any]:
  """What is kept of a job, of an earlier tag perhaps."""
  kept = _read(_file(job))
  return (kept.get(job['set'], {}) if 'set' in job else kept).get(job['name'], {})


def _keep(job: dict[str, Any], found: dict[str, Any]) -> None:
  kept = _read(_file(job))
  (kept.setdefault(job['set'], {}) if 'set' in job else kept)[job['name']] = found
  atomic.write_text(_file(job), json.dumps(kept, indent=2, allow_nan=False) + '\n')


def _tag(*parts: Any) -> str:
  """Stands for everything that a result depends on."""
  text = json.dumps([deblur_jax.__version__, *parts], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _by_name(named: Iterable[tuple[str, Any]], what: str) -> dict[str, Any]:
  result: dict[str, Any] = {}
  for name, one in named:
    if name in result or (what == 'methods' and name == BLURRED):
      raise ValueError(f'two {what} would be called {name!r}: rename a folder or a file')
    result[name] = one
  return result


def _method_name(method: str) -> str:
  path = pathlib.Path(method).resolve()
  if path.name == methods.RUN_WEIGHTS:
    path = path.parent
  return path.name.removesuffix('.safetensors')


def _set(text: str, settings: dict[str, str]) -> tuple[str, dict[str, Any]]:
  """(name in the table, arguments of `restoration.open_set`) of `SOURCE:DIRECTORY@PROTOCOL`."""
  place, at, protocol = text.rpartition('@')
  if not at:
    place, protocol = text, ''
  source, _, directory = place.partition(':')
  if protocol:
    protocols.find(protocol)
  # Folders go by their names; what is prepared goes by its source's.
  path = pathlib.Path(directory).resolve()
  name = path.name if source in ('pairs', 'sharp') and directory else source
  draws = BUILTIN_DRAWS if source == 'builtin' else 1
  return name, {
    'source': source,
    'directory': str(path) if directory else '',
    'draws': draws,
    'protocol': protocol,
    'blur': MIXED,
    **settings,
  }


def _line(error: Exception) -> str:
  """The first line of an error, or its kind where it has none."""
  return next(iter(str(error).splitlines()), '') or type(error).__name__


if __name__ == '__main__':
  sys.exit(_main(sys.argv[1]))
