"""Jobs of the server: progress, results, cancelling, and a process that is killed."""

import contextlib
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import PIL.Image
import pytest
from test_serve import FRESH, Limits, coded, counted, picture, serving


@pytest.fixture(scope='module')
def server(brighter, tmp_path_factory):
  with serving(tmp_path_factory.mktemp('server'), [brighter], Limits(jobs=4)) as running:
    yield running


def start(client, image, **options):
  answer = client.post('/v1/jobs', files={'image': image}, data=options)
  assert answer.status_code == 202, answer.text
  assert answer.headers['location'] == f'/v1/jobs/{answer.json()["id"]}'
  return answer.json()['id']


def events(client, identifier):
  """(name, data) of every event until the stream ends."""
  found = []
  with client.stream('GET', f'/v1/jobs/{identifier}/events') as stream:
    assert stream.headers['content-type'].startswith('text/event-stream')
    name = ''
    for line in stream.iter_lines():
      kind, _, value = line.partition(': ')
      name = value if kind == 'event' else name
      found += [(name, json.loads(value))] if kind == 'data' else []
  return found


def finished(client, identifier):
  while (state := client.get(f'/v1/jobs/{identifier}').json())['state'] in ('queued', 'running'):
    time.sleep(0.02)
  return state


def check(data, image):
  np.testing.assert_array_equal(
    np.asarray(PIL.Image.open(io.BytesIO(data))), np.rint(image + 63.75)
  )


def test_a_job_reports_its_progress_and_its_result(server, monkeypatch):
  go = threading.Event()
  counted(monkeypatch, go)
  identifier = start(server.client, coded(picture()))
  early = server.client.get(f'/v1/jobs/{identifier}/result')
  assert (early.status_code, early.json()['error']) == (409, 'the job is not done yet')
  threading.Timer(0.5, go.set).start()
  found = events(server.client, identifier)
  assert [name for name, _ in found][-1] == 'done' and found[0][0] in ('queued', 'running')
  state = found[-1][1]
  assert state['progress'] == 1 and state['report']['height'] == 40
  answer = server.client.get(f'/v1/jobs/{identifier}/result')
  check(answer.content, picture())
  tag = {'if-none-match': answer.headers['etag']}
  assert server.client.get(f'/v1/jobs/{identifier}/result', headers=tag).status_code == 304
  # The same request without a job gets the same bytes, from the cache.
  again = server.restore(coded(picture()))
  assert again.content == answer.content and again.headers['x-deblur-cache'] == 'hit'


def test_progress_counts_tiles(brighter, tmp_path, monkeypatch):
  step = threading.Semaphore(0)
  with serving(tmp_path, [brighter]) as running:
    original = type(running.service.restorers).get

    def get(self, settings):
      import dataclasses

      restorer = dataclasses.replace(original(self, settings), tile=32)
      method = restorer.method

      def restore(images, **known):
        assert step.acquire(timeout=600)
        return method.restore(images, **known)

      return dataclasses.replace(restorer, method=method._replace(restore=restore))

    monkeypatch.setattr(type(running.service.restorers), 'get', get)
    identifier = start(running.client, coded(picture(40, 100)))
    tiles = 0
    while not tiles:
      tiles = running.client.get(f'/v1/jobs/{identifier}').json().get('tiles', 0)
    assert tiles > 4
    for done in range(1, 4):
      step.release()
      deadline = time.monotonic() + 600
      while (state := running.client.get(f'/v1/jobs/{identifier}').json())['tiles_done'] < done:
        assert time.monotonic() < deadline
      assert state['progress'] == pytest.approx(done / tiles, abs=1e-3)
    # Cancelled: no more tiles, and nothing is left.
    assert running.client.delete(f'/v1/jobs/{identifier}').status_code == 204
    step.release()
    assert running.client.get(f'/v1/jobs/{identifier}').status_code == 404
    while list((tmp_path / 'uploads').iterdir()):
      time.sleep(0.01)
    assert not list((tmp_path / 'results').iterdir())


def test_a_damaged_picture_fails_and_the_rest_goes_on(server):
  data = coded(np.random.default_rng(0).integers(0, 180, (90, 90, 3), np.uint8))
  identifier = start(server.client, data[: len(data) // 2])
  state = finished(server.client, identifier)
  assert (state['state'], state['status']) == ('failed', 422)
  assert state['error'].startswith('damaged or truncated')
  answer = server.client.get(f'/v1/jobs/{identifier}/result')
  assert (answer.status_code, answer.json()['error']) == (422, state['error'])
  check(server.restore(coded(picture(seed=7))).content, picture(seed=7))


def test_too_many_jobs_are_503_and_an_expired_result_is_410(server, monkeypatch):
  go = threading.Event()
  counted(monkeypatch, go)
  found = [start(server.client, coded(picture(seed=20 + i))) for i in range(4)]
  answer = server.client.post('/v1/jobs', files={'image': coded(picture(seed=30))})
  assert answer.status_code == 503 and answer.headers['retry-after']
  go.set()
  assert [finished(server.client, one)['state'] for one in found] == ['done'] * 4
  for path in (server.service.database.folder / 'results').iterdir():
    path.unlink()
  assert server.client.get(f'/v1/jobs/{found[0]}').json()['expired']
  assert server.client.get(f'/v1/jobs/{found[0]}/result').status_code == 410


@contextlib.contextmanager
def process(weights, folder, log):
  """A server in a process of its own, and a client; killed at the end if it still runs."""
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  command = [sys.executable, '-m', 'deblur_jax.cli', 'serve', '--weights', weights]
  command += ['--port', str(port), '--data', str(folder), '--warm-up', '16']
  with open(log, 'a') as file:
    running = subprocess.Popen(command, stdout=file, stderr=file)
  try:
    place = f'http://127.0.0.1:{port}'
    with httpx.Client(base_url=place, timeout=600, limits=FRESH) as client:
      while True:
        assert running.poll() is None, log.read_text()
        with contextlib.suppress(httpx.ConnectError):
          if client.get('/readyz').status_code == 200:
            break
        time.sleep(0.1)
      yield running, client
  finally:
    running.kill()
    running.wait()


@pytest.mark.slow
def test_killed_in_the_middle_of_20_jobs_all_end_and_none_twice(brighter, tmp_path):
  log, folder = tmp_path / 'log', tmp_path / 'data'
  images = [picture(150 + i, 200, seed=i) for i in range(20)]
  with process(brighter, folder, log) as (running, client):
    found = [start(client, ('secret name.png', coded(image))) for image in images]
    while sum(client.get(f'/v1/jobs/{one}').json()['state'] == 'done' for one in found) < 3:
      time.sleep(0.01)
    running.kill()
  with process(brighter, folder, log) as (running, client):
    assert [finished(client, one)['state'] for one in found] == ['done'] * 20
    for one, image in zip(found, images, strict=True):
      check(client.get(f'/v1/jobs/{one}/result').content, image)
    metrics = client.get('/metrics').text
    computed = float(re.search(r'deblur_restore_seconds_count\{.*\} (\S+)', metrics)[1])
    assert 1 <= computed <= 17
    assert not list((folder / 'uploads').iterdir())
    running.send_signal(signal.SIGTERM)
    assert running.wait(600) == 0
  assert 'secret' not in log.read_text() and ' 202 ' in log.read_text()


def test_a_job_that_takes_too_long_fails(brighter, tmp_path):
  with serving(tmp_path, [brighter], Limits(job_seconds=1e-6)) as running:
    state = finished(running.client, start(running.client, coded(picture())))
    assert (state['state'], state['status']) == ('failed', 504)
    assert state['error'] == 'the picture takes too long to restore'
    assert running.restore(coded(picture())).status_code == 200
