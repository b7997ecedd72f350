"""The server: the same bytes as `deblur-jax restore`, one computation for equal requests."""

import concurrent.futures
import contextlib
import hashlib
import http.client
import importlib.util
import io
import json
import socket
import threading
import time

import httpx
import numpy as np
import PIL.Image
import pytest

from deblur_jax import cli, methods
from deblur_jax import weights as weight_files
from deblur_jax.photos import restore as photo_restore
from deblur_jax.serve import app as serve_app
from deblur_jax.serve import device, run
from deblur_jax.serve.keys import Keys
from deblur_jax.serve.restorers import Restorers
from deblur_jax.serve.service import Service
from deblur_jax.serve.settings import Limits, Settings
from deblur_jax.uncertainty import conformal, reliability, stored


def picture(height=40, width=60, seed=0):
  y, x = np.mgrid[:height, :width]
  planes = [97 + 80 * np.sin(y / 9 + c) * np.cos(x / (7 + c) + seed) for c in range(3)]
  return np.stack(planes, -1).astype(np.uint8)


def coded(image, form='png', **options):
  file = io.BytesIO()
  PIL.Image.fromarray(image).save(file, form, **options)
  return file.getvalue()


FRESH = httpx.Limits(max_keepalive_connections=0)
"""The server closes connections that are idle, also while a busy machine does not run the test."""

WIENER = {'weights': 'wiener', 'psf': 'disk:2'}
POLYBLUR = {'weights': 'polyblur', 'force': 'true'}


class Running:
  """A server on a free port, in a thread."""

  def __init__(self, folder, weights, limits, keys, browser=None):
    restorers = Restorers(weights)
    self.service = Service(restorers, folder, limits, device.Device(restorers, warm=16))
    app = serve_app.create(self.service, Keys(keys), ['deblur.example'], browser)
    self.server = run.make_server(app, self.service, host='127.0.0.1', port=0)
    self.socket = socket.create_server(('127.0.0.1', 0), backlog=2048)
    self.port = self.socket.getsockname()[1]
    self.url = f'http://127.0.0.1:{self.port}'
    self.thread = threading.Thread(target=self.server.run, kwargs={'sockets': [self.socket]})
    self.thread.start()
    self.client = httpx.Client(base_url=self.url, timeout=600, limits=FRESH)
    deadline = time.monotonic() + 600
    while self.client.get('/readyz').status_code != 200:
      assert time.monotonic() < deadline
      time.sleep(0.02)

  def restore(self, image, files=None, headers=None, **options):
    given = {'image': ('../../etc/passwd', image, 'text/plain'), **(files or {})}
    return self.client.post('/v1/restore', files=given, data=options, headers=headers)

  def stop(self):
    self.client.close()
    self.server.should_exit = True
    self.thread.join(600)
    assert not self.thread.is_alive()


@contextlib.contextmanager
def serving(folder, weights, limits=None, keys=None, browser=None):
  running = Running(folder, weights, limits or Limits(), keys, browser)
  try:
    yield running
  finally:
    running.stop()


@pytest.fixture(scope='module')
def server(brighter, tmp_path_factory):
  folder = tmp_path_factory.mktemp('server')
  with serving(folder, [brighter, 'wiener', 'polyblur']) as running:
    yield running


def restored(folder, data, *options, suffix='.png', out=None):
  """The bytes that `deblur-jax restore` writes."""
  source = folder / f'in{suffix}'
  source.write_bytes(data)
  target = folder / f'out{out or suffix}'
  assert cli.main(['restore', str(source), '-o', str(target), '--overwrite', *options]) == 0
  return target.read_bytes()


@pytest.mark.parametrize(
  'form,suffix,sent,options',
  [
    ('png', '.png', {}, []),
    ('jpeg', '.jpg', {'quality': 80, 'strip': 'true'}, ['--quality', '80', '--strip']),
    ('tiff', '.tif', {'strength': 0.5}, ['--strength', '0.5']),
    ('webp', '.webp', {'crop': '10,5,30,20'}, ['--crop', '10,5,30,20']),
    ('png', '.png', POLYBLUR, ['--weights', 'polyblur', '--force']),
    (
      'png',
      '.png',
      WIENER,
      ['--weights', 'wiener', '--psf', 'disk:2'],
    ),
  ],
)
def test_answers_are_what_restore_writes(server, brighter, tmp_path, form, suffix, sent, options):
  exif = PIL.Image.Exif()
  exif[0x010F], exif[0x0112] = 'Maker', 6
  data = coded(picture(), form, exif=exif, dpi=(300, 300))
  answer = server.restore(data, **sent)
  assert answer.status_code == 200, answer.text
  weights = [] if '--weights' in options else ['--weights', brighter]
  assert answer.content == restored(tmp_path, data, *weights, *options, suffix=suffix)
  assert answer.headers['content-type'] == f'image/{form}'


def test_uncertainty_is_that_of_restore(brighter, tmp_path):
  params, manifest = weight_files.read(brighter)
  evidence = {'sharpness': 1.0}
  score = reliability.Reliability(('sharpness',), (0.0,), (1.0,), (0.0, 0.0), (0.0,), (0.7,), 50)
  known = stored.Stored(conformal.Calibration(2.0, 0.1, 0.1, 50), score)
  assert score(evidence) == 0.7
  path = tmp_path / 'known.safetensors'
  own = {name: manifest[name] for name in ('network', 'arguments')}
  weight_files.write(path, params, {**own, **known.plain()})
  data = coded(picture())
  restored(tmp_path, data, '--weights', str(path), '--uncertainty')
  with serving(tmp_path / 'server', [str(path), brighter]) as running:
    answer = running.restore(data, uncertainty='map')
    assert answer.content == (tmp_path / 'out.png.uncertainty.png').read_bytes()
    answer = running.restore(data, uncertainty='reliability')
    assert answer.headers['x-deblur-reliability'] == '0.7'
    assert answer.content == (tmp_path / 'out.png').read_bytes()
    for sent, text in (
      ({'weights': 'brighter'}, 'brighter is not calibrated'),
      ({'strength': 0.5}, 'plain results'),
      ({'uncertainty': 'x'}, 'must be reliability or map'),
    ):
      answer = running.restore(data, **{'uncertainty': 'map', **sent})
      assert answer.status_code == 400 and text in answer.json()['error']
    answer = running.restore(
      data, {'mask': ('m', coded(picture()[..., 0]), 'x/y')}, uncertainty='map'
    )
    assert answer.status_code == 400 and 'remove the mask' in answer.json()['error']


def test_a_prompt_does_what_restore_does(brighter, tmp_path):
  data = coded(picture())
  with serving(tmp_path / 'server', [brighter, 'wiener']) as running:
    for sent, options in (
      ({'prompt': 'remove the motion blur in the left half'}, ['--weights', brighter]),
      ({'prompt': 'denoise it a little', 'strength': 0.5}, ['--strength', '0.5']),
    ):
      answer = running.restore(data, **sent)
      expected = restored(tmp_path, data, '--prompt', sent['prompt'], *options)
      assert answer.status_code == 200 and answer.content == expected
    report = running.restore(data, headers={'accept': 'application/json'}, **sent).json()
    assert report['understood'] == 'noise 45%' and report['method'] == 'non_local_means'
    for sent, text in (
      ({'prompt': 'upscale it'}, "prompt: did not understand 'upscale it'"),
      ({'prompt': 'denoise', 'weights': 'brighter'}, 'brighter would not be used: no blur is'),
      ({'prompt': 'denoise', 'weights': 'wiener', 'psf': 'disk:2'}, 'remove psf'),
      ({'prompt': 'denoise', 'weights': 'wiener'}, 'wiener is a classical method'),
      ({'prompt': 'denoise', 'uncertainty': 'map'}, 'remove psf and uncertainty'),
    ):
      answer = running.restore(data, **sent)
      assert answer.status_code == 400 and text in answer.json()['error']
    assert running.restore(data, prompt='denoise ' * 80).status_code in (400, 422)


def test_masks_and_other_formats_are_those_of_restore(server, brighter, tmp_path):
  mask = np.zeros((40, 60), np.uint8)
  mask[:20] = 255
  (tmp_path / 'mask.png').write_bytes(coded(mask))
  data = coded(picture())
  answer = server.restore(data, {'mask': ('m', coded(mask), 'x/y')}, format='webp')
  options = ['--weights', brighter, '--mask', str(tmp_path / 'mask.png')]
  assert answer.content == restored(tmp_path, data, *options, out='.webp')
  found = server.restore(data, {'mask': ('m', coded(mask), 'x/y')}, format='tif').content
  expected = np.where(mask[..., None] > 0, np.rint(picture() + 63.75), picture())
  np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(found))), expected)


def test_reports_headers_and_models(server):
  answer = server.restore(coded(picture(seed=1)), headers={'accept': 'application/json'})
  report = answer.json()
  assert (report['height'], report['width'], report['tiles']) == (40, 60, 1)
  assert any(note.startswith('color shift: red +25.') for note in report['notes'])
  assert report['method'] == 'brighter' and 'source' not in report
  answer = server.restore(coded(picture(seed=1)))
  assert (
    answer.headers['x-deblur-cache'] == 'hit' and answer.headers['x-deblur-method'] == 'brighter'
  )
  assert json.loads(answer.headers['x-deblur-notes']) == report['notes']
  assert report['bytes'] == len(answer.content)
  models = server.client.get('/v1/models').json()
  assert [one['name'] for one in models['models']] == ['brighter', 'wiener', 'polyblur']
  assert [one['psf'] for one in models['models']] == ['none', 'required', 'none']
  assert '/tmp' not in json.dumps(models)


def test_without_a_diagnosis_the_picture_is_the_same(server):
  data = coded(picture(seed=4))
  quick = server.restore(data, diagnose='false')
  assert 'x-deblur-blur' not in quick.headers and quick.headers['x-deblur-method'] == 'brighter'
  full = server.restore(data)
  assert full.headers['x-deblur-cache'] == 'miss' and 'x-deblur-blur' in full.headers
  assert quick.content == full.content
  headers = {'accept': 'application/json'}
  report = server.restore(data, headers=headers, diagnose='false').json()
  assert 'diagnosis' not in report and report['notes'] == []


def test_openapi_describes_each_route_with_examples(server):
  described = server.client.get('/openapi.json').json()
  answers = described['paths']['/v1/restore']['post']['responses']
  assert {'200', '304', '401', '408', '413', '415', '422', '429', '503', '504'} <= answers.keys()
  for status, one in answers.items():
    if status not in ('200', '304'):
      assert one['content']['application/json']['example']['error']


@pytest.mark.parametrize('name', ['/healthz', '/readyz', '/metrics', '/', '/openapi.json'])
def test_every_answer_has_security_headers(server, name):
  headers = server.client.get(name).headers
  assert "default-src 'none'" in headers['content-security-policy']
  assert headers['x-content-type-options'] == 'nosniff'
  assert headers['referrer-policy'] == 'no-referrer'
  assert 'server' not in headers and 'access-control-allow-origin' not in headers


def test_a_second_request_is_answered_from_the_cache_or_with_304(server):
  data = coded(picture(seed=2))
  first = server.restore(data)
  tag = first.headers['etag']
  again = server.restore(data)
  assert (first.headers['x-deblur-cache'], again.headers['x-deblur-cache']) == ('miss', 'hit')
  assert again.content == first.content and again.headers['etag'] == tag
  same = server.restore(data, headers={'if-none-match': f'"other", W/{tag}'})
  assert (same.status_code, same.content, same.headers['etag']) == (304, b'', tag)
  assert server.restore(data, strength=0.5).headers['etag'] != tag
  report = server.restore(data, headers={'accept': 'application/json', 'if-none-match': tag})
  assert report.status_code == 200


def counted(monkeypatch, wait=None):
  """Counts the pictures that are restored; each waits for the event first."""
  calls = []
  original = photo_restore.restore_file

  def restore_file(job, *arguments):
    calls.append(job)
    if wait:
      assert wait.wait(600)
    return original(job, *arguments)

  monkeypatch.setattr(photo_restore, 'restore_file', restore_file)
  return calls


def together(count, call):
  with concurrent.futures.ThreadPoolExecutor(count) as pool:
    return [one.result() for one in [pool.submit(call, i) for i in range(count)]]


def test_equal_requests_at_once_are_computed_once(server, monkeypatch):
  go = threading.Event()
  calls = counted(monkeypatch, go)
  data = coded(picture(seed=3))
  timer = threading.Timer(0.5, go.set)
  timer.start()
  answers = together(50, lambda _: server.restore(data))
  assert {one.status_code for one in answers} == {200}
  assert len({one.content for one in answers}) == 1
  assert len(calls) == 1
  assert not list((server.service.database.folder / 'uploads').iterdir())


def test_different_requests_at_once_get_their_own_answers(server):
  def check(i):
    answer = server.restore(coded(picture(seed=10 + i)))
    image = np.asarray(PIL.Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal(image, np.rint(picture(seed=10 + i) + 63.75))

  together(12, check)


def test_a_restart_keeps_results_and_a_folder_has_one_owner(brighter, tmp_path, monkeypatch):
  data = coded(picture())
  with serving(tmp_path, [brighter]) as running:
    first = running.restore(data).content
    with pytest.raises(ValueError, match='is used by another server'):
      restorers = Restorers([brighter])
      Service(restorers, tmp_path, Limits(), device.Device(restorers))
  (tmp_path / 'results' / 'half').write_bytes(b'written when the process was killed')
  with serving(tmp_path, [brighter]) as running:
    calls = counted(monkeypatch)
    answer = running.restore(data)
    assert answer.content == first and answer.headers['x-deblur-cache'] == 'hit' and not calls
    assert not (tmp_path / 'results' / 'half').exists()


def test_results_are_bounded_and_the_oldest_go_first(brighter, tmp_path):
  data = [coded(np.random.default_rng(i).integers(0, 180, (64, 64, 3), np.uint8)) for i in range(3)]
  limits = Limits(cache_megabytes=2.5 * len(data[0]) / 1e6)
  with serving(tmp_path, [brighter], limits) as running:
    for one in (data[0], data[1], data[0], data[2]):
      assert running.restore(one).status_code == 200
    found = [running.restore(one).headers['x-deblur-cache'] for one in (data[0], data[2], data[1])]
    assert found == ['hit', 'hit', 'miss']
    files = list((tmp_path / 'results').iterdir())
    assert len(files) == 2


def test_a_full_queue_is_503_and_a_late_answer_504(brighter, tmp_path, monkeypatch):
  with serving(tmp_path, [brighter], Limits(queue=2, seconds=1.5)) as running:
    go = threading.Event()
    calls = counted(monkeypatch, go)
    answers = together(5, lambda i: running.restore(coded(picture(seed=i))))
    status = sorted(one.status_code for one in answers)
    assert status == [503, 503, 504, 504, 504]
    for one in answers:
      assert list(one.json()) == ['error'] and (
        one.status_code == 504 or one.headers['retry-after']
      )
    go.set()
    # Those that waited were taken from the queue: only the first was computed.
    assert running.restore(coded(picture(seed=9))).status_code == 200
    assert len(calls) == 2


def test_a_client_that_leaves_cancels_its_request(brighter, tmp_path, monkeypatch):
  with serving(tmp_path, [brighter], Limits(queue=1)) as running:
    go = threading.Event()
    calls = counted(monkeypatch, go)
    for seed in range(2):
      connection = http.client.HTTPConnection('127.0.0.1', running.port)
      body = httpx.Request('POST', running.url, files={'image': coded(picture(seed=seed))})
      connection.request('POST', '/v1/restore', body.read(), dict(body.headers))
      while sum(running.service.worker.waiting()) + len(calls) < seed + 1:
        time.sleep(0.01)
      connection.sock.shutdown(socket.SHUT_RDWR)
      connection.close()
      while sum(running.service.worker.waiting()):
        time.sleep(0.01)
    go.set()
    assert running.restore(coded(picture(seed=5))).status_code == 200
    assert len(calls) == 2  # the second client left while it waited
    assert len(list((tmp_path / 'results').iterdir())) == 1  # the first while it was computed


def test_a_stop_answers_what_was_accepted(brighter, tmp_path, monkeypatch):
  running = Running(tmp_path, [brighter], Limits(), None)
  go = threading.Event()
  counted(monkeypatch, go)
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    answers = [pool.submit(running.restore, coded(picture(seed=i))) for i in range(3)]
    while running.service.worker.waiting()[0] < 2:
      time.sleep(0.01)
    running.server.handle_exit(15, None)
    time.sleep(0.3)
    with pytest.raises(httpx.ConnectError):
      httpx.get(running.url + '/healthz')
    go.set()
    assert [one.result().status_code for one in answers] == [200, 200, 200]
  running.stop()


def test_a_doubtful_psf_gets_the_default_weights_loaded_once(brighter, monkeypatch):
  monkeypatch.setattr(methods, 'DEFAULT', 'mobile')
  restorers = Restorers([brighter, 'polyblur', 'wiener'])
  first = restorers.get(Settings('polyblur', strength=0.5)).fallback()
  second = restorers.get(Settings('wiener', psf='auto')).fallback()
  assert (first.strength, second.strength) == (0.25, 0.5)
  assert first.method is second.method and first.method.name == 'mobile'


def test_names_of_methods_show_no_folders(brighter, tmp_path):
  assert Restorers([brighter, 'mobile']).names == ['brighter', 'mobile']
  with pytest.raises(ValueError, match='two methods are called brighter'):
    Restorers([brighter, brighter])
  with pytest.raises(FileNotFoundError, match='no such weights'):
    Restorers(['nothing'])


def test_a_missing_package_is_one_line(capsys, monkeypatch):
  found = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda name: None if name == 'fastapi' else found(name)
  )
  assert cli.main(['serve']) == 2
  line = "deblur-jax: no fastapi: serve requires pip install 'deblur-jax[serve]'\n"
  assert capsys.readouterr().err == line


def test_new_keys_are_printed_with_their_hash(capsys):
  assert cli.main(['serve', '--new-key', 'alice']) == 0
  key, *_, owner, entry = capsys.readouterr().out.splitlines()
  digest = hashlib.sha256(key.encode()).hexdigest()
  assert (owner, entry) == ('[alice]', f"sha256 = '{digest}'")
  assert cli.main(['serve', '--new-key', 'a]b']) == 2


@pytest.mark.parametrize(
  'arguments,message',
  [
    (['--weights', 'nothing'], 'no such weights'),
    (['--keys', 'none.toml'], 'none.toml'),
    (['--weights', 'mobile,mobile'], 'two methods are called mobile'),
  ],
)
def test_wrong_use_of_the_command_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
  monkeypatch.chdir(tmp_path)
  assert cli.main(['serve', '--data', 'data', *arguments]) == 2
  err = capsys.readouterr().err
  assert message in err and err.count('\n') == 1
