"""Methods by test sets: quality, multiply-adds, milliseconds, memory -> CSV, Markdown, a figure.

Every method runs in its own processes, so that its memory can be measured and a failure, or running
out of memory, does not stop the others. Results are saved to the output folder immediately, and
measured again only if weights, set, protocol, device or the source code of method and metrics
changed.
"""

from collections.abc import Callable
import csv
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
from deblur_jax import atomic, exported, methods, sharding, weights, writers, zoo
from deblur_jax.blur import kernels
from deblur_jax.evaluation import blurred_set, code, costs, figures, restoration, tables
from deblur_jax.evaluation.plan import BLURRED, Plan
from deblur_jax.evaluation.plan import plan as plan
from deblur_jax.solvers import SOLVERS
from deblur_jax.types import Needs

Say = Callable[[Any], None]

TIMED_PSF = 21, 30, 25
"""Length, angle and canvas of the motion blur that solvers are timed with."""

_BOOKKEEPING = ('tag', 'protocol', 'pictures')

_SCORING = ('deblur_jax.evaluation.restoration', 'deblur_jax.metrics', 'deblur_jax.zoo')
"""Modules that scores depend on, with everything they import; `zoo` covers what methods share."""


def run(plan: Plan, say: Say, *, command: str = '') -> int:
  """Runs the missing measurements, writes and prints the tables; returns the number of failures.

  Writes to the output folder benchmark.md (which quotes `command`), benchmark.csv, benchmark.png,
  pictures.csv (the scores of every picture), and the data behind them: results.json and costs.json.
  Raises ValueError or OSError if a set cannot be opened.
  """
  # Without the weights of learned metrics: this process must not use the accelerator.
  opened = {
    name: blurred_set.open_set(**{**one, 'lpips': '', 'dists': ''})
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
  """The name of the device, from another process: this one must not occupy it."""
  command = [sys.executable, '-m', __spec__.name, 'device']
  asked = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
  if asked.returncode:
    raise OSError('JAX found no device to measure on; see its message above')
  return asked.stdout.strip()


def _done(job: dict[str, Any], say: Say) -> dict[str, Any] | None:
  """A job's result: saved earlier, or measured now in its own process; None if it fails."""
  if _known(job).get('tag') != job['tag']:
    what = f'on {job["set"]}' if 'set' in job else 'speed and memory'
    say(f'{job["name"]}: {what}')
    # A cached compilation would make the compile time look too short.
    fresh = {} if 'set' in job else {'JAX_ENABLE_COMPILATION_CACHE': 'false'}
    command = [sys.executable, '-m', __spec__.name, json.dumps(job)]
    code = subprocess.run(command, env=os.environ | fresh, check=False).returncode
    if code < 0:
      say(f'{job["name"]}: {what}: killed by signal {-code}, possibly out of memory')
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
  say(f'wrote {", ".join(written)} to {output}')


def _main(text: str) -> int:
  """Runs one job, in its own process; returns the exit code."""
  if text == 'device':
    print(costs.device_name())
    return 0
  job = json.loads(text)
  try:
    found = _score(job) if 'set' in job else _cost(job)
  except KeyboardInterrupt:
    return 130
  except Exception as error:  # Any error: the next method must still run.
    print(f'{job["name"]}: {_line(error)}', file=sys.stderr)
    return 1
  _keep(job, found | {'tag': job['tag']})
  return 0


def _cost(job: dict[str, Any]) -> dict[str, Any]:
  method, psf = job['method'], None
  if methods.is_solver(method):
    psf = np.asarray(kernels.motion(*TIMED_PSF))
  found = costs.measure(lambda: zoo.load(method, psf=psf))
  return {'parameters': _parameters(method), **found._asdict(), 'device': job['device']}


def _parameters(method: str) -> int | None:
  """How many parameters a method has; None for a network exported by another program."""
  if methods.is_solver(method):
    return 0
  path = methods.find(method)
  if path.suffix in methods.EXPORTED:
    return exported.open_file(path).manifest.get('parameters')
  return sum(leaf.size for leaf in jax.tree.leaves(weights.read(path)[0]))


def _score(job: dict[str, Any]) -> dict[str, Any]:
  sharding.keep_compiled()
  pictures = blurred_set.open_set(**job['settings'])
  if job['method']:
    method = zoo.load(job['method'])
    restore, needs = method.restore, method.needs
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
  """Scores with None for infinity, which JSON does not have."""
  return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _means(output: pathlib.Path, lines: list[tables.Line]) -> list[tables.Line]:
  """The lines with the means of each set over the same pictures, see `restoration.means`.

  Also writes pictures.csv.
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
  """A digest of the source code of a method."""
  if not method:
    return ''
  if methods.is_solver(method):
    function = SOLVERS[method]
    return code.digest(getattr(function, 'func', function).__module__)
  path = methods.find(method)
  if path.suffix in methods.EXPORTED:
    return code.digest('deblur_jax.exported')
  network = weights.read(path)[1].get('network', '')
  module, colon, _ = network.partition(':')
  return code.digest(module if colon else f'deblur_jax.models.{network}')


def _outside(text: str) -> list[str]:
  """The modules of the metrics in `text` that are from other packages."""
  return re.findall(r'([A-Za-z_][\w.]*):', text)


def _digest(method: str) -> str:
  """The digest of a method's weights; its name if it has none."""
  if not method or methods.is_solver(method):
    return method
  return weights.digest(methods.find(method))


def _file(job: dict[str, Any]) -> pathlib.Path:
  return pathlib.Path(job['output'], 'results.json' if 'set' in job else 'costs.json')


def _read(path: pathlib.Path) -> dict[str, Any]:
  return json.loads(path.read_text()) if path.exists() else {}


def _known(job: dict[str, Any]) -> dict[str, Any]:
  """The saved result of a job, possibly with an outdated tag."""
  kept = _read(_file(job))
  return (kept.get(job['set'], {}) if 'set' in job else kept).get(job['name'], {})


def _keep(job: dict[str, Any], found: dict[str, Any]) -> None:
  kept = _read(_file(job))
  (kept.setdefault(job['set'], {}) if 'set' in job else kept)[job['name']] = found
  atomic.write_text(_file(job), json.dumps(kept, indent=2, allow_nan=False) + '\n')


def _tag(*parts: Any) -> str:
  """A digest of everything that a result depends on."""
  text = json.dumps([deblur_jax.__version__, *parts], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _line(error: Exception) -> str:
  """The first line of an error, or its type if it has no message."""
  return next(iter(str(error).splitlines()), '') or type(error).__name__


if __name__ == '__main__':
  sys.exit(_main(sys.argv[1]))
