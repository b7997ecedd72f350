"""The options of `deblur-jax restore` that say in words, strokes or examples what is wanted."""

import argparse
from collections.abc import Sequence
import pathlib
from typing import Any, NamedTuple

from deblur_jax import methods
from deblur_jax.cli import values
from deblur_jax.guidance import candidates, words
from deblur_jax.photos import history, jobs

MOST = 12
"""The most candidates."""


def add(parser: argparse.ArgumentParser) -> None:
  """Adds the options."""
  group = parser.add_argument_group('guidance')
  group.add_argument(
    '--prompt',
    metavar='TEXT',
    help="what to do and where, in English: 'remove motion blur but keep the background soft'",
  )
  group.add_argument(
    '--scribble',
    metavar='FILE',
    help='picture of the same size with green strokes where to restore and red ones where not, on '
    'transparent or on a copy of the picture',
  )
  group.add_argument(
    '--example',
    metavar='FILE',
    help='deblur and denoise each picture as much as makes it look like this one',
  )
  group.add_argument(
    '--candidates',
    type=values.positive,
    metavar='N',
    help=f'write N results to choose from (2 to {MOST}), and a contact sheet',
  )
  group.add_argument(
    '--choose',
    metavar='FILE',
    help='restore as this candidate was; later candidates in its folder will be closer to it',
  )


class Run(NamedTuple):
  """Files to restore in one way."""

  todo: list[jobs.Job]
  made: dict[str, Any]
  request: words.Request | None
  title: str = 'understood'
  seed: int | None = None
  """Of a sample, if candidates are samples."""

  def lines(self) -> list[str]:
    """The line that says what was understood, or which sample this is."""
    return [] if self.request is None and self.seed is None else [f'{self.title}: {self}']

  def __str__(self) -> str:
    return f'sample {self.seed}' if self.request is None else str(self.request)


def is_used(arguments: argparse.Namespace) -> bool:
  """Whether methods and amounts come from here and not from --weights."""
  given = (arguments.prompt, arguments.example, arguments.candidates, arguments.choose)
  return any(one is not None for one in given)


def check(arguments: argparse.Namespace, count: int) -> None:
  """Raises ValueError if options conflict, or do not suit `count` pictures."""
  if arguments.choose is not None and arguments.candidates is not None:
    raise ValueError('--choose restores one result and --candidates several: use one of them')
  for name in ('choose', 'example'):
    if getattr(arguments, name) is not None and arguments.prompt is not None:
      raise ValueError(f'--prompt and --{name} both say what to do: use one of them')
  if arguments.example is not None and arguments.candidates is not None:
    raise ValueError('--example chooses the amounts itself: remove --candidates')
  if arguments.choose is not None and arguments.example is not None:
    raise ValueError('--choose and --example both say what to do: use one of them')
  if arguments.candidates is not None and not 2 <= arguments.candidates <= MOST:
    raise ValueError(f'--candidates must be from 2 to {MOST}, not {arguments.candidates}')
  if arguments.candidates is not None and arguments.output == '-':
    raise ValueError('--candidates writes several files, so it cannot be used with -o -')
  if is_used(arguments) and arguments.psf:
    raise ValueError('--psf is for classical methods: remove it, or --prompt and the like')
  if is_used(arguments) and (arguments.samples > 1 or arguments.seed):
    raise ValueError('--samples and --seed are for plain results: remove --prompt and the like')
  if is_used(arguments) and methods.is_solver(arguments.weights or methods.DEFAULT):
    raise ValueError(
      f'{arguments.weights} is a classical method: --prompt, --example, --candidates and --choose '
      'require a network'
    )
  if arguments.scribble is not None and count > 1:
    raise ValueError(f'--scribble requires a single picture, but there are {count}')
  for name in ('scribble', 'example', 'choose'):
    path = getattr(arguments, name)
    if path is not None and not pathlib.Path(path).is_file():
      raise ValueError(f'--{name} {path}: no such file')


def runs(arguments: argparse.Namespace, todo: Sequence[jobs.Job]) -> list[Run]:
  """What to restore and how: one run, or one for each candidate.

  Raises ValueError if the words are not understood, or a file is none that can be chosen.
  """
  asked, seed = _request(arguments)
  if arguments.candidates is None:
    return [Run(list(todo), made_by(arguments, asked, seed), asked, seed=seed)]
  if asked is None and arguments.weights and _samples(arguments.weights):
    return [
      Run(
        [job._replace(target=candidate(job.target, number)) for job in todo],
        made_by(arguments, None, number),
        None,
        f'candidate {number}',
        number,
      )
      for number in range(1, arguments.candidates + 1)
    ]
  folder = pathlib.Path(arguments.output)
  folder = folder.parent if jobs.names_a_file(folder) else folder
  liked = candidates.taste(candidates.choices(folder))
  found = []
  for number, prompt in enumerate(candidates.prompts(arguments.candidates, liked, asked), 1):
    request = words.parse(prompt)
    targets = [job._replace(target=candidate(job.target, number)) for job in todo]
    made = made_by(arguments, request)
    found.append(Run(targets, made, request, f'candidate {number}'))
  return found


def candidate(target: pathlib.Path, number: int) -> pathlib.Path:
  """The file of a candidate."""
  return target.with_name(f'{target.stem}.candidate{number}{target.suffix}')


def restorer(arguments: argparse.Namespace, request: words.Request | None):
  """What restores pictures as a request or an example says."""
  from deblur_jax.photos import guided

  return guided.load(
    request,
    like=arguments.example,
    weights=arguments.weights,
    tile=arguments.tile,
    self_ensemble=arguments.self_ensemble,
    strength=arguments.strength,
    settings=values.settings(arguments.set),
  )


def where(arguments: argparse.Namespace, request: words.Request | None):
  """What makes the mask of each picture; None if everything is restored."""
  if not arguments.scribble and not (request and request.region):
    return None
  from deblur_jax.photos import guided

  return guided.where(request.region if request else '', arguments.scribble)


def write_sheets(todo: Sequence[jobs.Job], found: Sequence[Run]) -> None:
  """Writes a contact sheet for each picture all of whose candidates exist."""
  from deblur_jax.photos import sheet

  for i, job in enumerate(todo):
    shown = {f'{n}: {run}': run.todo[i].target for n, run in enumerate(found, 1)}
    if all(path.is_file() for path in shown.values()):
      path = job.target.with_name(f'{job.target.stem}.candidates.png')
      sheet.write(path, {'input': job.source, **shown})
      print(f'{path}: choose one by --choose FILE')


def _samples(name: str) -> bool:
  """Whether weights draw samples."""
  from deblur_jax import zoo

  return not methods.is_solver(name) and zoo.samples(name)


def _request(arguments: argparse.Namespace) -> tuple[words.Request | None, int | None]:
  """What words or a chosen candidate ask for, or which sample it is."""
  if arguments.prompt is not None:
    try:
      return words.parse(arguments.prompt), None
    except ValueError as error:
      raise ValueError(f'--prompt: {error}') from None
  if arguments.choose is None:
    return None, None
  return _chosen(arguments, pathlib.Path(arguments.choose), remember=not arguments.dry_run)


def _chosen(
  arguments: argparse.Namespace, path: pathlib.Path, *, remember: bool
) -> tuple[words.Request | None, int | None]:
  """The request that a candidate was made with, or the sample that it is."""
  made = history.History().find(path)
  if made and 'seed' in made.options:
    if made.options.get('weights') != arguments.weights:
      name = made.options.get('weights')
      raise ValueError(f'--choose {path}: a sample of {name}: add --weights {name}')
    return None, made.options['seed']
  if made is None or 'prompt' not in made.options:
    raise ValueError(f'--choose {path}: not written by --candidates or --prompt in this folder')
  prompt = made.options['prompt']
  request = words.parse(prompt)
  if remember:
    candidates.remember(path.parent, prompt)
  return request, None


def made_by(
  arguments: argparse.Namespace, request: words.Request | None, seed: int | None = None
) -> dict[str, Any]:
  """What results depend on, see `history.made`."""
  name, more = arguments.weights or methods.DEFAULT, {}
  if request is not None:
    more = {'prompt': str(request)}
    name = arguments.weights or words.network(request.amounts)
  if seed is not None:
    more = {'seed': seed}
  return history.made(name, {**vars(arguments), **more})
