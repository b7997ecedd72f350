"""Classical methods on photographs: blur that is not known, and values that are not sRGB."""

import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import pyvips
from test_color import curv, para, profile

from deblur_jax import color, zoo
from deblur_jax.blur import kernels
from deblur_jax.blur.operators import Convolution
from deblur_jax.data import builtin
from deblur_jax.photos import blind_check, jobs, pictures, restore
from deblur_jax.photos.restorer import Restorer, load
from deblur_jax.solvers import estimate_psf
from deblur_jax.types import Needs

pytestmark = pytest.mark.optimized


def psnr(image, sharp, margin=8):
  inside = slice(margin, -margin), slice(margin, -margin)
  return -10 * np.log10(np.square(image[inside] - sharp[inside]).mean())


def run(path, output, restorer, **options):
  options = restore.Options(**options)
  return restore.restore_files(jobs.plan([path], output), restorer, options).outcomes[0]


@pytest.fixture(scope='module')
def sharp():
  return builtin.photograph('coffee.png')[60:300, 180:420].astype(np.float32) / 255


def shaken(sharp, psf):
  light = Convolution(psf).apply(color.SRGB.to_linear(sharp))
  return np.rint(255 * np.clip(color.SRGB.from_linear(np.asarray(light)), 0, 1)).astype(np.uint8)


@pytest.fixture(scope='module')
def blurred(sharp):
  return shaken(sharp, kernels.motion(11.0, 30.0, 15))


def test_the_right_psf_passes_and_wrong_ones_do_not(sharp, blurred):
  """What wrong ones do to the picture is far below the input."""
  colors = blurred / np.float32(255)
  right = estimate_psf.Estimate(np.asarray(kernels.motion(11.0, 30.0, 15)), 0.8)
  assert blind_check.objection(colors, right, color.SRGB) == ''
  doubtful = right._replace(confidence=0.2)
  assert blind_check.objection(colors, doubtful, color.SRGB) == 'confidence 0.20'
  for wrong in (
    kernels.motion(15.0, 120.0, 21),
    kernels.disk(6.0, 15),
    kernels.motion(21.0, 30.0, 27),
  ):
    found = estimate_psf.Estimate(np.asarray(wrong), 0.8)
    assert 'ring' in blind_check.objection(colors, found, color.SRGB)
    result = load('total_variation', psf=np.asarray(wrong))(colors)
    assert psnr(result, sharp) < psnr(colors, sharp) - 1


def test_a_wrong_psf_leaves_the_fallback_or_the_input(tmp_path, blurred):
  PIL.Image.fromarray(blurred).save(tmp_path / 'a.png')
  wrong = estimate_psf.Estimate(np.asarray(kernels.disk(6.0, 15)), 0.9)
  solver = zoo.load('total_variation', psf=np.asarray(wrong.psf))
  darker = Restorer(zoo.Method('d', lambda image: image * np.float32(0.5), Needs()))
  guarded = Restorer(solver, find=lambda _: wrong, fallback=lambda: darker)

  outcome = run(tmp_path / 'a.png', tmp_path / 'out', guarded)
  assert outcome.status == 'restored' and outcome.psf is None
  assert 'it causes ringing' in outcome.notes[0]
  assert 'restored with general at strength 0.5 instead; --force' in outcome.notes[0]
  half = np.asarray(PIL.Image.open(tmp_path / 'out/a.png'))
  np.testing.assert_array_equal(half, np.rint(blurred * 0.5))

  alone = Restorer(solver, find=lambda _: wrong)
  outcome = run(tmp_path / 'a.png', tmp_path / 'same', alone)
  assert 'left unchanged' in outcome.notes[0]
  np.testing.assert_array_equal(np.asarray(PIL.Image.open(tmp_path / 'same/a.png')), blurred)

  outcome = run(tmp_path / 'a.png', tmp_path / 'forced', guarded, force=True)
  assert outcome.psf is wrong or outcome.psf.confidence == 0.9
  assert np.abs(np.asarray(PIL.Image.open(tmp_path / 'forced/a.png')) - half.astype(int)).max() > 50


def test_arrays_are_guarded_as_files_are(blurred):
  wrong = estimate_psf.Estimate(np.asarray(kernels.disk(6.0, 15)), 0.9)
  solver = zoo.load('total_variation', psf=np.asarray(wrong.psf))
  darker = Restorer(zoo.Method('d', lambda image: image * np.float32(0.5), Needs()))
  guarded = Restorer(solver, find=lambda _: wrong, fallback=lambda: darker)
  with pytest.warns(UserWarning, match='no PSF found .*at strength 0.5 instead.*force=True'):
    result = guarded(blurred)
  np.testing.assert_array_equal(result, np.rint(blurred * 0.5))
  with pytest.warns(UserWarning, match='left unchanged'):
    np.testing.assert_array_equal(Restorer(solver, find=lambda _: wrong)(blurred), blurred)
  right = estimate_psf.Estimate(np.asarray(kernels.motion(11.0, 30.0, 15)), 0.8)
  used = Restorer(zoo.load('total_variation', psf=right.psf), find=lambda _: right)
  assert np.abs(used(blurred).astype(int) - blurred).max() > 20  # and no warning
  forced = load('total_variation', psf=15, force=True)
  assert forced.force and forced.find
  forced = Restorer(solver, find=lambda _: wrong, force=True)
  assert np.abs(forced(blurred).astype(int) - blurred).max() > 50


def luma(image):
  return image @ np.array([0.299, 0.587, 0.114])


def offset(sharp, other):
  """(down, right): whole pixels by which `other` [h w] is shifted against `sharp`."""
  window = np.outer(*(np.hanning(side) for side in sharp.shape))
  one, two = (np.fft.rfft2((plane - plane.mean()) * window) for plane in (sharp, other))
  cross = two * np.conj(one)  # its phase alone: exposure and blur do not move the peak
  peaks = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=sharp.shape)
  place = np.unravel_index(peaks.argmax(), peaks.shape)
  return [
    int((at + side // 2) % side - side // 2) for at, side in zip(place, peaks.shape, strict=True)
  ]


def best_psnr(image, sharp, reach=6):
  """dB on luma at the best shift within `reach` pixels, exposure matched by gain and offset."""
  middle, wanted, errors = luma(image)[reach:-reach, reach:-reach], luma(sharp), []
  high, wide = middle.shape
  for down, right in np.ndindex(2 * reach + 1, 2 * reach + 1):
    other = wanted[down : down + high, right : right + wide]
    correlation = np.corrcoef(middle.ravel(), other.ravel())[0, 1]
    errors.append(other.var() * (1 - correlation**2))  # of the best line through the values
  return -10 * np.log10(min(errors))


SIDE = 128  # of the crops: small, because most of the time goes into estimating PSFs


def real_pairs(shared):
  """Yields (name, blurred, sharp): crops [SIDE SIDE 3] of real shots, aligned to a few pixels."""
  for scene in ('106_NIKON-D3400-35MM', '176_HONOR-7X', '180_HONOR-10'):
    for blur in 'MF':  # shaken, out of focus
      pair = [shared(f'data/real_triples/{scene}_{which}.jpg') for which in (blur, 'S')]
      yield f'{scene}_{blur}', *crops(*pair)
  folder = 'data/gopro_mini/test/GOPR0384_11_02'
  yield 'GoPro', *crops(*(shared(f'{folder}/{which}/000698.png') for which in ('blur', 'sharp')))


def crops(*paths):
  images = []
  for path in paths:
    with PIL.Image.open(path) as image:
      image.thumbnail((480, 480))
      images.append(np.asarray(image))
  blurred, sharp = images
  down, right = offset(luma(sharp), luma(blurred))
  top, left = ((side - SIDE) // 2 for side in sharp.shape[:2])
  return (
    blurred[top + down : top + down + SIDE, left + right : left + right + SIDE],
    sharp[top : top + SIDE, left : left + SIDE],
  )


@pytest.mark.slow
def test_real_blur_is_never_made_worse(shared, tmp_path):
  """Shaken and out-of-focus shots, against the sharp shot of the scene: at most 0.5 dB lost."""
  restorer, gains = load('total_variation', psf=15), {}
  for name, blurred, sharp in real_pairs(shared):
    PIL.Image.fromarray(blurred).save(tmp_path / f'{name}.png')
    outcome = run(tmp_path / f'{name}.png', tmp_path / 'out', restorer)
    assert outcome.status == 'restored', outcome
    result = np.asarray(PIL.Image.open(tmp_path / f'out/{name}.png'))
    gains[name] = best_psnr(result / 255, sharp / 255) - best_psnr(blurred / 255, sharp / 255)
  assert min(gains.values()) > -0.5, gains


def png_chunk(path, name, data):
  """Puts a chunk into a PNG before its pixels."""
  old = path.read_bytes()
  chunk = struct.pack('>I', len(data)) + name + data
  path.write_bytes(old[:33] + chunk + struct.pack('>I', zlib.crc32(chunk[4:])) + old[33:])


LIKE_SRGB = ('untagged', 'icc P3', 'png sRGB chunk before gAMA', 'png cICP sRGB')
CURVES = {
  **dict.fromkeys(LIKE_SRGB, color.SRGB),
  'icc gamma 1.0': color.power(1.0),
  'icc gamma 1.8': color.power(1.80078125),
  'icc gamma 2.2': color.power(2.19921875),
  'png gAMA 1.0': color.power(1.0),
  'png gAMA 0.45455': color.power(100000 / 45455),
  'png cICP linear': color.power(1.0),
}


def whole(tags):
  """A profile of `test_color.profile` with a header that libraries accept (ICC.1:2022, 7.2)."""
  tags = tags + bytes(-len(tags) % 4)
  head = struct.pack('>I4x', len(tags)) + b'\x02\x40\0\0mntrRGB XYZ '
  head += struct.pack('>6H', 2020, 1, 1, 0, 0, 0) + b'acsp' + bytes(28)
  head += struct.pack('>3I', 0xF6D6, 0x10000, 0xD32D)  # D50
  return head.ljust(128, b'\0') + tags[128:]


def write(path, code, how):
  image = pyvips.Image.new_from_array(
    np.rint(65535 * code).astype(np.uint16), interpretation='rgb16'
  )
  if how.startswith('icc'):
    p3 = para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curve = p3 if how == 'icc P3' else curv(round(float(how.split()[-1]) * 256))
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, 'icc-profile-data', whole(profile([curve] * 3)))
    image.tiffsave(str(path))  # a PNG would want the rest of the profile
    return
  image.pngsave(str(path))
  if how == 'png sRGB chunk before gAMA':
    png_chunk(path, b'gAMA', struct.pack('>I', 100000))
    png_chunk(path, b'sRGB', b'\0')
  elif 'gAMA' in how:
    png_chunk(path, b'gAMA', struct.pack('>I', round(float(how.split()[-1]) * 100000)))
  elif 'cICP' in how:
    png_chunk(path, b'cICP', bytes([1, 8 if 'linear' in how else 13, 0, 1]))


def test_classical_methods_work_in_the_light_that_the_file_means(tmp_path, sharp):
  """The same picture in ten encodings: within 0.3 dB, measured in the same light."""
  psf = np.asarray(kernels.disk(3.0, 9))
  light = np.asarray(Convolution(psf).apply(color.SRGB.to_linear(sharp)))
  restorer, scores = load('total_variation', psf=psf), {}
  for how, curve in CURVES.items():
    path = tmp_path / f'{how}.{"tif" if how.startswith("icc") else "png"}'
    write(path, np.clip(curve.from_linear(light), 0, 1), how)
    assert pictures.read(path).transfer.to_linear(np.float64(0.5)) == pytest.approx(
      curve.to_linear(np.float64(0.5)), abs=1e-4
    ), how
    outcome = run(path, tmp_path / 'out', restorer)
    assert outcome.status == 'restored', outcome
    result = pyvips.Image.new_from_file(str(tmp_path / 'out' / path.name)).numpy()
    result = result / np.float32(65535)
    scores[how] = psnr(color.SRGB.from_linear(np.clip(curve.to_linear(result), 0, 1)), sharp)
  assert max(scores.values()) - min(scores.values()) < 0.3, scores
  assert min(scores.values()) > psnr(color.SRGB.from_linear(light), sharp) + 3


def test_the_pair_of_case_10_agrees(shared, tmp_path):
  folder, restorer = shared('cases/10_linear_light_profile'), None
  restorer = load('total_variation', psf=np.asarray(kernels.disk(3.0, 9)))
  results = []
  for name, curve in (('linear.tif', color.LINEAR), ('srgb.tif', color.SRGB)):
    assert run(folder / name, tmp_path / 'out', restorer).status == 'restored'
    image = pyvips.Image.new_from_file(str(tmp_path / 'out' / name)).numpy()
    results.append(curve.to_linear(image / np.float32(np.iinfo(image.dtype).max)))
  assert psnr(*results) > 40


def test_a_profile_without_curves_is_assumed_to_be_srgb_with_a_note(tmp_path, blurred):
  image = pyvips.Image.new_from_array(blurred[:60, :60]).copy(interpretation='srgb')
  image.set_type(pyvips.GValue.blob_type, 'icc-profile-data', whole(profile([], names=())))
  image.tiffsave(str(tmp_path / 'a.tif'))
  outcome = run(tmp_path / 'a.tif', tmp_path / 'out', load('wiener', psf=np.eye(3) / 3))
  note = 'the ICC profile has no tone curves, only color tables: sRGB is assumed'
  assert note in outcome.notes, outcome
