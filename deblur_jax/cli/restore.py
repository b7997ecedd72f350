"""`deblur-jax restore`: photographs in, photographs out."""

import argparse
import contextlib
import json
import pathlib
import shutil
import sys
import tempfile
import time

from deblur_jax import heap, methods
from deblur_jax.cli import progress, values
from deblur_jax.formats import kinds
from deblur_jax.photos import history, jobs

PIPE = '-'


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
  parser.set_defaults(run=_restore)


def _restore(arguments: argparse.Namespace) -> int:
  with tempfile.TemporaryDirectory(prefix='deblur_jax_') as spare:
    return _restore_with(arguments, pathlib.Path(spare))


def _restore_with(arguments: argparse.Namespace, spare: pathlib.Path) -> int:
  """Runs the command; `spare` is a temporary folder for standard input and output."""
  inputs = [_standard_input(spare) if given == PIPE else given for given in arguments.inputs]
  todo = _plan(arguments, inputs, spare)
  psf = _psf(arguments)
  made = history.made(arguments.weights or methods.DEFAULT, vars(arguments))
  piped = arguments.output == PIPE
  begin = time.monotonic()
  pending, finished = jobs.select(todo, made, overwrite=arguments.overwrite)
  with progress.watch(spare, sys.stderr if piped else sys.stdout, bool(pending)) as watch:
    try:
      if pending:
        report = _compute(arguments, todo, psf, made, watch)
      else:  # JAX takes a second to import.
        for _, outcome in finished:
          watch.finish(outcome)
        report = jobs.Report(tuple(outcome for _, outcome in finished))
    finally:
      if arguments.report:
        _write_report(arguments, watch.outcomes)
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


def _compute(arguments: argparse.Namespace, todo, psf, made, watch) -> jobs.Report:
  """Restores what is left to do."""
  heap.share()
  from deblur_jax import sharding
  from deblur_jax.photos import restore
  from deblur_jax.photos.restorer import TURNS, load
  from deblur_jax.provenance import signature

  values.use_device(arguments.device)
  sharding.keep_compiled()
  name = arguments.weights or methods.DEFAULT
  known = _stored(arguments, name) if arguments.uncertainty else None
  restorer = load(
    name,
    tile=arguments.tile,
    self_ensemble=arguments.self_ensemble,
    strength=arguments.strength,
    psf=psf,
    settings=values.settings(arguments.set),
    spread_of=known.intervals.spread_of if known and known.intervals else TURNS,
  )
  options = restore.Options(
    overwrite=arguments.overwrite,
    strip=arguments.strip,
    compare=arguments.compare,
    write_psf=arguments.write_psf,
    mask=arguments.mask,
    dry_run=arguments.dry_run,
    crop=arguments.crop,
    quality=arguments.quality,
    force=arguments.force,
    made=made,
    provenance=not arguments.no_provenance,
    uncertainty=known,
    signer=signature.Signer(*arguments.sign) if arguments.sign else None,
  )
  return restore.restore_files(todo, restorer, options, watch=watch)


def _stored(arguments: argparse.Namespace, name: str):
  """What calibration found out about the method; raises ValueError if nothing."""
  from deblur_jax.uncertainty import stored

  if arguments.mask or arguments.self_ensemble or arguments.strength != 1 or arguments.set:
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


def _write_report(arguments: argparse.Namespace, outcomes: list) -> None:
  import deblur_jax
  from deblur_jax import atomic

  report = {
    'version': deblur_jax.__version__,
    'weights': arguments.weights or methods.DEFAULT,
    **({'psf': arguments.psf} if arguments.psf else {}),
    **({'set': arguments.set} if arguments.set else {}),
    'strength': arguments.strength,
    'self_ensemble': arguments.self_ensemble,
    'files': [outcome.plain() for outcome in outcomes],
  }
  if any(outcome.status == 'restored' for outcome in outcomes):
    import jax

    report['device'] = jax.devices()[0].device_kind
  # ASCII, because the name of a file may not be valid Unicode.
  atomic.write_text(arguments.report, json.dumps(report, indent=2) + '\n')
