"""`deblur-jax restore`: photographs in, photographs out."""

import argparse
import contextlib
import json
import pathlib
import shutil
import sys
import tempfile
import time

from deblur_jax.cli import values

PIPE = '-'


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax restore`."""
  parser = commands.add_parser(
    'restore',
    help='restore photographs',
    description='Restores photographs of any size: JPEG, PNG, WebP, TIFF, AVIF. '
    'What is in OUT already is skipped, so that the same command again finishes the job.',
  )
  parser.add_argument(
    'inputs',
    nargs='+',
    metavar='FILE_OR_FOLDER',
    help="pictures, folders, patterns such as '*.jpg', or - for standard input",
  )
  parser.add_argument(
    '-o',
    '--output',
    default='restored',
    metavar='OUT',
    help='folder for the results, under the same names (restored); for one picture also a file, '
    'or - for standard output',
  )
  parser.add_argument(
    '--weights',
    metavar='W',
    help="shipped weights by name (general or mobile), a run's folder or a .safetensors file, all "
    'listed by deblur-jax models; or polyblur, for mild blur; or with --psf another classical '
    'method: wiener, richardson_lucy, total_variation, hyper_laplacian ...',
  )
  parser.add_argument(
    '--psf',
    metavar='PSF',
    help='what blurred the picture, for a classical method: motion:LENGTH,ANGLE (pixels, degrees), '
    'disk:RADIUS, gaussian:SIGMA, a file (a grey picture or .npy), or auto or auto:SIZE: found for '
    'each picture, at most SIZE pixels large (odd; 31)',
  )
  parser.add_argument(
    '--write-psf', action='store_true', help='the PSF that was estimated, too: NAME.psf.png'
  )
  parser.add_argument(
    '-r', '--recursive', action='store_true', help='folders inside folders, too; mirrors the tree'
  )
  parser.add_argument(
    '--strength',
    type=values.share,
    default=1.0,
    metavar='S',
    help='blend of input (0) and result (1)',
  )
  parser.add_argument(
    '--mask',
    metavar='FILE',
    help='grey picture of the same size: white is restored, black is left, grey blends',
  )
  parser.add_argument(
    '--tile', type=values.positive, metavar='N', help='side of the tiles; smaller takes less memory'
  )
  parser.add_argument(
    '--self-ensemble', action='store_true', help='average over 8 turned copies: slower, smoother'
  )
  parser.add_argument(
    '--device', choices=values.DEVICES, help='what computes; by default the best there is'
  )
  parser.add_argument(
    '--compare', action='store_true', help='before and after side by side, too: NAME.compare.png'
  )
  parser.add_argument(
    '--strip', action='store_true', help='leave out EXIF, GPS, XMP and IPTC; the ICC profile stays'
  )
  parser.add_argument('--overwrite', action='store_true', help='restore again what is in OUT')
  parser.add_argument('--dry-run', action='store_true', help='tell what would be done, no more')
  parser.add_argument('--report', metavar='FILE', help='write outcomes and diagnoses there as JSON')
  parser.add_argument(
    '--shard',
    type=values.part,
    metavar='I/N',
    help='only part I of N of the pictures, for as many machines',
  )
  parser.set_defaults(run=_restore)


def _restore(arguments: argparse.Namespace) -> int:
  with tempfile.TemporaryDirectory(prefix='deblur_jax_') as spare:
    return _restore_with(arguments, pathlib.Path(spare))


def _restore_with(arguments: argparse.Namespace, spare: pathlib.Path) -> int:
  """As the arguments say; `spare` is a folder for what comes in and goes out by pipes."""
  from deblur_jax import restore, sharding, zoo

  values.use_device(arguments.device)
  todo = _plan(arguments, spare)
  sharding.keep_compiled()
  restorer = restore.load(
    _weights(arguments.weights or zoo.DEFAULT),
    tile=arguments.tile,
    self_ensemble=arguments.self_ensemble,
    strength=arguments.strength,
    psf=_psf(arguments),
  )
  options = restore.Options(
    overwrite=arguments.overwrite,
    strip=arguments.strip,
    compare=arguments.compare,
    write_psf=arguments.write_psf,
    mask=arguments.mask,
    dry_run=arguments.dry_run,
  )
  piped = arguments.output == PIPE
  begin = time.monotonic()
  with _watch(spare, sys.stderr if piped else sys.stdout) as watch:
    try:
      report = restore.restore_files(todo, restorer, options, watch=watch)
    finally:
      if arguments.report:
        _write_report(arguments, restorer.method.name, watch.outcomes)
  if piped and report.restored:
    with open(todo[0].target, 'rb') as file:
      shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
  elif not piped:
    counts = [f'{report.restored} restored']
    counts = [f'{report.count("planned")} to restore'] if arguments.dry_run else counts
    counts += [f'{report.skipped} skipped (there already)'] if report.skipped else []
    counts += [f'{report.failed} failed'] if report.failed else []
    took = '' if arguments.dry_run else f' in {time.monotonic() - begin:.1f} s'
    print(f'{", ".join(counts)}{took} -> {arguments.output}')
  return 1 if report.failed else 0


def _plan(arguments: argparse.Namespace, spare: pathlib.Path) -> list:
  """The jobs; ValueError where the arguments do not go together."""
  from deblur_jax import jobs

  output = pathlib.Path(arguments.output)
  if arguments.output == PIPE:
    output = spare / 'out'
    if sys.stdout.isatty() and not arguments.dry_run:
      raise ValueError('-o -: the picture would go to the terminal; add > FILE or | COMMAND')
  elif output.exists() and not output.is_dir() and not jobs.names_a_file(output):
    raise ValueError(f'{output}: -o takes a folder, and this is a file')
  if arguments.report:
    report = pathlib.Path(arguments.report).absolute()
    if not report.parent.is_dir():
      raise ValueError(f'{arguments.report}: no such folder to write the report to')
    if report.suffix.lower() != '.json' or report.is_dir():  # never over a photograph
      raise ValueError(f'--report {arguments.report}: a report is a file NAME.json')
  if arguments.mask and not pathlib.Path(arguments.mask).is_file():
    raise ValueError(f'--mask {arguments.mask}: no such file')
  if arguments.compare and arguments.output == PIPE:
    raise ValueError('--compare writes beside the result, and with -o - there is no such place')
  inputs = [_standard_input(spare) if given == PIPE else given for given in arguments.inputs]
  todo = jobs.plan(inputs, output, recursive=arguments.recursive)
  if not todo:
    hint = '' if arguments.recursive else '; -r looks in folders inside'
    raise ValueError(f'no pictures in {", ".join(arguments.inputs)}{hint}')
  one_only = {
    '-o -': arguments.output == PIPE,
    '--mask': arguments.mask is not None,
    f'-o {output}, a file,': jobs.names_a_file(output),
  }
  for what, given in one_only.items():
    if given and len(todo) > 1:
      raise ValueError(f'{what} goes with a single picture, and here are {len(todo)}')
  return jobs.shard(todo, *arguments.shard) if arguments.shard else todo


def _standard_input(spare: pathlib.Path) -> pathlib.Path:
  """A file with what comes in, named by the kind of picture that it is."""
  from deblur_jax import pictures

  path = spare / 'stdin'
  with open(path, 'wb') as file:
    shutil.copyfileobj(sys.stdin.buffer, file)
  with contextlib.suppress(ValueError):  # What is no picture is told with all other failures.
    kind = pictures.read(path).kind
    suffix = next(suffix for suffix, one in pictures.SUFFIXES.items() if one == kind)
    path = path.rename(path.with_suffix(suffix))
  return path


def _weights(name: str) -> str:
  """`name`, or ValueError where it is the default and there is nothing of that name."""
  from deblur_jax import zoo

  if name == zoo.DEFAULT and name not in zoo.shipped() and not pathlib.Path(name).exists():
    raise ValueError(
      f'no weights {name!r} in this installation: give --weights, '
      "a run's folder or a .safetensors file (deblur-jax models lists what there is)"
    )
  return name


def _psf(arguments: argparse.Namespace):
  """The PSF that is given, or ValueError where the method does not go with it."""
  from deblur_jax import solvers, zoo
  from deblur_jax.cli import psfs

  psf = psfs.read(arguments.psf) if arguments.psf else None
  finds = isinstance(psf, int) or (psf is None and arguments.weights in solvers.WITHOUT_PSF)
  if arguments.write_psf and not finds:
    raise ValueError('--write-psf goes with --psf auto, or with polyblur')
  if psf is not None:
    return psf
  if zoo.is_solver(arguments.weights or '') and arguments.weights not in solvers.WITHOUT_PSF:
    raise ValueError(
      f'{arguments.weights} has to know what blurred the picture: add --psf, such as '
      '--psf motion:15,30, --psf disk:4 or --psf auto'
    )
  return None


def _write_report(arguments: argparse.Namespace, method: str, outcomes: list) -> None:
  import jax

  import deblur_jax
  from deblur_jax import atomic

  files = []
  for outcome in outcomes:
    height, width = outcome.size or (None, None)
    told = {'source': str(outcome.source), 'target': str(outcome.target), 'status': outcome.status}
    told |= {'message': outcome.message} if outcome.message else {}
    told |= {'height': height, 'width': width, 'tiles': outcome.tiles} if outcome.size else {}
    if outcome.diagnosis:
      told |= {'seconds': round(outcome.seconds, 3), 'notes': outcome.notes}
      told['diagnosis'] = outcome.diagnosis.plain()
    if outcome.psf:
      told['psf_confidence'] = round(outcome.psf.confidence, 3)
    files.append(told)
  report = {
    'version': deblur_jax.__version__,
    'weights': arguments.weights or method,
    'device': jax.devices()[0].device_kind,
    **({'psf': arguments.psf} if arguments.psf else {}),
    'strength': arguments.strength,
    'self_ensemble': arguments.self_ensemble,
    'files': files,
  }
  # In ASCII: the name of a file may be no text at all.
  atomic.write_text(arguments.report, json.dumps(report, indent=2) + '\n')


class Lines:
  """Tells how it goes in plain lines: results to `output`, failures to standard error."""

  def __init__(self, spare: pathlib.Path, output):
    self.outcomes = []
    self._spare, self._output = spare, output

  def start(self, pixels: int) -> None:
    pass

  def advance(self, pixels: int) -> None:
    pass

  def finish(self, outcome) -> None:
    self.outcomes.append(outcome)
    for line in self.lines(outcome):
      print(line, file=sys.stderr if outcome.status == 'failed' else self._output, flush=True)

  def lines(self, outcome) -> list[str]:
    """What is told of a file."""
    name = self._shown(outcome.source)
    if outcome.status == 'failed':
      return [f'{name}: {outcome.message}']
    if outcome.status == 'planned':
      height, width = outcome.size
      cut = f', {outcome.tiles} tiles' if outcome.tiles > 1 else ''
      return [f'{name} -> {self._shown(outcome.target)} ({width}x{height}{cut})']
    if outcome.status == 'skipped':
      return []
    notes = [f'  {note}' for note in outcome.notes]
    psf = f'; PSF found, confidence {outcome.psf.confidence:.2f}' if outcome.psf else ''
    return [f'{name}: {outcome.diagnosis}{psf} ({outcome.seconds:.1f} s)', *notes]

  def _shown(self, path: pathlib.Path) -> str:
    if self._spare not in path.parents:
      return str(path)
    return 'standard output' if path.parent.name == 'out' else 'standard input'


class Bar(Lines):
  """Tells how it goes by a progress bar with the time left, and lines above it."""

  def __init__(self, spare: pathlib.Path, output, progress):
    super().__init__(spare, output)
    self._progress, self._task, self._piece = progress, None, None

  def start(self, pixels: int) -> None:
    self._task = self._progress.add_task('restoring', total=pixels)
    self._piece = self._progress.add_task('this piece', total=1, visible=False)

  def advance(self, pixels: int) -> None:
    self._progress.advance(self._task, pixels)

  def solving(self, part: float) -> None:
    """Of a piece that takes long by itself, so much is done."""
    self._progress.update(self._piece, completed=part, visible=part < 1)

  def finish(self, outcome) -> None:
    self.outcomes.append(outcome)
    for line in self.lines(outcome):
      self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _watch(spare: pathlib.Path, output):
  """A progress bar on a terminal, plain lines elsewhere."""
  if not sys.stderr.isatty():
    yield Lines(spare, output)
    return
  from rich.console import Console
  from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

  columns = (
    TextColumn('{task.description}', markup=False),
    BarColumn(),
    TaskProgressColumn(),
    TimeRemainingColumn(),
  )
  from deblur_jax.solvers.progress import listening

  with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
    bar = Bar(spare, output, progress)
    with listening(bar.solving):
      yield bar
