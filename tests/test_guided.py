"""What prompts, strokes, examples and candidates do to pictures, and how wrong ones are refused."""

import cv2
import numpy as np
import PIL.Image
import pytest
from skimage import data

from deblur_jax import cli, methods, zoo
from deblur_jax.guidance import candidates, example, words
from deblur_jax.photos import guided, history
from deblur_jax.types import Needs

pytestmark = pytest.mark.optimized

SHARP = data.astronaut()[20:148, 160:288] / np.float32(255)


def sharpness(image):
  """Without noise, which is averaged away: the mean gradient at two pixels' scale."""
  smooth = cv2.GaussianBlur(np.asarray(image, np.float32).mean(-1), (0, 0), 1.5)
  return np.hypot(*np.gradient(smooth)).mean()


def noisy(image, sigma=0.04, seed=0):
  return (image + np.random.default_rng(seed).normal(0, sigma, image.shape)).astype(np.float32)


def save(path, image):
  PIL.Image.fromarray(np.asarray(image)).save(path)
  return path


def pixels(path):
  with PIL.Image.open(path) as image:
    return np.asarray(image)


def plain(height=40, width=60):
  """Without noise, and without blocks: each value is within 177, so that more is not clipped."""
  y, x = np.mgrid[:height, :width]
  planes = [97 + 80 * np.sin(y / 9 + c) * np.cos(x / (7 + c)) for c in range(3)]
  return np.stack(planes, -1).astype(np.uint8)


def more(image, amount=1.0):
  return np.rint(image + amount * 63.75).astype(np.uint8)


@pytest.fixture
def here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  save('a.png', plain())
  return tmp_path


def call(capsys, *arguments):
  code = cli.main(['restore', *arguments])
  out, err = capsys.readouterr()
  return code, out.splitlines(), err.splitlines()


def test_denoising_removes_noise_and_keeps_blur():
  before = noisy(cv2.GaussianBlur(SHARP, (0, 0), 2))
  after = guided.load(words.parse('denoise'))(before)
  assert example.look(after).noise < 0.25 * example.look(before).noise
  assert sharpness(after) == pytest.approx(sharpness(before), rel=0.1)


def test_deblurring_removes_blur_and_keeps_noise():
  before = noisy(cv2.GaussianBlur(SHARP, (0, 0), 1.5), 0.02)
  after = guided.load(words.parse('remove the defocus'))(before)
  assert example.look(after).noise == pytest.approx(example.look(before).noise, rel=0.25)
  assert sharpness(after) > 1.08 * sharpness(before)


def test_noise_is_put_back_exactly_if_only_blur_is_removed(brighter):
  before = noisy(np.full((32, 40, 3), 0.4, np.float32))
  after = guided.load(words.parse('remove the motion blur'), weights=brighter)(before)
  np.testing.assert_allclose(after, before + 0.25, atol=1e-5)
  both = guided.load(words.parse('remove motion blur and noise'), weights=brighter)(before)
  assert both.std() < 0.3 * before.std() and both.mean() == pytest.approx(0.65, abs=0.01)


@pytest.mark.parametrize('shape', [(1, 1), (20, 18, 1), (20, 18, 4), (2, 9, 7, 2)])
@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
def test_any_kind_of_array_is_denoised(shape, dtype):
  scale = 65535 if dtype == np.uint16 else 1
  image = (noisy(np.full(shape, 0.5), 0.05) * scale).astype(dtype)
  after = guided.load(words.parse('denoise and remove the jpeg artifacts'))(image)
  assert after.shape == shape and after.dtype == dtype
  if shape[-1] == 4:
    np.testing.assert_array_equal(after[..., 3], image[..., 3])
    assert after[..., :3].std() < 0.5 * image[..., :3].std()


def test_amounts_and_strength_multiply(brighter):
  image = plain() / np.float32(255)
  half = guided.load(words.parse('remove the motion blur by half'), weights=brighter, strength=0.5)
  np.testing.assert_allclose(half(image), image + 0.25 * 0.25, atol=1e-5)


def test_a_dark_picture_is_brightened_and_others_are_not():
  dark = np.full((32, 40, 3), 0.1, np.float32)
  brighten = guided.load(words.parse('brighten it'))
  np.testing.assert_allclose(brighten(dark), 0.4, atol=1e-3)
  half = guided.load(words.parse('brighten it by 50%'))(dark)
  np.testing.assert_allclose(half, 0.1 ** np.sqrt(np.log(0.4) / np.log(0.1)), atol=1e-3)
  np.testing.assert_array_equal(brighten(dark + 0.2), dark + 0.2)


def test_words_choose_the_network():
  assert words.network(words.parse('remove motion blur').amounts) == methods.DEFAULT == 'general'
  assert words.network(words.parse('sharpen').amounts) == 'general'
  assert words.network(words.parse('it is out of focus').amounts) == 'general'
  assert words.network(words.parse('denoise').amounts) is None
  assert {'general', 'mobile'} <= methods.shipped().keys()


def test_jpeg_artifacts_go_where_compression_is_found(tmp_path):
  PIL.Image.fromarray(np.uint8(SHARP * 255)).save(tmp_path / 'a.jpg', quality=15)
  saved = pixels(tmp_path / 'a.jpg')
  after = guided.load(words.parse('remove the jpeg artifacts'))(saved)
  errors = [np.square(one / 255 - SHARP).mean() for one in (saved, after)]
  assert errors[1] < 0.95 * errors[0]


def test_only_the_region_changes_and_the_rest_has_equal_bits(here, brighter, capsys):
  words_given = ['--prompt', 'remove motion blur but leave the left half alone']
  code, out, err = call(capsys, 'a.png', '--weights', brighter, *words_given)
  assert (code, err) == (0, []) and out[0] == 'understood: motion blur in the right half'
  after = pixels('restored/a.png')
  np.testing.assert_array_equal(after[:, :30], plain()[:, :30])
  np.testing.assert_array_equal(after[:, 30:], more(plain())[:, 30:])
  assert call(capsys, 'a.png', '--weights', brighter, *words_given)[1][-1].startswith(
    '0 restored, 1 skipped'
  )


def test_a_result_is_made_again_by_its_record(here, capsys):
  save('a.png', np.uint8(noisy(plain(), 5)))
  assert call(capsys, 'a.png', '--prompt', 'Please denoise the left half')[0] == 0
  assert cli.main(['inspect', 'restored/a.png', '--source', 'a.png']) == 0
  out = capsys.readouterr().out
  assert 'with non_local_means' in out and '--prompt noise in the left half' in out
  assert 'algorithmicallyEnhanced' in out  # and not by a network
  assert 'the same file, bit for bit' in out


def test_prompt_mask_strength_and_crop_combine(here, brighter, capsys):
  mask = np.zeros((40, 60), np.uint8)
  mask[:20] = 255
  save('mask.png', mask)
  given = ['--prompt', 'sharpen the left half', '--mask', 'mask.png', '--strength', '0.5']
  assert call(capsys, 'a.png', '--weights', brighter, *given, '--crop', '10,0,50,40')[0] == 0
  after, before = pixels('restored/a.png'), plain()[:, 10:]
  np.testing.assert_array_equal(after[:20, :20], more(before, 0.5)[:20, :20])
  np.testing.assert_array_equal(after[20:], before[20:])
  np.testing.assert_array_equal(after[:, 20:], before[:, 20:])


def test_the_background_stays_soft(here, brighter, capsys):
  y, x = np.mgrid[:200, :240]
  inside = (((y - 100) / 60) ** 2 + ((x - 120) / 60) ** 2 < 1)[..., None]
  background = cv2.GaussianBlur(data.coffee()[:200, :240], (0, 0), 8)
  picture = np.where(inside, data.chelsea()[60:260, 110:350], background) // 2
  save('cat.png', picture)
  prompt = ['--prompt', 'remove motion blur but keep the background soft']
  assert call(capsys, 'cat.png', '--weights', brighter, *prompt)[0] == 0
  change = np.abs(pixels('restored/cat.png').astype(int) - picture)
  far = cv2.distanceTransform(np.uint8(~inside[..., 0]), cv2.DIST_L2, 5) > 25
  assert change[far].mean() < 1 and change[90:110, 110:130].mean() > 50


def test_strokes_restrict_any_method(here, brighter, capsys):
  strokes = np.zeros((40, 60, 4), np.uint8)
  strokes[5:35, 4:8], strokes[5:35, 50:54] = (0, 255, 0, 255), (255, 0, 0, 255)
  save('strokes.png', strokes)
  assert call(capsys, 'a.png', '--weights', brighter, '--scribble', 'strokes.png')[0] == 0
  after = pixels('restored/a.png')
  np.testing.assert_array_equal(after[5:35, 4:8], more(plain())[5:35, 4:8])
  np.testing.assert_array_equal(after[5:35, 50:54], plain()[5:35, 50:54])


def test_an_example_is_matched(tmp_path, monkeypatch):
  """With a network that is known: unsharp masking."""

  def unsharp(images):
    return np.stack([2 * one - cv2.GaussianBlur(one, (0, 0), 1.5) for one in images])

  method = zoo.Method('unsharp', unsharp, Needs())
  monkeypatch.setattr(guided.restorer, 'load', lambda *_, **__: guided.Restorer(method))
  save(tmp_path / 'like.png', np.uint8(255 * SHARP))
  before = noisy(cv2.GaussianBlur(SHARP, (0, 0), 0.8), 0.03)
  after = guided.load(like=tmp_path / 'like.png')(before)
  wanted = example.look(np.uint8(255 * SHARP))
  assert wanted.distance(example.look(after)) < 0.5 * wanted.distance(example.look(before))


def test_candidates_and_a_choice(here, brighter, capsys):
  save('a.png', np.uint8(noisy(plain(), 5)))
  given = ['a.png', '--weights', brighter]
  code, out, err = call(capsys, *given, '--candidates', '3')
  assert (code, err) == (0, []) and out[0] == 'candidate 1: motion blur 75%, noise 50%'
  names = [f'restored/a.candidate{n}.png' for n in (1, 2, 3)]
  assert len({pixels(name).tobytes() for name in names}) == 3
  assert pixels('restored/a.candidates.png').shape == (2 * (40 + 24), 2 * 60, 3)

  code, _, err = call(capsys, *given, '--choose', names[1])
  assert (code, err) == (0, [])
  np.testing.assert_array_equal(pixels('restored/a.png'), pixels(names[1]))
  chosen = history.History().find(here / names[1]).options['prompt']
  assert candidates.choices('restored') == [chosen]
  assert call(capsys, *given, '--choose', names[1])[0] == 0  # the same choice, once more
  assert candidates.choices('restored') == [chosen]
  assert call(capsys, *given, '--candidates', '3')[0] == 0
  now = history.History().find(here / names[0]).options['prompt']
  amounts, liked = words.parse(now).amounts, words.parse(chosen).amounts
  assert amounts['noise'] == pytest.approx(liked['noise'], abs=0.01)


def test_wrong_use_is_one_line(here, brighter, capsys):
  save('small.png', plain(8, 8))
  (here / 'text.png').write_text('hello ' * 50)
  wrong = {
    ('--prompt', ''): '--prompt: the prompt is empty; can remove motion blur',
    ('--prompt', 'entferne das rauschen'): "did not understand 'entferne das rauschen'; can",
    ('--prompt', 'denoise', '--psf', 'disk:3'): '--psf is for classical methods: remove it',
    ('--prompt', 'denoise', '--weights', 'wiener'): 'wiener is a classical method: --prompt',
    ('--prompt', 'denoise', '--weights', 'mobile'): 'mobile would not be used: no blur is to be',
    ('--prompt', 'denoise', '--example', 'a.png'): '--prompt and --example both say what to do',
    ('--candidates', '1'): '--candidates must be from 2 to 12, not 1',
    ('--candidates', '3', '--choose', 'a.png'): 'use one of them',
    ('--candidates', '3', '-o', '-'): '--candidates writes several files',
    ('--choose', 'a.png'): '--choose a.png: not written by --candidates or --prompt',
    ('--scribble', 'none.png'): '--scribble none.png: no such file',
    ('--example', 'text.png'): 'text.png: not a JPEG, PNG, WebP, TIFF or AVIF picture',
    ('--prompt', 'sharpen', '--uncertainty'): '--uncertainty is for plain results',
  }
  for given, message in wrong.items():
    code, _, err = call(capsys, 'a.png', *given)
    assert code and len(err) == 1 and message in err[0], (given, err)
  failed = {
    ('--scribble', 'small.png'): 'the strokes are 8x8 pixels, but the picture is 60x40',
    ('--scribble', 'a.png'): 'no strokes found: draw in green',
    ('--scribble', 'text.png'): 'text.png: not a JPEG',
    ('--prompt', 'sharpen the face'): 'no face found in the picture: use --mask or --scribble',
    ('--prompt', 'sharpen', '--mask', 'small.png'): 'the mask small.png is 8x8 pixels, but the',
  }
  for given, message in failed.items():
    code, _, err = call(capsys, 'a.png', '--weights', brighter, *given)
    assert code == 1 and len(err) == 1 and message in err[0], (given, err)
