"""`deblur-jax restore`: photographs in, photographs out."""

import argparse
import contextlib
import functools
import json
import pathlib
import platform
import shutil
import sys
import tempfile
import time

import deblur_jax
from deblur_jax import heap, methods
from deblur_jax.cli import guide, progress, values
from deblur_jax.formats import kinds
from deblur_jax.photos import jobs

PIPE = '-'

GUIDANCE = ('prompt', 'scribble', 'example', 'candidates', 'choose')
"""Options that a report lists if they are given."""


def add(commands: argparse._SubParsersAction) -> None:
  """Adds `deblur-jax restore`."""
  parser = commands.add_parser(
    'restore',
    help='restore photographs',
    description='Restores photographs of any size: JPEG, PNG, WebP, TIFF, AVIF; HEIC and camera '
    'raw files become JPEG and TIFF. '
    'Results that exist in OUT are skipped, so running the same command again resumes.',
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
    help='folder for the results, which keep their names (restored); for one picture also a file, '
    'or - for standard output',
  )
  parser.add_argument(
    '-f',
    '--format',
    choices=[suffix[1:] for suffix in kinds.SUFFIXES],
    help='format of the results (that of each picture, or of the name after -o)',
  )
  parser.add_argument(
    '-q',
    '--quality',
    type=values.percent,
    metavar='Q',
    help='quality of JPEG, WebP and AVIF, from 1 to 100 (95, AVIF 90)',
  )
  parser.add_argument(
    '--suffix', default='', metavar='TEXT', help='append TEXT to result names, before the extension'
  )
  parser.add_argument(
    '--crop',
    type=values.box,
    metavar='X,Y,W,H',
    help='restore only this part, for a quick trial: left, top, width and height in pixels',
  )
  parser.add_argument(
    '--weights',
    metavar='W',
    help="shipped weights by name (general or mobile), a run's folder or a .safetensors file (see "
    'deblur-jax models); or polyblur, for mild blur; or, with --psf, another classical method: '
    'wiener, richardson_lucy, total_variation, hyper_laplacian ...',
  )
  parser.add_argument(
    '--set',
    action='append',
    default=[],
    metavar='ARGUMENT=VALUE',
    help='change an argument of the network, such as stages=1 to run only the first stage of MAXIM '
    'or tlc=384 for local statistics; can be repeated',
  )
  parser.add_argument(
    '--psf',
    metavar='PSF',
    help='the blur, for a classical method: motion:LENGTH,ANGLE (pixels, degrees), disk:RADIUS, '
    'gaussian:SIGMA, a file (a grey picture or .npy), or auto or auto:SIZE: estimated for each '
    'picture, at most SIZE pixels wide (odd; 31)',
  )
  parser.add_argument(
    '--write-psf',
    action='store_true',
    help='also write the estimated PSF: NAME.jpg.psf.png',
  )
  parser.add_argument(
    '--force',
    action='store_true',
    help='use an estimated PSF even if it is likely wrong (instead of the default weights)',
  )
  parser.add_argument(
    '-r', '--recursive', action='store_true', help='include subfolders; OUT mirrors their tree'
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
    help='grey picture of the same size: white is restored, black is left unchanged, grey blends',
  )
  parser.add_argument(
    '--tile', type=values.positive, metavar='N', help='tile side in pixels; less needs less memory'
  )
  parser.add_argument(
    '--self-ensemble', action='store_true', help='average over 8 orientations: slower, smoother'
  )
  parser.add_argument(
    '--samples',
    type=values.positive,
    default=1,
    metavar='N',
    help='average N results of a network that samples, such as refine: smoother',
  )
  parser.add_argument(
    '--seed',
    type=values.seed,
    default=0,
    metavar='N',
    help='which sample to draw, of a network that samples (default: 0)',
  )
  parser.add_argument(
    '--device',
    choices=values.DEVICES,
    help='device to compute on (an accelerator if there is one)',
  )
  parser.add_argument(
    '--compare',
    action='store_true',
    help='also write before and after side by side: NAME.jpg.compare.png',
  )
  parser.add_argument(
    '--strip', action='store_true', help='remove EXIF, GPS, XMP and IPTC; keep the ICC profile'
  )
  parser.add_argument(
    '--uncertainty',
    action='store_true',
    help='also print the probability that the result is better than the input, and write how far '
    'each pixel may be off: NAME.jpg.uncertainty.png; with networks it takes up to nine times as '
    'long. For shipped weights, those from deblur-jax calibrate, and --psf auto',
  )
  parser.add_argument(
    '--no-provenance',
    action='store_true',
    help='do not record in XMP that, and how, the picture was restored',
  )
  parser.add_argument(
    '--sign',
    nargs=2,
    metavar=('CERTIFICATES', 'KEY'),
    help='sign results by C2PA with a chain of certificates and a private key, PEM files',
  )
  parser.add_argument('--overwrite', action='store_true', help='replace results that exist in OUT')
  parser.add_argument('--dry-run', action='store_true', help='only print what would be done')
  parser.add_argument('--report', metavar='FILE', help='write outcomes and diagnoses as JSON')
  parser.add_argument(
    '--shard',
    type=values.part,
    metavar='I/N',
    help='restore only part I of N of the pictures, to share the work among N machines',
  )
  parser.add_argument(
    '--ray',
    metavar='ADDRESS',
    help='restore on a Ray cluster: local (processes on this machine), auto (the cluster of this '
    'machine) or HOST:PORT; all its machines must see the same files',
  )
  parser.add_argument(
    '--workers',
    type=values.positive,
    metavar='N',
    help='processes with --ray (one for each GPU, or for each machine without)',
  )
  guide.add(parser)
  parser.set_defaults(run=_restore)


def _restore(arguments: argparse.Namespace) -> int:
  with tempfile.TemporaryDirectory(prefix='deblur_jax_') as spare:
    return _restore_with(arguments, pathlib.Path(spare))


def _restore_with(arguments: argparse.Namespace, spare: pathlib.Path) -> int:
  """Runs the command; `spare` is a temporary folder for standard input and output."""
  inputs = [_standard_input(spare) if given == PIPE else given for given in arguments.inputs]
  todo = _plan(arguments, inputs, spare)
  psf = _psf(arguments)
  runs = guide.runs(arguments, todo)
  piped = arguments.output == PIPE
  begin = time.monotonic()
  report = _report(arguments, runs, psf, spare)
  if arguments.candidates and not arguments.dry_run:
    guide.write_sheets(todo, runs)
  if piped and report.restored:
    with open(todo[0].target, 'rb') as file:
      shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
  elif not piped:
    took = time.monotonic() - begin
    print(f'{progress.summary(report, arguments.dry_run, took)} -> {arguments.output}')
    if line := progress.unsupported(jobs.left_out(inputs, **_scan(arguments, spare))):
      print(line)
  return 1 if report.failed else 0


def _report(
  arguments: argparse.Namespace, runs: list[guide.Run], psf, spare: pathlib.Path
) -> jobs.Report:
  """Restores what is left to do, and reports all outcomes, in the order of the plan."""
  output = sys.stderr if arguments.output == PIPE else sys.stdout
  outcomes = []
  for run in runs:
    for line in run.lines():
      print(line, file=output)
    pending, finished = jobs.select(run.todo, run.made, overwrite=arguments.overwrite)
    with progress.watch(spare, output, bool(pending)) as watch:
      try:
        if pending:
          _compute(arguments, run, psf, watch)
        else:  # JAX takes a second to import.
          for _, outcome in finished:
            watch.finish(outcome)
      finally:
        place = {job.source: i for i, job in enumerate(run.todo)}
        outcomes += sorted(watch.outcomes, key=lambda outcome: place[outcome.source])
        if arguments.report:
          _write_report(arguments, outcomes, watch.device)
  return jobs.Report(tuple(outcomes))


def _compute(arguments: argparse.Namespace, run: guide.Run, psf, watch) -> jobs.Report:
  """Restores what is left to do, here or on a cluster."""
  if arguments.ray and not arguments.dry_run:
    return _compute_by_ray(arguments, run, psf, watch)
  restorer, options = _prepare(arguments, run, psf)
  import jax

  from deblur_jax.photos import restore

  watch.device = jax.devices()[0].device_kind
  return restore.restore_files(run.todo, restorer, options, watch=watch)


def _compute_by_ray(arguments: argparse.Namespace, run: guide.Run, psf, watch) -> jobs.Report:
  from deblur_jax.photos import cluster, restore

  prepare = functools.partial(_prepare_elsewhere, arguments, run, psf, deblur_jax.__version__)
  options = restore.Options(overwrite=arguments.overwrite, crop=arguments.crop, made=run.made)
  use_gpus = arguments.device != 'cpu'
  with cluster.connect(
    arguments.ray, prepare, workers=arguments.workers, use_gpus=use_gpus
  ) as found:
    steps = functools.partial(found.run, watch=watch)
    try:
      return restore.restore_by(steps, run.todo, options, watch=watch)
    finally:
      watch.device = found.device


def _prepare_elsewhere(arguments: argparse.Namespace, run: guide.Run, psf, version: str):
  """`_prepare` on another machine; raises ValueError if results would differ there."""
  host = platform.node()
  if version != deblur_jax.__version__:
    raise ValueError(f'--ray: {host} has deblur-jax {deblur_jax.__version__}, not {version}')
  if run.made != guide.made_by(arguments, run.request, run.seed):
    raise ValueError(f'--ray: the weights, PSF or mask on {host} differ from those here')
  return _prepare(arguments, run, psf)


def _prepare(arguments: argparse.Namespace, run: guide.Run, psf):
  """The `Restorer` and the `restore.Options`, with JAX set up."""
  heap.share()
  from deblur_jax import sharding
  from deblur_jax.photos import restore
  from deblur_jax.photos.restorer import TURNS, load
  from deblur_jax.provenance import signature

  values.use_device(arguments.device)
  sharding.keep_compiled()
  name = arguments.weights or methods.DEFAULT
  known = _stored(arguments, name) if arguments.uncertainty else None
  if guide.is_used(arguments) and run.seed is None:
    restorer = guide.restorer(arguments, run.request)
  else:
    restorer = load(
      name,
      tile=arguments.tile,
      self_ensemble=arguments.self_ensemble,
      samples=arguments.samples,
      seed=arguments.seed if run.seed is None else run.seed,
      strength=arguments.strength,
      psf=psf,
      settings=values.settings(arguments.set),
      spread_of=known.intervals.spread_of if known and known.intervals else TURNS,
    )
  return restorer, restore.Options(
    overwrite=arguments.overwrite,
    strip=arguments.strip,
    compare=arguments.compare,
    write_psf=arguments.write_psf,
    mask=arguments.mask,
    where=guide.where(arguments, run.request),
    dry_run=arguments.dry_run,
    crop=arguments.crop,
    quality=arguments.quality,
    force=arguments.force,
    made=run.made,
    provenance=not arguments.no_provenance,
    uncertainty=known,
    signer=signature.Signer(*arguments.sign) if arguments.sign else None,
  )


def _stored(arguments: argparse.Namespace, name: str):
  """What calibration found out about the method; raises ValueError if nothing."""
  from deblur_jax.uncertainty import stored

  changed = arguments.mask or arguments.self_ensemble or arguments.strength != 1 or arguments.set
  changed = changed or arguments.samples > 1 or arguments.seed
  if changed or arguments.scribble or guide.is_used(arguments):
    raise ValueError('--uncertainty is for plain results: remove --mask, --strength and the like')
  found = stored.find(name)
  if methods.is_solver(name) and (found is None or not str(arguments.psf).startswith('auto')):
    raise ValueError('--uncertainty requires a network, or total_variation with --psf auto')
  if found is None:
    raise ValueError(f'{name} has no calibration: deblur-jax calibrate makes a copy that has one')
  return found


def _plan(arguments: argparse.Namespace, inputs: list, spare: pathlib.Path) -> list[jobs.Job]:
  """The jobs; ValueError if arguments conflict or the output is not writable."""
  _check(arguments)
  scan = _scan(arguments, spare)
  todo = jobs.plan(inputs, **scan)
  if not todo:
    hint = '' if arguments.recursive else '; -r includes subfolders'
    names = progress.unsupported(jobs.left_out(inputs, **scan))
    hint = f' ({names})' if names else hint
    raise ValueError(f'no pictures in {", ".join(arguments.inputs)}{hint}')
  one_only = {
    '-o -': arguments.output == PIPE,
    '--mask': arguments.mask is not None,
    f'-o {arguments.output}, a file,': jobs.names_a_file(arguments.output),
  }
  for what, given in one_only.items():
    if given and len(todo) > 1:
      raise ValueError(f'{what} requires a single picture, but there are {len(todo)}')
  guide.check(arguments, len(todo))
  return jobs.shard(todo, *arguments.shard) if arguments.shard else todo


def _scan(arguments: argparse.Namespace, spare: pathlib.Path) -> dict:
  """The keyword arguments of `jobs.plan`: output, recursion, names of results."""
  output = spare / 'out' if arguments.output == PIPE else pathlib.Path(arguments.output)

  def rename(path: pathlib.Path) -> pathlib.Path:
    suffix = f'.{arguments.format}' if arguments.format else path.suffix
    return path.with_name(path.stem + arguments.suffix + suffix)

  return {'output': output, 'recursive': arguments.recursive, 'rename': rename}


def _check(arguments: argparse.Namespace) -> None:
  """Raises ValueError if results, report or mask cannot be as the arguments say."""
  output = pathlib.Path(arguments.output)
  if arguments.output == PIPE:
    if sys.stdout.isatty() and not arguments.dry_run:
      raise ValueError('-o - would print the picture to the terminal; add > FILE or | COMMAND')
  elif output.suffix.lower() in {*kinds.UNSUPPORTED, *kinds.READ_ONLY} and not output.is_dir():
    can = ', '.join(kinds.SUFFIXES)
    raise ValueError(f'-o {output}: cannot write {output.suffix} files; supported: {can}')
  elif output.exists() and not output.is_dir() and not jobs.names_a_file(output):
    raise ValueError(f'-o {output}: a file, but -o must be a folder or a picture')
  else:
    folder = output.parent if jobs.names_a_file(output) else output
    if problem := jobs.unwritable(folder):
      raise ValueError(f'-o {problem}')
  suffix = output.suffix.lower()
  if arguments.format and jobs.names_a_file(output) and suffix != f'.{arguments.format}':
    raise ValueError(f'-o {output} conflicts with --format {arguments.format}')
  if values.settings(arguments.set) and methods.is_solver(arguments.weights or methods.DEFAULT):
    raise ValueError(f'--set requires a network, but {arguments.weights} is a classical method')
  if '/' in arguments.suffix or '\0' in arguments.suffix:
    raise ValueError(f'--suffix {arguments.suffix!r} is not valid in a file name')
  if arguments.report:
    report = pathlib.Path(arguments.report).absolute()
    if not report.parent.is_dir():
      raise ValueError(f'--report {arguments.report}: no such folder')
    if report.suffix.lower() != '.json' or report.is_dir():  # never overwrites a photograph
      raise ValueError(f'--report {arguments.report}: must be a file NAME.json')
    if problem := jobs.unwritable(report.parent):
      raise ValueError(f'--report {problem}')
  if arguments.mask and not pathlib.Path(arguments.mask).is_file():
    raise ValueError(f'--mask {arguments.mask}: no such file')
  if arguments.ray and PIPE in (arguments.output, *arguments.inputs):
    raise ValueError('--ray needs files that all machines see, so it cannot be used with -')
  if arguments.workers and not arguments.ray:
    raise ValueError('--workers requires --ray')
  if arguments.compare and arguments.output == PIPE:
    raise ValueError('--compare writes next to the result, so it cannot be used with -o -')


def _standard_input(spare: pathlib.Path) -> pathlib.Path:
  """A file with the contents of standard input, with the suffix of its format."""
  from deblur_jax.photos import pictures

  path = spare / 'stdin'
  with open(path, 'wb') as file:
    shutil.copyfileobj(sys.stdin.buffer, file)
  with contextlib.suppress(ValueError):  # Anything else is reported later, as any failure is.
    path = path.rename(path.with_suffix(pictures.suffix(path)))
  return path


def _psf(arguments: argparse.Namespace):
  """The PSF, or the side of one to estimate, or None; ValueError if the method does not fit."""
  name = arguments.weights or methods.DEFAULT
  if name == methods.DEFAULT and name not in methods.shipped() and not pathlib.Path(name).exists():
    raise ValueError(
      f'no weights {name!r} in this installation: use --weights with '
      "a run's folder or a .safetensors file (deblur-jax models lists them)"
    )
  psf = None
  if arguments.psf:
    from deblur_jax.photos import psfs

    try:
      psf = psfs.read(arguments.psf)
    except ValueError as error:
      raise ValueError(f'--psf {error}') from error
  finds = isinstance(psf, int) or (psf is None and name in methods.WITHOUT_PSF)
  if arguments.write_psf and not finds:
    raise ValueError('--write-psf requires --psf auto or polyblur')
  if psf is None and methods.is_solver(name) and name not in methods.WITHOUT_PSF:
    raise ValueError(
      f'{name} requires --psf, the blur of the picture, such as --psf motion:15,30, '
      '--psf disk:4 or --psf auto'
    )
  return psf


def _write_report(arguments: argparse.Namespace, outcomes: list, device: str) -> None:
  from deblur_jax import atomic

  report = {
    'version': deblur_jax.__version__,
    'weights': arguments.weights or methods.DEFAULT,
    **({'psf': arguments.psf} if arguments.psf else {}),
    **({'set': arguments.set} if arguments.set else {}),
    **{name: value for name in GUIDANCE if (value := getattr(arguments, name)) is not None},
    'strength': arguments.strength,
    'self_ensemble': arguments.self_ensemble,
    **({'samples': arguments.samples} if arguments.samples > 1 else {}),
    **({'seed': arguments.seed} if arguments.seed else {}),
    'files': [outcome.plain() for outcome in outcomes],
  }
  if any(outcome.status == 'restored' for outcome in outcomes):
    report['device'] = device
  # ASCII, because the name of a file may not be valid Unicode.
  atomic.write_text(arguments.report, json.dumps(report, indent=2) + '\n')
