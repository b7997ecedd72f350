"""Words, regions, strokes, examples and choices: what they mean, and what they do to a picture."""

import csv
import importlib.util
import io
import pathlib

import cv2
import numpy as np
import PIL.Image
import pytest
from skimage import data

from deblur_jax.guidance import candidates, encoder, example, regions, scribble, words
from deblur_jax.solvers import deblock

HERE = pathlib.Path(__file__).parent


def prompts(path):
  with open(path, newline='') as file:
    return list(csv.DictReader(file))


def understood(prompt):
  try:
    return words.parse(prompt).row()
  except ValueError:
    return 'refuse', '', ''


# Words.


def test_at_least_50_of_60_prompts_written_before_the_templates_are_right():
  asked = prompts(HERE / 'prompts.csv')
  right = [
    understood(one['prompt']) == (one['kinds'], one['strength'], one['region']) for one in asked
  ]
  assert len(asked) == 60 and sum(right) >= 50
  refused = [one['prompt'] for one in asked if one['kinds'] == 'refuse']
  assert sum(understood(prompt)[0] == 'refuse' for prompt in refused) >= len(refused) - 1


@pytest.mark.parametrize(
  ('prompt', 'message'),
  [
    ('', 'the prompt is empty'),
    ('   ', 'the prompt is empty'),
    ('Bitte schärfer machen', "did not understand 'bitte schärfer machen'"),
    ('qwertz uiop', "did not understand 'qwertz uiop'"),
    ('please', "did not understand 'please'"),
    ('denoise the sky', "did not understand 'denoise the sky'"),
    ('sharpen everything but the mountain', "did not understand 'everything but the mountain'"),
    ('remove the noise and upscale to 8k', "did not understand 'upscale to 8k'"),
    ('denoise but do not denoise', 'contradicts itself: it both removes and keeps noise'),
    (
      'sharpen the background but leave the background alone',
      'contradicts itself: it both changes and keeps the background',
    ),
    ('make the background blurrier', 'asks to add blur or noise'),
    ('sharpen the left half and denoise the top half', 'names several regions'),
    ('denoise 900%', 'asks for 900%, which is not from 1 to 200 %'),
  ],
)
def test_what_is_not_understood_is_one_line_that_says_what_is_possible(prompt, message):
  with pytest.raises(ValueError) as caught:
    words.parse(prompt)
  line = str(caught.value)
  assert message in line and '\n' not in line
  if 'understand' in line or 'empty' in line:
    assert 'can remove motion blur, defocus, noise, JPEG artifacts and darkness' in line


def test_amounts_belong_to_their_clause():
  assert dict(words.parse('denoise strongly, sharpen a little').amounts) == {
    'motion': words.LIGHT,
    'defocus': words.LIGHT,
    'noise': words.STRONG,
  }
  assert dict(words.parse('remove the noise, 30%').amounts) == {'noise': 0.3}
  assert str(words.parse('remove motion blur and 20% of the grain outside the face')) == (
    'motion blur, noise 20% outside the face'
  )


@pytest.mark.parametrize('region', ['', 'subject', 'not face', 'top left', 'left half', '1,2,3,4'])
@pytest.mark.parametrize('amounts', [{'noise': 1.0}, {'motion': 0.72, 'noise': 0.5, 'jpeg': 1.5}])
def test_a_request_is_itself_a_prompt(amounts, region):
  request = words.Request(amounts, region)
  assert words.parse(str(request)) == request


def test_the_encoder_is_small():
  with np.load(encoder.FILE) as stored:
    assert sum(stored[name].size for name in ('table', 'head', 'bias')) <= 280_000
  assert encoder.FILE.stat().st_size < 300_000
  shares = encoder.kinds('too much grain')
  assert max(shares, key=shares.get) == 'noise' and sum(shares.values()) == pytest.approx(1)
  np.testing.assert_array_equal(encoder.embed('!'), 0)


@pytest.mark.slow
def test_the_tool_trains_the_encoder_that_ships():
  where = HERE.parent / 'tools/train_prompts.py'
  spec = importlib.util.spec_from_file_location('train_prompts', where)
  tool = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(tool)
  again = tool.train()
  with np.load(encoder.FILE) as file:
    stored = dict(file)
  assert str(again['vocabulary']) == str(stored['vocabulary'])
  apart = np.abs(again['table'].astype(int) - stored['table'])  # sums may be in another order
  assert np.quantile(apart, 0.999) <= 1


def test_faults_are_removed_in_the_order_in_which_they_can_be():
  steps = words.parse('remove the motion blur and 50% of the noise').steps()
  assert steps == (('noise', 0.5), ('motion blur', 1.0))
  assert words.parse('sharpen a little and brighten').steps() == (('blur', 0.45), ('darkness', 1))
  everything = [what for what, _ in words.parse('fix everything').steps()]
  assert everything == ['JPEG artifacts', 'noise', 'blur', 'darkness']


# JPEG artifacts.


def jpeg(image, quality):
  file = io.BytesIO()
  PIL.Image.fromarray(image).save(file, 'JPEG', quality=quality)
  return np.asarray(PIL.Image.open(file)) / np.float32(255)


def psnr(restored, sharp):
  return -10 * np.log10(np.mean(np.square(restored - sharp)))


@pytest.mark.parametrize('quality', [10, 30, 75])
def test_the_quality_of_a_jpeg_is_found_and_its_artifacts_are_reduced(quality):
  sharp = data.astronaut()[:256, 100:400]
  saved = jpeg(sharp, quality)
  assert deblock.estimate_quality(saved) == quality
  assert deblock.estimate_quality(saved[3:, 5:]) == quality  # the grid may start anywhere
  assert deblock.estimate_quality(sharp / np.float32(255)) is None
  gain = psnr(deblock.deblock(saved, quality), sharp / 255) - psnr(saved, sharp / 255)
  assert gain > 0.2


def test_deblocking_keeps_shapes_and_flat_pictures():
  flat = np.full((2, 9, 7, 3), 128 / 255, np.float32)
  np.testing.assert_allclose(deblock.deblock(flat, 20), flat, atol=1.01 / 255)
  assert deblock.estimate_quality(flat[0]) is None


# Regions.


@pytest.mark.parametrize(
  ('region', 'inside', 'share'),
  [
    ('left half', (5, 0), 0.5),
    ('bottom half', (9, 3), 0.5),
    ('top right', (0, 11), 0.25),
    ('center', (5, 6), 36 / 120),
    ('not center', (0, 0), 84 / 120),
    ('2,3,4,5', (7, 5), 20 / 120),
    ('8,6,99,99', (9, 11), 16 / 120),
  ],
)
def test_sides_corners_and_boxes_are_exact(region, inside, share):
  mask = regions.mask(region, np.zeros((10, 12, 3), np.uint8))
  assert mask.dtype == np.uint8 and mask.shape == (10, 12)
  assert mask[inside] == 255 and mask.mean() / 255 == pytest.approx(share)
  assert np.isin(mask, (0, 255)).all()


def test_what_is_not_in_the_picture_is_one_line():
  grey = np.full((60, 80, 3), 90, np.uint8)
  for name in ('face', 'text', 'subject'):
    with pytest.raises(ValueError, match=f'no {name} found in the picture: use --mask'):
      regions.mask(name, grey)
    with pytest.raises(ValueError, match=f'no {name} found'):
      regions.mask(name, grey[:1, :1])
  with pytest.raises(ValueError, match='the box 80,0,5,5 is outside the picture of 80x60 pixels'):
    regions.mask('80,0,5,5', grey)


def test_the_astronauts_face_is_found():
  mask = regions.mask('face', data.astronaut())
  assert mask[100, 220] == 255 and mask[110, 250] > 0  # her nose and cheek
  assert mask[250:].max() == 0 and 0.04 < mask.mean() / 255 < 0.12
  np.testing.assert_array_equal(regions.mask('not face', data.astronaut()), 255 - mask)


def test_a_sharp_object_before_a_blurred_background_is_the_subject():
  cat = data.chelsea()[:300, 50:400]
  y, x = np.mgrid[:300, :350]
  truth = ((y - 150) / 90) ** 2 + ((x - 190) / 80) ** 2 < 1
  background = cv2.GaussianBlur(data.coffee()[:300, :350], (0, 0), 8)
  picture = np.where(truth[..., None], cat, background)
  found = regions.mask('subject', picture) > 127
  assert (found & truth).sum() / (found | truth).sum() > 0.6
  np.testing.assert_array_equal(
    regions.mask('background', picture), 255 - regions.mask('subject', picture)
  )


def test_a_line_of_text_is_found():
  picture = np.full((200, 400, 3), 200, np.uint8)
  picture[100:] = np.linspace(60, 220, 400)[None, :, None]
  cv2.putText(picture, 'Exit only 24', (40, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (20,) * 3, 3)
  mask = regions.mask('text', picture)
  assert mask[35:60, 50:260].mean() > 230 and mask[120:].max() == 0


# Strokes.


def disks():
  """A picture with a bright disk at the left and one at the right, and where they are."""
  y, x = np.mgrid[:120, :160]
  left, right = ((y - 60) ** 2 + (x - at) ** 2 < 30**2 for at in (45, 115))
  picture = np.full((120, 160, 3), 60, np.uint8)
  picture[left], picture[right] = (200, 180, 90), (190, 190, 190)
  return picture, left, right


def test_strokes_spread_to_the_edges_of_what_they_are_drawn_on():
  picture, left, right = disks()
  strokes = np.zeros((120, 160, 4), np.uint8)
  strokes[55:60, 30:60] = (0, 255, 0, 255)
  strokes[55:60, 100:130] = strokes[5:8, 10:150] = (255, 0, 0, 255)
  mask = scribble.mask_from_strokes(picture, strokes)
  assert mask.dtype == np.uint8 and mask.shape == (120, 160)
  inside = mask > 127
  assert (inside & left).sum() / (inside | left).sum() > 0.9
  assert mask[right].max() == 0 and mask[5:8, 10:150].max() == 0

  on_copy = np.where(strokes[..., 3:] > 0, strokes[..., :3], picture)
  np.testing.assert_array_equal(scribble.mask_from_strokes(picture, on_copy), mask)


def test_strokes_of_one_color_end_at_the_border_of_the_object():
  picture, left, _ = disks()
  strokes = np.zeros((120, 160, 4), np.uint8)
  strokes[55:60, 30:60] = (0, 255, 0, 255)
  green_only = scribble.mask_from_strokes(picture, strokes) > 127
  assert (green_only & left).sum() / (green_only | left).sum() > 0.9
  red_only = scribble.mask_from_strokes(picture, strokes[..., [1, 0, 2, 3]]) > 127
  assert (~red_only & left).sum() / (~red_only | left).sum() > 0.9


def test_wrong_strokes_are_one_line():
  picture = disks()[0]
  with pytest.raises(ValueError, match='no strokes found: draw in green'):
    scribble.mask_from_strokes(picture, picture)
  with pytest.raises(ValueError, match='the strokes are 80x60 pixels, but the picture is 160x120'):
    scribble.mask_from_strokes(picture, picture[::2, ::2])


# Examples.


def test_noise_and_sharpness_are_measured_apart():
  sharp = data.astronaut()[:256, 100:356] / 255.0
  noisy = sharp + np.random.default_rng(0).normal(0, 0.04, sharp.shape)
  soft = cv2.GaussianBlur(sharp, (0, 0), 1.2)
  assert example.look(noisy).noise == pytest.approx(0.04, rel=0.15)
  assert example.look(noisy).sharpness == pytest.approx(example.look(sharp).sharpness, rel=0.1)
  assert example.look(soft).sharpness < 0.7 * example.look(sharp).sharpness
  assert example.look(sharp).distance(example.look(sharp)) == 0


def test_matching_finds_the_amounts_that_made_the_example():
  sharp = data.astronaut()[:256, 100:356] / 255.0
  clean = cv2.GaussianBlur(sharp, (0, 0), 1.2)
  image = clean + np.random.default_rng(0).normal(0, 0.04, sharp.shape)
  made = clean + 0.5 * (sharp - clean) + 0.4 * (image - clean)
  sharpen, denoise, before, after = example.match(example.look(made), image, clean, sharp)
  assert (sharpen, denoise) == pytest.approx((0.5, 0.6)) and after < 0.01 < before
  same = example.match(example.look(image), image, clean, sharp)
  assert same[:2] == (0, 0)


# Candidates.


def test_candidates_are_different_prompts_around_what_was_chosen(tmp_path):
  first = candidates.prompts(6, candidates.taste([]))
  assert len(set(first)) == 6 and first[0] == 'motion blur 75%, noise 50%'
  for choice in ('motion blur 40%, noise 20%', 'motion blur 60%, noise 40%'):
    candidates.remember(tmp_path, choice)
  with open(tmp_path / candidates.FILE, 'a') as file:
    file.write('damaged\n{"prompt": 3}\n')
  liked = candidates.taste(candidates.choices(tmp_path))
  assert liked[:2] == pytest.approx((0.5, 0.3)) and liked.spread == pytest.approx(0.5 / 3)
  after = [words.parse(prompt).amounts for prompt in candidates.prompts(6, liked)]
  blurs = [one['motion'] for one in after]
  assert min(blurs) >= 0.5 - 0.5 / 3 - 0.01 and max(blurs) <= 0.5 + 0.5 / 3 + 0.01


def test_candidates_of_a_prompt_keep_its_faults_and_region():
  asked = words.parse('denoise the left half')
  found = [words.parse(prompt) for prompt in candidates.prompts(4, candidates.Taste(), asked)]
  assert {one.region for one in found} == {'left half'}
  assert {tuple(one.amounts) for one in found} == {('noise',)}
  assert len({one.amounts['noise'] for one in found}) == 4
  narrow = candidates.Taste(1.0, 1.0, 0.05)
  assert len(set(candidates.prompts(12, narrow, words.parse('remove JPEG artifacts')))) == 12
