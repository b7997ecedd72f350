"""The page: its files, its labels, and the way from a picture to its result in a browser.

The test of the network that runs in the browser needs ONNXRUNTIME_WEB, the path of the archive that
`deblur-jax serve --browser-runtime` downloads.
"""

import contextlib
import html.parser
import importlib.util
import io
import os
import pathlib
import re
import shutil

from fastapi.testclient import TestClient
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
from test_serve import coded, picture, restored, serving

from deblur_jax import cli, solvers
from deblur_jax.photos import psfs
from deblur_jax.serve import app, device
from deblur_jax.serve import browser as serve_browser
from deblur_jax.serve.keys import Keys
from deblur_jax.serve.restorers import Restorers
from deblur_jax.serve.service import Service
from deblur_jax.serve.settings import Limits

FILES = sorted(app.PAGE.iterdir())
TYPES = {'.html': 'text/html', '.css': 'text/css', '.js': 'javascript', '.svg': 'image/svg+xml'}
NAMESPACE = 'http://www.w3.org/2000/svg'

exporting = pytest.mark.skipif(
  importlib.util.find_spec('jax2onnx') is None, reason='the extra export is not installed'
)

FORBIDDEN = re.compile(r'(https?:)?//[a-z]|\beval\b|innerHTML|\sstyle="|\son\w+="')
"""Other hosts, and what the content security policy does not allow."""


@pytest.fixture(scope='module')
def server(brighter, tmp_path_factory):
  with serving(tmp_path_factory.mktemp('server'), [brighter, 'wiener']) as running:
    yield running


class Elements(html.parser.HTMLParser):
  """(tag, attributes) of all elements of a page."""

  def __init__(self, text):
    super().__init__()
    self.found = []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.found.append((tag, dict(attributes)))


def test_every_file_is_served_and_asks_for_nothing_from_elsewhere(server):
  assert [path.suffix for path in FILES]
  for path in FILES:
    answer = server.client.get(f'/{path.name}')
    assert (
      answer.content == path.read_bytes() and TYPES[path.suffix] in answer.headers['content-type']
    )
    text = path.read_text().replace(NAMESPACE, '')
    assert not FORBIDDEN.search(text), path.name
    for name in re.findall(r"from '\./(.*?)'", text):
      assert (app.PAGE / name).is_file()
  assert server.client.get('/').content == (app.PAGE / 'index.html').read_bytes()
  for _, attributes in Elements((app.PAGE / 'index.html').read_text()).found:
    for name in ('src', 'href'):
      target = attributes.get(name, '')
      assert not target or target.startswith('#') or (app.PAGE / target).is_file()


def test_every_control_has_a_label_and_every_identifier_exists():
  elements = Elements((app.PAGE / 'index.html').read_text()).found
  labels = {attributes.get('for') for tag, attributes in elements if tag == 'label'}
  names = [attributes['id'] for _, attributes in elements if 'id' in attributes]
  assert len(names) == len(set(names))
  wrapped = {'live', 'local', 'strip-metadata'}  # inside their labels
  for tag, attributes in elements:
    if tag in ('input', 'select', 'progress', 'canvas') and 'hidden' not in attributes:
      name = attributes['id']
      assert name in labels | wrapped or 'aria-label' in attributes, name
  for path in FILES:
    if path.suffix == '.js':
      text = path.read_text()
      used = re.findall(r"\$\('([\w-]+)'\)", text) + re.findall(r"listen\('([\w-]+)'", text)
      assert set(used) <= set(names)


def test_the_files_of_the_browser_are_served_if_they_are_installed(tmp_path):
  folder = tmp_path / '1.30.0-abc'
  folder.mkdir()
  types = {'a.mjs': 'text/javascript', 'b.wasm': 'application/wasm', 'mobile.onnx': 'octet-stream'}
  for name in types:
    (folder / name).write_text(name)
  restorers = Restorers(['wiener'])
  service = Service(restorers, tmp_path / 'data', Limits(), device.Device(restorers))
  local = {'base_url': 'http://localhost'}
  with_files = TestClient(app.create(service, Keys(None), browser=folder), **local)
  assert with_files.get('/v1/models').json()['browser'] == '/browser/1.30.0-abc/'
  for name, kind in types.items():
    answer = with_files.get(f'/browser/1.30.0-abc/{name}')
    assert answer.text == name and kind in answer.headers['content-type']
    assert 'immutable' in answer.headers['cache-control']
  assert with_files.get('/browser/1.30.0-abc/..%2Fdata').status_code == 404
  policy = with_files.get('/').headers['content-security-policy']
  assert "script-src 'self' 'wasm-unsafe-eval';" in policy and "worker-src 'self';" in policy
  assert 'unsafe-inline' not in policy and "'unsafe-eval'" not in policy and '//' not in policy
  without = TestClient(app.create(service, Keys(None)), **local)
  assert without.get('/v1/models').json()['browser'] is None
  assert without.get('/browser/1.30.0-abc/a.mjs').status_code == 404


@exporting
def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(serve_browser, 'URL', 'http://127.0.0.1:9/archive.tgz')
  assert cli.main(['serve', '--browser-runtime', '--data', str(tmp_path)]) == 2
  assert 'pass its path to --browser-runtime' in capsys.readouterr().err.splitlines()[-1]
  assert not list((tmp_path / 'browser').iterdir())
  given = ['serve', '--browser-runtime', str(tmp_path / 'none.tgz'), '--data', str(tmp_path)]
  assert cli.main(given) == 2
  assert capsys.readouterr().err == f'deblur-jax: {tmp_path}/none.tgz: no such file\n'


@exporting
def test_another_archive_is_refused_and_leaves_nothing(tmp_path, capsys):
  (tmp_path / 'other.tgz').write_bytes(b'something else')
  data = tmp_path / 'data'
  given = ['serve', '--browser-runtime', str(tmp_path / 'other.tgz'), '--data', str(data)]
  assert cli.main(given) == 2
  assert 'its SHA-256 differs' in capsys.readouterr().err
  assert not list((data / 'browser').iterdir()) and serve_browser.find(data) is None


@pytest.fixture(scope='module')
def browser():
  """Chromium without a window."""
  playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
  program = shutil.which('chromium') or shutil.which('google-chrome')
  with playwright.sync_playwright() as running:
    try:
      found = running.chromium.launch(executable_path=program, args=['--no-sandbox'])
    except playwright.Error as error:
      pytest.skip(f'no browser: {str(error).splitlines()[0]}')
    yield found
    found.close()


@pytest.fixture
def page(browser, server):
  """A page; fails if it asks another host, or has an error."""
  with opened_page(browser, server) as page:
    yield page


@contextlib.contextmanager
def opened_page(browser, server):
  context = browser.new_context(viewport={'width': 1280, 'height': 800}, accept_downloads=True)
  page = context.new_page()
  page.set_default_timeout(300_000)
  wrong = []
  page.on('pageerror', lambda error: wrong.append(str(error)))

  def listen(line):
    if line.type == 'error' and not re.search(
      ' 4(00|15) ', line.text
    ):  # the browser reports each refusal
      wrong.append(line.text)

  page.on('console', listen)

  def check(request):
    if not request.url.startswith((server.url, 'blob:', 'data:')):
      wrong.append(request.url)

  page.on('request', check)
  page.goto(server.url)
  yield page
  assert not wrong, wrong
  context.close()


def says(page, text):
  page.locator('#status').filter(has_text=text).wait_for()


def opened(page, tmp_path, image):
  path = tmp_path / 'photo.png'
  path.write_bytes(coded(image))
  page.locator('#file').set_input_files(path)


def downloaded(page):
  with page.expect_download() as download:
    page.locator('#download').click()
  assert download.value.suggested_filename == 'photo_restored.png'
  return pathlib.Path(download.value.path()).read_bytes()


@pytest.mark.slow
def test_a_picture_is_previewed_restored_and_downloaded(page, brighter, tmp_path):
  opened(page, tmp_path, picture(80, 120))
  says(page, 'This is a preview of the middle')
  page.locator('#strength').fill('50')
  page.locator('#restore').click()
  says(page, 'Restored.')
  assert '80 pixels, restored with brighter' in page.locator('#report').inner_text()
  options = ['--weights', brighter, '--strength', '0.5']
  expected = restored(tmp_path, coded(picture(80, 120)), *options)
  assert downloaded(page) == expected

  # Left of the border is before, right of it after.
  def at(x):
    script = f"""() => {{
      const canvas = document.querySelector('#view')
      const at = [{x} * canvas.width, canvas.height / 2, 1, 1]
      return [...canvas.getContext('2d').getImageData(...at).data]
    }}"""
    page.wait_for_timeout(300)
    return page.evaluate(script)

  page.locator('#split').fill('1000')
  before = at(0.5)
  page.locator('#split').fill('0')
  after = at(0.5)
  assert all(abs(new - old - 32) <= 2 for old, new in zip(before[:3], after[:3], strict=True))
  page.locator('#full').click()


@pytest.mark.slow
def test_words_say_what_to_do_and_where(page, tmp_path):
  opened(page, tmp_path, picture(80, 120))
  says(page, 'This is a preview of the middle')
  page.locator('#prompt').fill('denoise the top half')
  page.locator('#prompt').press('Enter')
  page.locator('#restore').click()
  says(page, 'Restored.')
  assert 'Understood: noise in the top half.' in page.locator('#report').inner_text()
  expected = restored(tmp_path, coded(picture(80, 120)), '--prompt', 'denoise the top half')
  assert downloaded(page) == expected
  page.locator('#prompt').fill('make the sky bluer')
  page.locator('#restore').click()
  page.locator('#status.bad').wait_for()
  assert "did not understand 'make the sky bluer'" in page.locator('#status').inner_text()
  page.locator('#method').select_option('wiener')
  assert page.locator('#prompt-field').is_hidden()


@pytest.mark.slow
def test_only_what_is_painted_with_the_keyboard_is_restored(page, tmp_path):
  image = picture(80, 120)
  opened(page, tmp_path, image)
  page.locator('#mask-mode').select_option('only')
  page.locator('#view').focus()
  page.keyboard.press('Space')
  page.locator('#restore').focus()
  page.keyboard.press('Enter')
  says(page, 'Restored.')
  result = np.asarray(PIL.Image.open(io.BytesIO(downloaded(page)))).astype(int)
  assert (result[40, 60] - image[40, 60] >= 63).all()
  np.testing.assert_array_equal(result[:, :20], image[:, :20])


@pytest.mark.slow
def test_errors_are_shown_and_a_phone_needs_no_scrolling_sideways(page, tmp_path):
  page.set_viewport_size({'width': 360, 'height': 740})
  (tmp_path / 'text.png').write_text('no picture')
  page.locator('#file').set_input_files(tmp_path / 'text.png')
  page.locator('#no-view').wait_for()
  page.locator('#restore').click()
  says(page, 'not a JPEG, PNG, WebP, TIFF or AVIF picture')
  wide = page.evaluate('() => document.documentElement.scrollWidth')
  assert wide <= 360


@pytest.mark.slow
def test_several_pictures_are_restored_one_after_the_other(page, tmp_path):
  for i, name in enumerate(('a.png', 'b.png')):
    (tmp_path / name).write_bytes(coded(picture(40, 60, seed=50 + i)))
  page.locator('#file').set_input_files([tmp_path / 'a.png', tmp_path / 'b.png'])
  page.locator('#strip button').nth(1).wait_for()
  page.locator('#restore-all').click()
  says(page, 'Restored 2 pictures.')
  for i, name in enumerate(('a', 'b')):
    page.locator('#strip button').nth(i).click()
    with page.expect_download() as download:
      page.locator('#download').click()
    assert download.value.suggested_filename == f'{name}_restored.png'
    result = np.asarray(PIL.Image.open(download.value.path()))
    np.testing.assert_array_equal(result, np.rint(picture(40, 60, seed=50 + i) + 63.75))


def nothing_sent(page):
  """A list that stays empty as long as the page sends nothing to the server."""
  sent = []
  page.on('request', lambda request: sent.append(request.url) if request.method != 'GET' else None)
  return sent


def colors(data):
  return np.asarray(PIL.Image.open(io.BytesIO(data)).convert('RGB')).astype(int)


@pytest.mark.slow
def test_classical_methods_of_the_browser_are_those_of_the_package(page):
  plane = picture(45, 62)[..., 0].astype(np.float32) / 255
  psf = psfs.described('motion:9,30')
  script = """async ([plane, rows, columns, text]) => {
    const { SOLVERS } = await import('/solvers.js')
    const { psf } = await import('/psfs.js')
    return Object.fromEntries(Object.entries(SOLVERS).map(([name, solve]) =>
      [name, [...solve(Float64Array.from(plane), rows, columns, psf(text))]]))
  }"""
  found = page.evaluate(script, [plane.ravel().tolist(), *plane.shape, 'motion:9,30'])
  assert found.keys() == {'wiener', 'richardson_lucy', 'total_variation'}
  for name, values in found.items():
    expected = np.asarray(solvers.SOLVERS[name](plane, psf))
    assert np.abs(np.reshape(values, plane.shape) - expected).max() < 1e-4, name


@pytest.mark.slow
def test_this_browser_restores_and_sends_nothing(page, tmp_path):
  sent = nothing_sent(page)
  page.locator('#local').check()
  assert 'nothing is sent' in page.locator('#where').inner_text()
  opened(page, tmp_path, picture(60, 90))
  assert 'mobile' not in page.locator('#method').inner_text()  # its files are not installed
  page.locator('#method').select_option('wiener')
  page.locator('#psf-kind').select_option('disk')
  page.locator('#psf-size').fill('20')
  says(page, 'This is a preview of the middle')
  page.locator('#strength').fill('80')
  page.locator('#restore').click()
  says(page, 'Restored.')
  options = ['--weights', 'wiener', '--psf', 'disk:2', '--strength', '0.8']
  expected = colors(restored(tmp_path, coded(picture(60, 90)), *options))
  found = colors(downloaded(page))
  assert np.abs(found - picture(60, 90)).max() > 5
  assert np.abs(found - expected).max() <= 1
  assert not sent
  page.reload()
  assert page.locator('#local').is_checked()


@exporting
@pytest.mark.slow
def test_the_browser_runs_the_network(browser, brighter, tmp_path):
  archive = os.environ.get('ONNXRUNTIME_WEB')
  if not archive:
    pytest.skip('ONNXRUNTIME_WEB does not name the archive of onnxruntime-web')
  installed = serve_browser.install(tmp_path, pathlib.Path(archive))
  assert serve_browser.find(tmp_path) == installed
  with (
    serving(tmp_path / 'server', [brighter], browser=installed) as server,
    opened_page(browser, server) as page,
  ):
    sent = nothing_sent(page)
    page.locator('#local').check()
    opened(page, tmp_path, picture(61, 90))
    page.locator('#restore').click()
    says(page, 'Restored.')
    expected = colors(restored(tmp_path, coded(picture(61, 90)), '--weights', 'mobile'))
    found = colors(downloaded(page))
    assert np.abs(found - picture(61, 90)).max() > 1
    assert np.abs(found - expected).max() <= 1
    assert not sent


@pytest.mark.slow
def test_a_candidate_is_chosen_with_the_keyboard_and_varied(page, brighter, tmp_path):
  opened(page, tmp_path, picture(80, 120))
  page.locator('#compare').focus()
  page.keyboard.press('Enter')
  ready = "() => !document.querySelector('#candidate-list .waiting')"
  page.wait_for_function(ready)
  first = page.locator('#candidate-list button')
  assert first.all_inner_texts() == ['brighter, 100 %']  # wiener requires a kind of blur
  first.focus()
  page.keyboard.press('Enter')
  page.wait_for_function(ready)
  names = [f'brighter, {strength} %' for strength in (40, 70, 100)]
  assert first.all_inner_texts() == names
  assert page.evaluate('document.activeElement.innerText') == names[2]
  shift = """(i) => {
    const canvas = document.querySelectorAll('#candidate-list canvas')[i]
    return canvas.getContext('2d').getImageData(60, 40, 1, 1).data[0]
  }"""
  red = int(picture(80, 120)[40, 60, 0])
  for i, strength in enumerate((0.4, 0.7, 1)):
    assert abs(page.evaluate(shift, i) - red - 63.75 * strength) <= 2
  first.nth(1).click()
  page.keyboard.press('Escape')
  assert page.locator('#strength').input_value() == '70'
  page.locator('#restore').click()
  says(page, 'Restored.')
  options = ['--weights', brighter, '--strength', '0.7']
  assert downloaded(page) == restored(tmp_path, coded(picture(80, 120)), *options)


@pytest.mark.slow
def test_strokes_spread_up_to_the_edge(page, tmp_path):
  image = np.full((80, 120, 3), 40, np.uint8)
  image[:, 80:] = 150
  opened(page, tmp_path, image)
  page.locator('#mask-mode').select_option('scribble')
  page.locator('#view').focus()
  page.keyboard.press('Space')  # in the middle, 20 pixels from the edge
  page.locator('#restore').click()
  says(page, 'Restored.')
  change = colors(downloaded(page)) - image
  assert change[30:50, 40:76].min() > 40 and change[30:50, 55:65].min() >= 62
  assert change[:, 84:].max() <= 1
  page.locator('#leave').click()
  page.locator('#view').focus()
  page.keyboard.press('Space')
  page.locator('#restore').click()
  says(page, 'Restored.')
  assert (colors(downloaded(page)) - image)[30:50, 55:65].max() <= 1


@pytest.mark.slow
def test_the_strength_is_set_to_match_an_example(page, tmp_path):
  rng = np.random.default_rng(0)
  scene = np.kron(rng.uniform(20, 235, (8, 8, 1)), np.ones((30, 30, 3)))
  blurred = scipy.ndimage.gaussian_filter(scene, (2, 2, 0))
  page.locator('#local').check()
  opened(page, tmp_path, blurred.astype(np.uint8))
  page.locator('#method').select_option('wiener')
  page.locator('#psf-kind').select_option('gaussian')
  page.locator('#psf-size').fill('20')
  ranges = {'same': (2, 0, 0), 'halfway': (1.6, 10, 70), 'sharp': (0.3, 100, 100)}
  for name, (sigma, least, most) in ranges.items():
    example = scipy.ndimage.gaussian_filter(scene, (sigma, sigma, 0))
    (tmp_path / f'{name}.png').write_bytes(coded(example.astype(np.uint8)))
    page.locator('#example-file').set_input_files(tmp_path / f'{name}.png')
    page.locator('#example-result').filter(has_text='%').wait_for()
    assert least <= int(page.locator('#strength').input_value()) <= most, name
    page.evaluate("document.querySelector('#example-result').textContent = ''")
    if name == 'sharp':
      page.locator('#example-match').click()
      page.locator('#example-result').filter(has_text='%').wait_for()
  assert 'does not make it as sharp' in page.locator('#example-result').inner_text()
