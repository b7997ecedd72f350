"""The server on Ray: the same answers, also if a process is killed."""

import io
import pathlib
import socket
import subprocess
import sys
import time

import httpx
import PIL.Image
import pytest
from test_ray import kill_a_worker, needs_ray, picture

from deblur_jax import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]


@needs_ray
@pytest.mark.slow
def test_ray_serve_answers_what_restore_writes_also_if_a_process_is_killed(tmp_path, brighter):
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  command = [sys.executable, str(ROOT / 'launch/ray_serve.py'), '--devices', '2']
  command += ['--weights', brighter, '--port', str(port), '--data', str(tmp_path / 'data')]
  with subprocess.Popen([*command, '--warm-up', '16']) as running:
    try:
      with httpx.Client(base_url=f'http://127.0.0.1:{port}', timeout=600) as client:
        _check_ray_serve(client, running, tmp_path, brighter)
    finally:
      running.terminate()


def _check_ray_serve(client, running, tmp_path, brighter):
  while not _is_ready(client):
    assert running.poll() is None
    time.sleep(0.5)
  coded = []
  for i in range(8):
    file = io.BytesIO()
    PIL.Image.fromarray(picture(i, 300, 400)).save(file, 'png')
    coded.append(file.getvalue())
  ids = [client.post('/v1/jobs', files={'image': one}).json()['id'] for one in coded]
  while all(client.get(f'/v1/jobs/{one}').json()['state'] == 'queued' for one in ids):
    time.sleep(0.02)
  kill_a_worker(running.pid, 'ray::ServeReplica:default:Worker')
  for one, data in zip(ids, coded, strict=True):
    while (state := client.get(f'/v1/jobs/{one}').json())['state'] in ('queued', 'running'):
      time.sleep(0.1)
    assert state['state'] == 'done', state
    source, target = tmp_path / 'in.png', tmp_path / 'out.png'
    source.write_bytes(data)
    arguments = ['restore', str(source), '-o', str(target), '--overwrite', '--weights', brighter]
    assert cli.main(arguments) == 0
    assert client.get(f'/v1/jobs/{one}/result').content == target.read_bytes()
  answer = client.post('/v1/restore', files={'image': b'GIF89a' + bytes(99)})
  assert answer.status_code == 415 and list(answer.json()) == ['error']


def _is_ready(client):
  try:
    return client.get('/readyz').status_code == 200
  except httpx.TransportError:
    return False
