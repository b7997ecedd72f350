"""The commands restore, models and doctor, as people call them."""

import io
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest

import deblur_jax
from deblur_jax import cli, color, methods, models, weights
from deblur_jax.blur.operators import Convolution
from deblur_jax.cli import doctor
from deblur_jax.models import maxim
from deblur_jax.photos import psfs
from deblur_jax.photos.restorer import load


def picture(height=40, width=60, seed=0):
  """Values up to 177, so that a quarter more is not clipped."""
  y, x = np.mgrid[:height, :width]
  planes = [97 + 80 * np.sin(y / 9 + c) * np.cos(x / (7 + c) + seed) for c in range(3)]
  return np.stack(planes, -1).astype(np.uint8)


def png(image):
  file = io.BytesIO()
  PIL.Image.fromarray(image).save(file, 'png')
  return file.getvalue()


def pixels(path):
  with PIL.Image.open(path) as image:
    return np.asarray(image)


def more(image, strength=1.0):
  return np.rint(image + strength * 63.75).astype(np.uint8)


@pytest.fixture
def here(tmp_path, monkeypatch):
  """The current folder, with two sound pictures, one that is none, and one deeper."""
  monkeypatch.chdir(tmp_path)
  for name in ('a.png', 'b.png'):
    (tmp_path / name).write_bytes(png(picture()))
  (tmp_path / 'text.png').write_text('hello ' * 50)
  (tmp_path / 'deeper').mkdir()
  (tmp_path / 'deeper/c.png').write_bytes(png(picture(150, 250)))
  return tmp_path


def call(capsys, *arguments):
  """(exit code, lines to standard output, lines to standard error)."""
  code = cli.main(list(arguments))
  out, err = capsys.readouterr()
  return code, out.splitlines(), err.splitlines()


def test_restore_tells_each_file_and_exits_with_1(here, brighter, capsys):
  code, out, err = call(capsys, 'restore', '*.png', 'none.jpg', '--weights', brighter)
  assert code == 1
  assert out[0].startswith('a.png: ') and 'sharpness' in out[0] and out[0].endswith(' s)')
  assert out[-1].startswith('2 restored, 2 failed in ') and out[-1].endswith(' -> restored')
  assert sorted(err) == [
    'none.jpg: no such file or folder',
    'text.png: not a JPEG, PNG, WebP, TIFF or AVIF picture',
  ]
  np.testing.assert_array_equal(pixels('restored/b.png'), more(picture()))

  again = ['restore', 'a.png', 'b.png', 'deeper', '--weights', brighter, '--tile', '64']
  code, out, err = call(capsys, *again, '--self-ensemble')
  assert (code, err) == (0, [])
  again_lines = [
    line for line in out if line.startswith('  restored again: the old one was made with')
  ]
  assert len(again_lines) == 2 and again_lines[0].endswith(f'--weights {brighter}')
  assert out[-1].startswith('3 restored in ')
  np.testing.assert_array_equal(pixels('restored/c.png'), more(picture(150, 250)))
  assert max(len(line) for line in out if brighter not in line) <= 80


def test_names_from_outside_are_found_in_the_current_folder(here, capsys, monkeypatch):
  monkeypatch.setattr(sys, 'path', [path for path in sys.path if path])
  (here / 'my_dark.py').write_text(
    'import flax.linen as nn\nfrom deblur_jax.types import Needs\n\n\n'
    'class Half(nn.Module):\n  dtype: str = "float32"\n  needs = Needs()\n\n  @nn.compact\n'
    '  def __call__(self, blurred, *, train=False):\n'
    '    scale = self.param("scale", nn.initializers.ones, (1,))\n'
    '    return {"restored": scale.reshape(1, 1, 1, 1) * blurred}\n'
  )
  half = {'scale': np.full(1, 0.5, np.float32)}
  weights.write('half.safetensors', half, {'network': 'my_dark:Half', 'arguments': {}})
  try:
    assert call(capsys, 'restore', 'a.png', '--weights', 'half.safetensors')[::2] == (0, [])
  finally:
    sys.modules.pop('my_dark', None)
  assert np.abs(pixels('restored/a.png') - picture() / 2.0).max() <= 0.5


def test_a_classical_method_undoes_what_a_psf_did(here, capsys):
  sharp, psf = picture(90, 120), psfs.read('disk:3')
  blurred = np.asarray(
    color.SRGB.from_linear(Convolution(psf).apply(color.SRGB.to_linear(sharp / 255.0)))
  )
  (here / 'soft.png').write_bytes(png(np.rint(255 * blurred).astype(np.uint8)))
  np.save(here / 'psf.npy', 3 * psf)  # is made to add up to 1
  PIL.Image.fromarray(np.rint(psf / psf.max() * 255).astype(np.uint8)).save(here / 'psf.png')
  method = ['restore', 'soft.png', '--weights', 'richardson_lucy', '--psf']
  found = []
  for given in ('disk:3', 'psf.npy', 'psf.png'):
    code, _, err = call(capsys, *method, given, '-o', 'out', '--overwrite', '--report', 'r.json')
    assert (code, err) == (0, [])
    found.append(pixels('out/soft.png').astype(float))
  assert json.loads((here / 'r.json').read_text())['psf'] == 'psf.png'
  assert np.abs(found[0] - found[1]).max() <= 1
  assert np.abs(found[0] - found[2]).max() <= 3

  def error(image):
    return np.mean(np.square(image - sharp))

  assert error(found[0]) < error(255 * blurred) / 4


@pytest.mark.parametrize(
  'text,size,told',
  [
    ('motion:9,0', (11, 11), None),
    ('disk:4', (9, 9), None),
    ('gaussian:1.5', (13, 13), None),
    ('motion:9', None, 'motion:LENGTH,ANGLE'),
    ('disk:0', None, 'disk:RADIUS'),
    ('gaussian:x', None, 'gaussian:SIGMA'),
    ('motion:9,inf', None, 'motion:LENGTH,ANGLE'),
    ('disk:4000', None, '8001 pixels wide; the limit is 1001'),
    ('auto:99999', None, '99999 pixels wide; the limit is 1001'),
    ('nothing.png', None, 'not a file and not motion'),
  ],
)
def test_psfs_are_read_as_they_are_written(text, size, told):
  if told:
    with pytest.raises(ValueError, match=told):
      psfs.read(text)
    return
  psf = psfs.read(text)
  assert psf.shape == size and psf.sum() == pytest.approx(1, abs=1e-5)
  rows, columns = np.nonzero(psf > 0.01 * psf.max())
  if text == 'motion:9,0':
    assert np.ptp(rows) == 0 and np.ptp(columns) == 8


def test_files_that_hold_no_psf(tmp_path):
  for name, values in {'flat': np.zeros((3, 3)), 'below': -np.eye(3), 'line': np.ones(3)}.items():
    np.save(tmp_path / f'{name}.npy', values)
    with pytest.raises(ValueError, match='a PSF must be 2-D, finite, nonnegative and not all 0'):
      psfs.read(str(tmp_path / f'{name}.npy'))
  np.save(tmp_path / 'text.npy', np.array(['a']))
  np.save(tmp_path / 'object.npy', np.array([{}]), allow_pickle=True)
  (tmp_path / 'text.png').write_text('no picture')
  for name, told in {
    'text.npy': 'must hold numbers',
    'object.npy': 'not a .npy',
    'text.png': 'not',
  }.items():
    with pytest.raises(ValueError, match=rf'{name}: .*{told}'):
      psfs.read(str(tmp_path / name))


def test_report_has_outcomes_and_diagnoses(here, brighter, capsys):
  call(
    capsys, 'restore', '.', '-r', '--weights', brighter, '--report', 'told.json', '--device', 'cpu'
  )
  told = json.loads(pathlib.Path('told.json').read_text())
  assert told['weights'] == brighter and told['device'] == 'cpu' and told['strength'] == 1
  files = {one['source']: one for one in told['files']}
  assert set(files) == {'a.png', 'b.png', 'text.png', 'deeper/c.png'}
  assert files['text.png']['status'] == 'failed'
  assert files['text.png']['message'] == 'not a JPEG, PNG, WebP, TIFF or AVIF picture'
  one = files['deeper/c.png']
  assert (one['status'], one['height'], one['width'], one['tiles']) == ('restored', 150, 250, 1)
  assert any(note.startswith('color shift: red +25.') for note in one['notes'])
  assert set(one['diagnosis']) >= {'blur', 'confidence', 'sharpness_before', 'reblurred_psnr'}


def test_strength_mask_compare_and_strip(here, brighter, capsys):
  weights_ = ['--weights', brighter]
  assert call(capsys, 'restore', 'a.png', *weights_, '-o', 'half', '--strength', '0.5')[0] == 0
  np.testing.assert_array_equal(pixels('half/a.png'), more(picture(), 0.5))
  mask = np.zeros((40, 60), np.uint8)
  mask[:20] = 255
  pathlib.Path('mask.png').write_bytes(png(mask))
  options = ['--mask', 'mask.png', '--compare', '--strip']
  assert call(capsys, 'restore', 'a.png', *weights_, '-o', 'new.png', *options)[0] == 0
  expected = np.concatenate([more(picture())[:20], picture()[20:]])
  np.testing.assert_array_equal(pixels('new.png'), expected)
  np.testing.assert_array_equal(pixels('new.png.compare.png')[-40:, -60:], expected)


def test_a_dry_run_tells_and_does_nothing(here, brighter, capsys):
  before = sorted(here.rglob('*'))
  command = ['restore', '.', '-r', '--weights', brighter, '--tile', '64', '--dry-run']
  code, out, err = call(capsys, *command)
  assert code == 1 and err == ['text.png: not a JPEG, PNG, WebP, TIFF or AVIF picture']
  # Tiles of 64 that overlap by 12: three over 150 pixels, five over 250.
  assert out == [
    'a.png -> restored/a.png (60x40)',
    'b.png -> restored/b.png (60x40)',
    'deeper/c.png -> restored/deeper/c.png (250x150, 15 tiles)',
    '3 to restore, 1 failed -> restored',
  ]
  assert sorted(here.rglob('*')) == before


def test_shards_do_all_between_them(here, brighter, capsys):
  for part in ('1/3', '2/3', '3/3'):
    call(capsys, 'restore', '.', '-r', '--weights', brighter, '--shard', part)
  _, out, _ = call(capsys, 'restore', '.', '-r', '--weights', brighter)
  assert out[-1].startswith('0 restored, 3 skipped')


def piped(*arguments, given=b''):
  command = [sys.executable, '-c', 'import sys; from deblur_jax import cli; sys.exit(cli.main())']
  return subprocess.run([*command, *arguments], input=given, capture_output=True, check=False)


def test_pipes_carry_the_picture_and_nothing_else(here, brighter):
  done = piped('restore', '-', '-o', '-', '--weights', brighter, given=png(picture()))
  assert done.returncode == 0
  np.testing.assert_array_equal(pixels(io.BytesIO(done.stdout)), more(picture()))
  assert done.stderr.decode().startswith('standard input: ')
  done = piped('restore', '-', '-o', '-', '--weights', brighter, given=b'no picture')
  assert (done.returncode, done.stdout) == (1, b'')
  assert done.stderr.decode() == 'standard input: not a JPEG, PNG, WebP, TIFF or AVIF picture\n'


def test_standard_input_to_a_folder_is_named_by_its_kind(here, brighter, capsys, monkeypatch):
  class Piped:
    buffer = io.BytesIO(png(picture()))

  monkeypatch.setattr(sys, 'stdin', Piped)
  assert call(capsys, 'restore', '-', '--weights', brighter)[0] == 0
  np.testing.assert_array_equal(pixels('restored/stdin.png'), more(picture()))


def test_wrong_use_gets_one_line_and_exit_code_2(here, brighter, capsys, monkeypatch):
  monkeypatch.setattr(methods, 'SHIPPED', here / 'none')
  weights.write('odd.safetensors', {'a': np.zeros(3)}, {'network': 'nothing'})
  manifest = {'network': 'srcnn', 'arguments': {}}
  weights.write('small.safetensors', {'a': np.zeros(3)}, manifest)
  weights.write('new.safetensors', {'a': np.zeros(3)}, manifest | {'network': 'later'})
  (here / 'file.txt').write_text('text')
  (here / 'empty').mkdir()
  good = ['--weights', brighter]
  wrong = {
    f"no weights '{methods.DEFAULT}' in this installation: use --weights": ['a.png'],
    'no such weights': ['a.png', '--weights', 'nowhere'],
    'no weights.safetensors in this folder': ['a.png', '--weights', 'empty'],
    'not a safetensors file': ['a.png', '--weights', 'file.txt'],
    "no 'arguments' entry": ['a.png', '--weights', 'odd.safetensors'],
    "no network 'later'": ['a.png', '--weights', 'new.safetensors'],
    '-o file.txt: a file, but -o must be a folder': ['a.png', '-o', 'file.txt', *good],
    'no pictures in empty; -r includes subfolders': ['empty', *good],
    'too small': ['a.png', '--tile', '4', *good],
    '-o - requires a single picture': ['a.png', 'b.png', '-o', '-', *good],
    '-o new.png, a file, requires a single picture': ['a.png', 'b.png', '-o', 'new.png', *good],
    '--mask requires a single picture': ['a.png', 'b.png', '--mask', 'a.png', *good],
    '--report none/r.json: no such folder': ['a.png', '--report', 'none/r.json', *good],
    '--report b.png: must be a file NAME.json': ['a.png', '--report', 'b.png', *good],
    '--mask none.png: no such file': ['a.png', '--mask', 'none.png', *good],
    '--compare writes next to the result': ['a.png', '-o', '-', '--compare', *good],
    '--device tpu: JAX found none': ['a.png', '--device', 'tpu', *good],
    'wiener requires --psf, the blur of the picture': ['a.png', '--weights', 'wiener'],
    'is a network and takes no PSF': ['a.png', '--psf', 'disk:2', *good],
    '--psf disk: expected disk:RADIUS': ['a.png', '--weights', 'wiener', '--psf', 'disk'],
    'tv: no such weights; available: ': ['a.png', '--weights', 'tv', '--psf', 'disk:2'],
  }
  for message, arguments in wrong.items():
    code, out, err = call(capsys, 'restore', *arguments)
    assert (code, out, len(err)) == (2, [], 1), message
    assert message in err[0], err
  code, out, err = call(capsys, 'restore', 'a.png', '--weights', 'small.safetensors')
  assert code == 2 and '6 missing, 1 extra' in err[0] and '  extra    a [3]' in err
  assert not (here / 'restored').exists()


@pytest.mark.parametrize(
  'arguments',
  [
    ['restore'],
    ['retsore'],
    ['a.png'],
    ['restore', 'a', '--strength', '1.5'],
    ['restore', 'a', '--shard', '0/4'],
    ['restore', 'a', '--shard', '5/4'],
    ['restore', 'a', '--shard', 'half'],
    ['restore', 'a', '--device', 'abacus'],
    ['restore', 'a', '--tile', '-3'],
  ],
)
def test_what_cannot_be_parsed_is_refused(arguments, capsys):
  with pytest.raises(SystemExit) as stop:
    cli.main(arguments)
  assert stop.value.code == 2


@pytest.mark.parametrize(
  'arguments,usage,message',
  [
    (['restore', 'a', '--overwrit', '--tyle=3'], 'restore', '--tyle=3; did you mean --tile?'),
    (['blur', 'a', '-o', 'b', '--copys', '3'], 'blur', 'did you mean --copies?'),
    (['retsore', 'a'], '', 'did you mean restore?'),
    (['a.png'], '', 'did you mean deblur-jax restore a.png?'),
    (['restore', 'a', '--device', 'gpus'], 'restore', 'did you mean gpu?'),
  ],
)
def test_usage_errors_are_about_the_command_and_suggest(here, arguments, usage, message, capsys):
  with pytest.raises(SystemExit) as stop:
    cli.main(arguments)
  *shown, error = capsys.readouterr().err.splitlines()
  assert stop.value.code == 2
  assert shown[0].startswith(f'usage: deblur-jax {usage}') and message in error


def test_without_a_command_it_helps(capsys):
  code, out, err = call(capsys)
  assert (code, err) == (0, []) and out[0].startswith('usage: deblur-jax')
  with pytest.raises(SystemExit) as stop:
    cli.main(['--version'])
  assert stop.value.code == 0
  assert capsys.readouterr().out == f'deblur-jax {deblur_jax.__version__}\n'


def test_weights_and_methods_are_suggested(here, capsys):
  for given, meant in (('moblie', 'mobile'), ('weiner', 'wiener'), ('genral', 'general')):
    code, _, err = call(capsys, 'restore', 'a.png', '--weights', given)
    assert code == 2 and f'did you mean {meant}?' in err[0]


def test_format_suffix_and_crop_by_options(here, brighter, capsys):
  common = ['restore', 'a.png', '--weights', brighter, '-o', 'out', '--crop', '8,4,20,30']
  assert call(capsys, *common, '-f', 'jpg', '-q', '80', '--suffix', '_better')[0] == 0
  with PIL.Image.open('out/a_better.jpg') as image:
    assert image.format == 'JPEG' and image.size == (20, 30)
  _, out, _ = call(capsys, *common[:-2], '-f', 'jpg', '-q', '80', '--suffix', '_better')
  assert f'made with --weights {brighter} --crop 8,4,20,30 --quality 80' in out[1]
  code, _, err = call(capsys, *common[:4], '-o', 'a.jpg', '-f', 'png')
  assert code == 2 and '-o a.jpg conflicts with --format png' in err[0]


@pytest.mark.parametrize('crop', ['1,2,3', '1,2,0,4', 'a,b,c,d', '-1,0,4,4'])
def test_wrong_crops_are_refused(here, crop, capsys):
  with pytest.raises(SystemExit):
    cli.main(['restore', 'a.png', f'--crop={crop}'])
  assert 'argument --crop' in capsys.readouterr().err


HEAVY = {'jax', 'flax', 'pyvips', 'tensorflow', 'orbax', 'torch', 'grain', 'cv2', 'scipy'}
HEAVY |= {'fastapi', 'uvicorn'}


@pytest.mark.parametrize(
  'arguments',
  [
    ['--help'],
    ['--version'],
    ['restore', '--help'],
    ['serve', '--help'],
    ['models'],
    ['doctor'],
    ['restore', 'a.png', 'b.png', '--weights', 'identity.safetensors'],
    ['restore', 'a.png', '--weights', 'polyblur', '-o', 'out.png'],
  ],
  ids=' '.join,
)
def test_what_computes_nothing_imports_nothing_heavy(here, brighter, arguments):
  """And so takes a fraction of a second."""
  if arguments[-1] == 'identity.safetensors':
    shutil.copy(brighter, here / 'identity.safetensors')
    assert cli.main(arguments) == 0
  elif 'polyblur' in arguments:
    (here / 'out.png').write_bytes(png(picture()))
  program = (
    'import sys\nfrom deblur_jax import cli\ntry: code = cli.main()\n'
    'except SystemExit as stop: code = stop.code\n'
    f'print(code, sorted({HEAVY} & set(sys.modules)))'
  )
  command = [sys.executable, '-c', program, *arguments]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert done.stdout.splitlines()[-1] == '0 []'


def test_shipped_weights_are_taken_by_themselves(here, brighter, capsys, monkeypatch):
  monkeypatch.setattr(methods, 'SHIPPED', here / 'weights')
  (here / 'weights').mkdir()
  shutil.copy(brighter, here / f'weights/{methods.DEFAULT}.safetensors')
  assert call(capsys, 'restore', 'a.png')[0] == 0
  np.testing.assert_array_equal(pixels('restored/a.png'), more(picture()))


def test_models_lists_weights_and_networks_in_80_columns(here, brighter, capsys, monkeypatch):
  monkeypatch.setattr(methods, 'SHIPPED', here / 'none')
  (here / 'runs/my-run').mkdir(parents=True)
  shutil.copy(brighter, here / 'runs/my-run/weights.safetensors')
  (here / 'runs/broken').mkdir()
  (here / 'runs/broken/weights.safetensors').write_bytes(b'x')
  code, out, _ = call(capsys, 'models')
  assert code == 0 and max(map(len, out)) <= 80
  assert out[:2] == ['Weights in the package (--weights NAME)', '  none']
  listed = ' '.join(' '.join(out).split())
  assert (
    'my-run srcnn, 20,099 parameters, 0.1 MB, 1,200 steps, Apache-2.0 gopro 31.50 dB, blurred 25.64'
    ' kodak 29.12 dB, blurred 27.36 sharp 50.20 dB Classical' in listed
  )
  assert 'broken: not a safetensors file' in listed
  assert 'nafnet default 17,111,907 15.96 16 global approximate' in listed
  assert 'srcnn 9-5-5 69,251 4.53 1 17 exact' in listed
  assert 'nafnet MIT default 32.87 dB 0.9606 code; with TLC w64 33.71 dB' in listed
  assert 'smoke' not in listed


def test_doctor_passes_and_fails_by_its_self_test(capsys, monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  code, out, _ = call(capsys, 'doctor', '--test')
  told = dict(line.split(None, 1) for line in out)
  assert code == 0
  assert told['jax'] == jax.__version__ and told['pyvips'].startswith('3.')
  assert told['devices'].startswith('cpu') and 'GB' in told['free']
  assert told['self'].startswith('test passed in') or 'passed in' in told['self']

  monkeypatch.setattr(doctor, 'self_test', lambda: 0.1)
  assert call(capsys, 'doctor', '--test')[0] == 1

  def broken():
    raise ValueError('a picture did not come back\nand more')

  monkeypatch.setattr(doctor, 'self_test', broken)
  code, out, _ = call(capsys, 'doctor', '--test')
  assert code == 1 and out[-1].endswith('FAILED: a picture did not come back')


def test_nobody_has_to_read_on():
  program = 'import sys; from deblur_jax import cli; sys.exit(cli.main(["models"]))'
  with subprocess.Popen([sys.executable, '-c', program], stdout=-1, stderr=-1) as listing:
    listing.stdout.close()
    assert listing.stderr.read() == b''
  assert listing.returncode == 1


# --set.


@pytest.fixture(scope='session')
def two_stages(tmp_path_factory):
  """A weights file of a small MAXIM of two stages."""
  model, rng = models.make('maxim', 'smoke'), np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), models.shapes(model)
  )
  path = tmp_path_factory.mktemp('weights') / 'maxim.safetensors'
  arguments = {**maxim.VARIANTS['smoke']}
  weights.write(path, params, {'network': 'maxim', 'arguments': arguments})
  return str(path)


def test_set_changes_the_network_and_is_remembered(tmp_path, capsys, two_stages):
  image = picture(32, 32)
  PIL.Image.fromarray(image).save(tmp_path / 'a.png')
  out, report = tmp_path / 'out', tmp_path / 'report.json'
  command = ['restore', str(tmp_path / 'a.png'), '-o', str(out), '--weights', two_stages]
  assert cli.main([*command, '--set', 'stages=1', '--report', str(report)]) == 0
  assert json.loads(report.read_text())['set'] == ['stages=1']
  # What does tiles again in float32 is the same network.
  first = load(two_stages, settings={'stages': 1}).precise()
  expected = np.asarray(first.restore(image[None].astype(np.float32) / 255))[0]
  expected = np.rint(np.clip(expected, 0, 1) * 255)
  with PIL.Image.open(out / 'a.png') as result:
    assert np.abs(np.asarray(result, int) - expected).max() <= 1
  assert np.abs(expected - image).max() > 8
  capsys.readouterr()
  assert cli.main([*command, '--set', 'stages=1']) == 0
  assert f'already restored with --weights {two_stages} --set stages=1)' in capsys.readouterr().out
  assert cli.main([*command, '--dry-run']) == 0
  assert '1 to restore' in capsys.readouterr().out


@pytest.mark.parametrize(
  'text, message',
  [
    ('stages', '--set stages: expected ARGUMENT=VALUE'),
    ('stages=one', 'maxim cannot be built with stages=one: '),
    ('stages=0', 'maxim cannot be built with stages=0: '),
    ('stages=3', 'the weights do not fit maxim with stages=3: '),
    ('features=8', 'the weights do not fit maxim with features=8: '),
    ('dtype=int99', 'maxim cannot be built with dtype=int99: '),
    ('block=(0, 0)', 'maxim cannot be built with block=(0, 0): '),
    ('width=8', 'maxim has no argument width; available: features, stages'),
    ('name=x', 'maxim cannot be built with name=x: '),
  ],
)
def test_wrong_settings_are_one_line(tmp_path, capsys, two_stages, text, message):
  PIL.Image.fromarray(picture(32, 32)).save(tmp_path / 'a.png')
  command = ['restore', str(tmp_path / 'a.png'), '-o', str(tmp_path / 'out')]
  assert cli.main([*command, '--weights', two_stages, '--set', text]) == 2
  said = capsys.readouterr().err
  assert message in said and said.count('\n') == 1
  assert not (tmp_path / 'out').exists()


def test_classical_methods_take_no_settings(tmp_path, capsys):
  PIL.Image.fromarray(picture(32, 32)).save(tmp_path / 'a.png')
  command = ['restore', str(tmp_path / 'a.png'), '--weights', 'polyblur', '--set', 'stages=1']
  assert cli.main(command) == 2
  assert '--set requires a network, but polyblur is a classical method' in capsys.readouterr().err
