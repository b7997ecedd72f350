"""Protocols, evaluation sets, what a method costs, and the tables made from them."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
import safetensors.numpy

from deblur_jax import color, models, zoo
from deblur_jax.blur import operators
from deblur_jax.configs import common
from deblur_jax.data import builtin, sources
from deblur_jax.evaluation import blurred_set, costs, figures, protocols, restoration, tables
from deblur_jax.metrics import METRICS
from deblur_jax.types import Needs

ALEXNET = {
  'net.slice1.0': (64, 3, 11),
  'net.slice2.3': (192, 64, 5),
  'net.slice3.6': (384, 192, 3),
  'net.slice4.8': (256, 384, 3),
  'net.slice5.10': (256, 256, 3),
}


@pytest.fixture(scope='module')
def pair():
  """A restored picture in floats and the sharp one in 8 bits, 64x80."""
  sharp = builtin.photograph('coffee.png')[100:164, 200:280]
  noise = np.random.default_rng(0).standard_normal(sharp.shape, np.float32)
  return sharp.astype(np.float32) / 255 + 0.02 * noise, sharp


class Source:
  """Two pairs; `aligned` or not."""

  paired = True

  def __init__(self, pair, *, aligned=True):
    self.aligned, (restored, self._sharp) = aligned, pair
    self._blurred = protocols.as_uint8(restored)

  def __len__(self):
    return 2

  def __getitem__(self, index):
    return {'name': f'pair {index}', 'sharp': self._sharp, 'blurred': self._blurred}

  def size(self, index):
    return self._blurred.shape[:2]


def score(pair, name):
  return protocols.score(*pair, protocols.find(name))


def test_a_protocol_says_what_is_measured(pair):
  metrics = {
    name: jax.jit(METRICS[name]) for name in ('psnr', 'psnr_uint8', 'ssim', 'ssim_matlab_3d')
  }
  restored, sharp = pair
  rounded = np.round(np.clip(restored, 0, 1) * 255) / np.float32(255)
  floats = sharp.astype(np.float32) / 255
  plain, gopro, raw, interior = (
    score(pair, name) for name in ('plain', 'gopro', 'float', 'interior')
  )
  assert plain['psnr'] == pytest.approx(float(metrics['psnr_uint8'](restored, floats)), abs=1e-4)
  assert plain['ssim'] == pytest.approx(float(metrics['ssim'](rounded, floats)), abs=1e-5)
  assert gopro['psnr'] == plain['psnr'] and gopro == score(pair, 'hide')
  assert gopro['ssim'] == pytest.approx(float(metrics['ssim_matlab_3d'](rounded, floats)), abs=1e-5)
  clipped = np.clip(restored, 0, 1)
  assert raw['psnr'] == pytest.approx(float(metrics['psnr'](clipped, floats)), abs=1e-4)
  assert abs(raw['psnr'] - plain['psnr']) > 1e-3
  inside = (slice(16, -16), slice(16, -16))
  assert interior == score((restored[inside], sharp[inside]), 'plain')


def test_realblur_undoes_gain_and_place_before_it_scores(pair):
  _, sharp = pair
  darker = (0.8 * sharp).astype(np.uint8)
  assert score((darker, sharp), 'plain')['psnr'] < 25
  assert score((darker, sharp), 'realblur')['psnr'] > 40


def test_sharpness_needs_no_sharp_picture(pair):
  scores = protocols.score(pair[0], None, protocols.find('sharpness'))
  assert set(scores) == {'laplacian', 'blur_effect'}


def test_wrong_protocols_and_sizes_are_reported(pair):
  with pytest.raises(ValueError, match=r"no protocol 'gorpo' \(known: plain, gopro"):
    protocols.find('gorpo')
  with pytest.raises(ValueError, match='differ in size'):
    score((pair[0][:-1], pair[1]), 'plain')


def test_every_source_and_set_of_a_config_has_a_protocol():
  for source in sources.SOURCES:
    assert protocols.for_source(source) in protocols.PROTOCOLS
  assert protocols.for_source('builtin') == protocols.for_source('pairs') == 'plain'
  assert common.evaluation('gopro/blur')['protocol'] == 'gopro'
  assert common.evaluation('realblur/j')['protocol'] == 'realblur'
  assert common.evaluation('gopro/blur', protocol='float')['protocol'] == 'float'
  assert blurred_set.open_sets(common.base().evaluate)['builtin'].protocol == 'plain'


def test_what_is_not_aligned_is_refused_where_pixels_are_compared(pair):
  source = Source(pair, aligned=False)
  with pytest.raises(ValueError, match=r"compares pixels.*'sharpness', which needs no sharp"):
    blurred_set.Blurred(source, '')
  blurred_set.Blurred(Source(pair), '')
  pictures = blurred_set.Blurred(source, '', protocol='sharpness')
  report = restoration.evaluate(
    lambda blurred, **known: blurred, {'apart': pictures}, 'same', Needs()
  )
  means = report['apart'].mean()
  assert means['same'] == means['blurred'] and means['same']['laplacian'] > 0
  assert report['apart'].shown[0].sharp is None
  assert figures.gallery(report).shape[2] == 3


def test_the_protocol_stands_beside_every_number(pair, tmp_path):
  def evaluate(method, protocol, **stated):
    pictures = blurred_set.Blurred(Source(pair), '', protocol=protocol)
    reports = restoration.evaluate(
      lambda blurred, **known: blurred, {'mine': pictures}, method, Needs()
    )
    restoration.write(tmp_path, reports, **stated)
    shown = []
    restoration.show(shown.append, tmp_path)
    return json.loads((tmp_path / 'results.json').read_text())['mine'], shown[0]

  results, title = evaluate('first', 'plain')
  assert set(results) == {'blurred', 'first'}
  assert results['first'] == score((Source(pair)[0]['blurred'], pair[1]), 'plain') | {
    'protocol': 'plain'
  }
  assert title == 'mine (plain: 8-bit, 2-D SSIM)'
  chosen = 'step 4 of 8, best PSNR on 3 validation pictures'
  results, title = evaluate('second', 'gopro', weights=chosen)
  assert title == f"mine (gopro: 8-bit, MATLAB's 3-D SSIM; {chosen})"
  assert results['second']['weights'] == chosen and 'weights' not in results['blurred']
  with (tmp_path / 'results.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert {row['protocol'] for row in rows} == {'gopro'}
  assert {row['method']: row['weights'] for row in rows} == {'blurred': '', 'second': chosen}
  with pytest.raises(ValueError, match="cannot be called 'blurred'"):
    evaluate('blurred', 'plain')


def test_an_identical_pair_is_left_out_of_the_means(pair, tmp_path):
  class OneIdentical(Source):
    def __getitem__(self, index):
      example = super().__getitem__(index)
      return example | ({'blurred': example['sharp']} if index else {})

  def constant(blurred, **known):
    return 0.9 * blurred

  pictures = blurred_set.Blurred(OneIdentical(pair), '')
  reports = restoration.evaluate(constant, {'mine': pictures}, 'darker', Needs())
  restoration.write(tmp_path, reports, weights='step 1 of 1, the latest')
  results = json.loads(
    (tmp_path / 'results.json').read_text(),
    parse_constant=lambda name: pytest.fail(f'{name} is not JSON'),
  )['mine']
  # PSNR of the other pair alone, for both methods; SSIM, finite everywhere, of both pairs.
  other = pictures[0]
  assert results['blurred']['psnr'] == pictures.score(other['blurred'], other)['psnr']
  darker = [
    pictures.score(0.9 * (one['blurred'].astype(np.float32) / 255), one)
    for one in (other, pictures[1])
  ]
  assert results['darker']['psnr'] == pytest.approx(darker[0]['psnr'], abs=1e-3)
  ssims = [one['ssim'] for one in darker]
  assert results['darker']['ssim'] == pytest.approx(np.mean(ssims), abs=1e-4)
  assert results['blurred']['exact'] == 1
  shown = []
  restoration.show(shown.append, tmp_path)
  assert shown[2] == '1 with infinite PSNR (equal to the sharp picture): excluded from its mean'
  assert restoration.means([{'a': {'psnr': np.inf, 'ssim': 1.0}}]) == {'a': {'ssim': 1.0}}


@pytest.mark.parametrize('needs', [Needs(multiple=8), Needs(tiling='approximate', side=64)])
def test_pictures_that_go_together_score_as_alone(needs):
  class Mixed(Source):
    def __init__(self):
      self.aligned = True
      self._pictures = [builtin.photograph('coffee.png')[i : i + 90 - 7 * i, :80] for i in range(5)]

    def __len__(self):
      return 5

    def __getitem__(self, index):
      sharp = self._pictures[index]
      return {'name': f'picture {index}', 'sharp': sharp, 'blurred': sharp // 2}

    def size(self, index):
      return self._pictures[index].shape[:2]

  def evaluate(together):
    @jax.jit
    def brighter(images):
      assert images.shape[0] == together and images.shape[1] % 8 == 0
      return 1.5 * images + 0.1 * images[:, ::-1]

    pictures = blurred_set.Blurred(Mixed(), '')
    reports = restoration.evaluate(brighter, {'mixed': pictures}, 'x', needs, together=together)
    return reports['mixed']

  alone, together = evaluate(1), evaluate(2)
  assert list(alone.scores) == list(together.scores) == [f'picture {i}' for i in range(5)]
  for one, other in zip(alone.shown, together.shown, strict=True):
    assert one.name == other.name
    np.testing.assert_array_equal(one.restored, other.restored)
  for name, scores in alone.scores.items():
    assert scores['x'] == pytest.approx(together.scores[name]['x'], abs=1e-6)


class Sizes(Source):
  """Pairs of five sizes, none of which is a multiple of any other; `chosen` of them."""

  def __init__(self, chosen):
    self.aligned, self._chosen = True, chosen
    photograph = builtin.photograph('coffee.png')
    sizes = [(33, 40), (64, 71), (50, 96), (81, 35), (64, 71)]
    self._pictures = [
      photograph[30 * i : 30 * i + height, 200 : 200 + width]
      for i, (height, width) in enumerate(sizes)
    ]

  def __len__(self):
    return len(self._chosen)

  def __getitem__(self, index):
    sharp = self._pictures[self._chosen[index]]
    blurred = ((sharp.astype(np.int32) + np.roll(sharp, 2, axis=1)) // 2).astype(np.uint8)
    return {'name': str(self._chosen[index]), 'sharp': sharp, 'blurred': blurred}

  def size(self, index):
    return self._pictures[self._chosen[index]].shape[:2]


@pytest.mark.parametrize(
  'name, arguments, tiling',
  [
    ('nafnet', {'variant': 'smoke'}, 'approximate'),
    ('srcnn', {'kernel_sizes': (3, 1, 3), 'features': (8, 4)}, 'exact'),
  ],
)
def test_a_picture_alone_is_restored_as_in_any_set(name, arguments, tiling, key):
  model = models.make(name, **arguments)
  assert model.needs.tiling == tiling
  params = jax.jit(model.init)(key, jnp.zeros((1, 16, 16, 3)))
  # Residual scales begin at zero; with ones, channel attention has a say.
  params = jax.tree.map(lambda leaf: np.where(leaf == 0, np.float32(1), leaf), params)
  apply = jax.jit(lambda blurred: model.apply(params, blurred)['restored'])

  def restored(chosen):
    pictures = blurred_set.Blurred(Sizes(chosen), '')
    done = restoration.restore_set(lambda images, **known: apply(images), pictures, model.needs)
    return {
      example['name']: (picture, pictures.score(picture, example)) for _, example, picture in done
    }

  together = restored(range(5))
  for i in range(5):
    picture, scores = restored([i])[str(i)]
    np.testing.assert_array_equal(picture, together[str(i)][0])
    assert scores == together[str(i)][1]
    assert np.ptp(picture) > 0


def test_a_limit_changes_no_picture_that_it_leaves():
  source = Sizes(range(5))
  source.paired = False
  whole, two = (blurred_set.Blurred(source, 'motion(3..9)', limit=n, draws=2) for n in (0, 2))
  whole = {example['name']: example for example in (whole[i] for i in range(10))}
  two = [two[i] for i in range(4)]
  assert [example['name'] for example in two] == ['0 1', '0 2', '2 1', '2 2']
  for example in two:
    np.testing.assert_array_equal(example['blurred'], whole[example['name']]['blurred'])


def test_learned_metrics_come_with_the_file_of_their_weights(pair, tmp_path):
  rng, weights = np.random.default_rng(0), {}
  for index, (layer, (width, inputs, side)) in enumerate(ALEXNET.items()):
    weights[f'{layer}.weight'] = 0.05 * rng.standard_normal((width, inputs, side, side), np.float32)
    weights[f'{layer}.bias'] = np.zeros(width, np.float32)
    weights[f'lin{index}.model.1.weight'] = np.ones((1, width, 1, 1), np.float32)
  safetensors.numpy.save_file(weights, tmp_path / 'lpips.safetensors')
  file = str(tmp_path / 'lpips.safetensors')
  learned = protocols.load_learned({'lpips': file, 'dists': ''})
  pictures = blurred_set.Blurred(Source(pair), '', learned=learned)
  scores = pictures.score(pair[0], pictures[0])
  assert list(scores) == ['psnr', 'ssim', 'lpips'] and scores['lpips'] > 0
  assert pictures.score(pair[1], pictures[0])['lpips'] == pytest.approx(0, abs=1e-9)
  with pytest.raises(ValueError, match='not the weights of dists: no stage1'):
    protocols.load_learned({'dists': file})


@pytest.mark.parametrize(
  'network, variant, gmacs',
  [
    ('srcnn', 'default', 1.311),
    ('nafnet', 'default', 15.96),
    ('hinet', 'default', 157.60),
    # the authors' 759.41, less 1x1 convolutions that go before upsampling here: a quarter each
    ('mprnet', 'default', 753.98),
    ('nafnet', 'w64', 63.06),
    ('restormer', 'default', 154.88),
    ('swinir', 'default', 800.3),
    ('deblurgan', 'default', 49.55),
    ('deepdeblur', 'default', 335.94),
    ('srn', 'default', 83.50),
    ('srn', 'lstm', 3 * 89.43),
    ('dmphn', 'default', 65.15),
    ('dbgan', 'default', 758.83),
  ],
)
def test_multiply_adds_are_those_of_the_authors_code(network, variant, gmacs, key):
  model = models.make(network, variant)
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
  small = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  params = jax.eval_shape(model.init, key, small)

  def restore(params, blurred):
    return model.apply(params, blurred)['restored']

  assert costs.count_macs(jax.jit(restore), params, image) / 1e9 == pytest.approx(gmacs, rel=4e-4)


def test_multiply_adds_by_hand():
  kernel, image = jnp.ones((3, 3, 4, 8)), jnp.ones((2, 10, 12, 4))
  names = ('NHWC', 'HWIO', 'NHWC')

  def conv(image, kernel, **options):
    return jax.lax.conv_general_dilated(image, kernel, dimension_numbers=names, **options)

  same = {'window_strides': (1, 1), 'padding': 'SAME'}
  assert costs.count_macs(lambda x: conv(x, kernel, **same), image) == 2 * 120 * 9 * 4 * 8
  grouped = jnp.ones((3, 3, 1, 4))
  depthwise = lambda x: conv(x, grouped, feature_group_count=4, **same)  # noqa: E731
  assert costs.count_macs(depthwise, image) == 2 * 120 * 9 * 4
  spread = {'window_strides': (1, 1), 'padding': [(1, 2), (1, 2)], 'lhs_dilation': (2, 2)}
  assert costs.count_macs(lambda x: conv(x, kernel, **spread), image) == 2 * 120 * 9 * 4 * 8
  a, b = jnp.ones((5, 7, 11)), jnp.ones((5, 11, 13))
  assert costs.count_macs(jnp.matmul, a, b) == 5 * 7 * 11 * 13
  body = lambda x, _: (x @ jnp.ones((4, 4)), None)  # noqa: E731
  many = lambda x: jax.lax.scan(body, x, None, length=6)[0]  # noqa: E731
  assert costs.count_macs(many, jnp.ones((3, 4))) == 6 * 3 * 4 * 4


def test_a_psf_that_made_the_blur_is_reported(tmp_path):
  pictures = blurred_set.open_set('builtin', blur='motion(9..15)', limit=1)
  example = pictures[0]
  image = color.SRGB.to_linear(example['sharp'] / 255.0)
  blurred = color.SRGB.from_linear(operators.Convolution(jnp.asarray(example['psf'])).apply(image))
  np.testing.assert_allclose(blurred, example['blurred'] / 255, atol=0.51 / 255)
  method = zoo.load('wiener')
  scores = [
    pictures.score(restored, example)['psnr']
    for _, example, restored in restoration.restore_set(method.restore, pictures, method.needs)
  ]
  assert scores[0] > pictures.score(example['blurred'], example)['psnr'] + 3
  for blur in ('sharp', 'objects', 'disk(2) | gaussian(1)'):
    assert 'psf' not in blurred_set.open_set('builtin', blur=blur, limit=1)[0]


def test_a_solver_without_a_psf_says_so():
  with pytest.raises(ValueError, match='wiener requires the PSF of the blur'):
    zoo.load('wiener').restore(jnp.zeros((1, 8, 8, 3)))


def test_methods_of_one_size_are_scored_and_measured_in_tiles(pair):
  needs = Needs(tiling='approximate', side=128)  # tiles overlap by 32
  mix = np.eye(3, dtype=np.float32)

  @jax.jit
  def restore(blurred):
    assert blurred.shape == (1, 128, 128, 3)
    return blurred @ mix

  pictures = blurred_set.Blurred(Source(pair), '')
  for _, example, restored in restoration.restore_set(restore, pictures, needs):
    np.testing.assert_allclose(restored, example['blurred'] / 255, atol=1e-6)
  found = costs.measure(lambda: zoo.Method('mix', restore, needs))
  assert found.gmacs * 1e9 == 9 * 128 * 128 * 3 * 3  # 256x256 takes 3 x 3 tiles
  assert 0 < found.ms_256x256 < found.ms_1280x720


LINES = [
  tables.Line('blurred', {'mine': {'psnr': 26.5, 'ssim': 0.78}}, {}),
  tables.Line(
    'a network, trained for a while',
    {'mine': {'psnr': 31.255, 'ssim': 0.8999}},
    {'parameters': 1_234_567, 'gmacs': 15.956, 'ms_256x256': 23.61, 'ms_256x256_q1': 22.1,
     'ms_256x256_q3': 40.0, 'ms_1280x720': 1304.2,
     'compile_s': 4.5, 'memory_mib': 1234, 'device': 'a device'},
  ),
]  # fmt: skip
SETS = {'mine': tables.ScoredSet('gopro', 7)}


def test_a_table_fits_80_columns_and_tells_the_protocol(capsys):
  console = Console(width=80)
  for table in tables.terminal([*LINES, *tables.quoted(SETS)], SETS):
    console.print(table)
  text = capsys.readouterr().out
  assert max(map(len, text.splitlines())) <= 80 and '…' not in text
  assert "mine, 7 pictures (gopro: 8-bit, MATLAB's 3-D SSIM)" in text
  assert '31.25' in text or '31.26' in text
  assert text.index('1,304') < text.index('quoted:') < text.index('MPRNet')


def test_markdown_marks_what_is_quoted_and_says_how_it_was_measured():
  text = tables.markdown([*LINES, *tables.quoted(SETS)], SETS, 'deblur-jax benchmark x -o y')
  rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines()
          if line.startswith('|')]  # fmt: skip
  assert len({len(row) for row in rows}) == 1
  table = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}
  assert table['MPRNet']['mine PSNR'] == '32.66' and table['MPRNet']['source'] == 'quoted: paper'
  network = table['a network, trained for a while']
  assert network['source'] == 'measured' and network['params'] == '1.23 M'
  assert network['ms 256²'] == '23.6 (22.1..40)' and network['ms 720p'] == '1,304'
  assert 'protocol gopro: 8-bit' in text and 'on a device' in text
  assert 'deblur-jax benchmark x -o y' in text and "for GoPro's test set, not measured" in text


def test_nothing_is_quoted_beside_other_sets():
  assert tables.quoted({'mine': tables.ScoredSet('plain', 7)}) == []


def test_csv_holds_every_figure():
  rows = list(csv.DictReader(tables.comma_separated(LINES, SETS).splitlines()))
  assert [row['method'] for row in rows] == ['blurred', 'a network, trained for a while']
  assert rows[1]['protocol'] == 'gopro' and float(rows[1]['ms_1280x720']) == 1304.2
  assert float(rows[1]['psnr']) == 31.255 and rows[0]['parameters'] == ''


def test_the_figure_has_a_panel_for_each_set_with_psnr():
  one = figures.quality_and_time(LINES, SETS)
  two = figures.quality_and_time(
    [line._replace(scores={**line.scores, 'other': line.scores['mine']}) for line in LINES],
    {**SETS, 'other': tables.ScoredSet('plain', 3)},
  )
  assert two.shape[1] > one.shape[1] and two.shape[0] == one.shape[0]
  assert len(np.unique(one.reshape(-1, 3), axis=0)) > 10


def test_a_shift_within_the_protocols_bounds_costs_nothing():
  rng = np.random.default_rng(0)
  big = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
  sharp, restored = big[5:-5, 5:-5], big[5 + 2 : -5 + 2, 5 - 3 : -5 - 3]
  protocol = protocols.find('gopro_shifted')
  assert protocols.score(restored, sharp, protocol)['psnr'] == np.inf
  assert protocols.score(restored, sharp, protocols.find('gopro'))['psnr'] < 12
  found, middle = protocols.shifted(restored, sharp, 3)
  np.testing.assert_array_equal(found, middle)
  np.testing.assert_array_equal(middle, sharp[3:-3, 3:-3])
  beyond = big[5 + 4 : -5 + 4, 5:-5]
  assert protocols.score(beyond, sharp, protocol)['psnr'] < 12
  with pytest.raises(ValueError, match='cannot be shifted'):
    protocols.shifted(sharp[:6], sharp[:6], 3)
