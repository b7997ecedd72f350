"""Words, regions, strokes, examples and choices: what they mean, and what they do to a picture."""

import csv
import importlib.util
import io
import pathlib

import numpy as np
import PIL.Image
import pytest
from skimage import data

from deblur_jax.guidance import encoder, words
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
    assert 'can remove motion blur, defocus, noise and JPEG artifacts' in line


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
