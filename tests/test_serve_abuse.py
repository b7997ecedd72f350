"""What the server does with requests that are wrong, too large, too slow, or not meant well."""

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import os
import socket
import struct
import threading
import time
import zlib

import httpx
import PIL.Image
import pytest
from test_serve import Limits, coded, counted, picture, serving

from deblur_jax.cli import serve as command
from deblur_jax.photos import restore as photo_restore
from deblur_jax.serve import gate, run
from deblur_jax.serve.keys import Keys, new_key
from deblur_jax.serve.settings import RefusedError
from deblur_jax.serve.store import Database


@pytest.fixture(scope='module')
def server(brighter, tmp_path_factory):
  limits = Limits(megabytes=2, megapixels=4)
  with serving(tmp_path_factory.mktemp('server'), [brighter, 'wiener'], limits) as running:
    yield running
    assert running.restore(coded(picture(seed=99))).status_code == 200  # alive after everything
    assert not list((running.service.database.folder / 'uploads').iterdir())


def refused(answer, status, text=''):
  """Checks that an answer is an error of one sentence that shows nothing of the server."""
  assert answer.status_code == status, answer.text
  assert list(answer.json()) == ['error']
  error = answer.json()['error']
  assert text in error and '\n' not in error and len(error) < 300
  assert '/tmp' not in error and 'Traceback' not in error
  assert answer.headers['x-content-type-options'] == 'nosniff'


def chunk(name, body):
  return struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))


def png_of(width, height, *more):
  head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
  data = zlib.compress(bytes(height * (3 * width + 1)) if width * height < 1e7 else bytes(10**6))
  return b'\x89PNG\r\n\x1a\n' + head + b''.join(more) + chunk(b'IDAT', data) + chunk(b'IEND', b'')


def tiff_of(width, height, directories=1):
  """A TIFF with one compressed strip, and as many pages as asked for."""
  strip = zlib.compress(bytes(10**6), 9)
  data, place = b'II*\0' + struct.pack('<I', 8 + len(strip) % 2 + len(strip)), 8
  data += strip + bytes(len(strip) % 2)
  tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (273, place), (277, 1)]
  tags += [(278, height), (279, len(strip))]
  for i in range(directories):
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags)
    after = len(data) + 2 + len(entries) + 4
    data += struct.pack('<H', len(tags)) + entries
    data += struct.pack('<I', after if i + 1 < directories else 0)
  return data


def jpeg_of(width, height):
  data = coded(picture(), 'jpeg')
  at = data.index(b'\xff\xc0') + 5
  return data[:at] + struct.pack('>HH', height, width) + data[at + 4 :]


def webp_of(width, height):
  data = coded(picture(), 'webp', lossless=True)
  at = data.index(b'VP8L') + 9
  bits = struct.unpack('<I', data[at : at + 4])[0] & 0xF0000000
  return data[:at] + struct.pack('<I', bits | (height - 1) << 14 | (width - 1)) + data[at + 4 :]


BOMBS = {
  'png header': (png_of(30000, 30000), 413, 'the limit is '),
  'jpeg header': (jpeg_of(60000, 60000), 413, '60000x60000 pixels; the limit is'),
  'webp header': (webp_of(16383, 16383), 413, 'the limit is '),
  'tiff header': (tiff_of(60000, 60000), 413, '60000x60000 pixels; the limit is'),
  'tiff pages': (tiff_of(100, 100, 5000), 415, 'only files with one picture are supported'),
  'png beyond 32 bits': (png_of(0x7FFFFFFF, 0x7FFFFFFF), 422, 'damaged'),
  'png within all limits but ours': (png_of(2500, 2000), 413, 'the limit is 4 megapixels'),
}


@pytest.mark.parametrize('name', BOMBS)
def test_decompression_bombs_are_refused_by_their_headers(server, name):
  data, status, text = BOMBS[name]
  begin = time.monotonic()
  refused(server.restore(data), status, text)
  assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
  'kind,before,byte',
  [
    (b'zTXt', b'Comment\0\0', b'\0'),
    (b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0', b' '),
    (b'iCCP', b'icc\0\0', b'\0'),
  ],
  ids=['text', 'xmp', 'icc'],
)
def test_metadata_that_unpack_to_300_megabytes_stay_small(server, kind, before, byte):
  more = chunk(kind, before + zlib.compress(byte * 300_000_000, 9))
  answer = server.restore(png_of(60, 40, more))
  if answer.status_code != 200:
    refused(answer, 422)
  assert len(answer.content) < 20e6  # `png.MOST_TEXT`


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:1/x"/></svg>'

NOT_PICTURES = {
  'empty': (b'', 422),
  'text': (b'hello ' * 50, 415),
  'svg': (SVG, 415),
  'svg with a declaration': (b'<?xml version="1.0"?>' + SVG, 415),
  'pdf': (b'%PDF-1.7\n1 0 obj\n', 415),
  'gif': (coded(picture(), 'gif'), 415),
  'bmp': (coded(picture(), 'bmp'), 415),
  'html': (b'<html><script>alert(1)</script>', 415),
  'film': (b'\0\0\0\x18ftypisom' + bytes(100), 415),
  'zip': (b'PK\3\4' + bytes(100), 415),
  'vips': (b'\xb6\xa6\xf2\x08' + bytes(200), 415),
  'csv': (b'1,2,3\n4,5,6\n', 415),
  'pnm': (b'P6\n60000 60000\n255\n', 415),
  'cut png': (coded(picture())[:60], 422),
  'cut jpeg': (coded(picture(), 'jpeg')[:30], 422),
}


@pytest.mark.parametrize('name', NOT_PICTURES)
def test_only_supported_pictures_are_read_whatever_they_are_called(server, name):
  data, status = NOT_PICTURES[name]
  for kind in ('image/png', 'image/svg+xml'):
    refused(server.client.post('/v1/restore', files={'image': ('a.png', data, kind)}), status)


@pytest.mark.parametrize(
  'name',
  ['../../../etc/passwd', '/etc/passwd', 'a\0b.png', 'C:\\x.png', '.' * 500, 'x.svg', '\r\nX: y'],
)
def test_names_of_files_reach_no_disk(server, name):
  answer = server.client.post('/v1/restore', files={'image': (name, coded(picture()))})
  assert answer.status_code == 200
  with PIL.Image.open(__import__('io').BytesIO(answer.content)) as image:
    assert image.size == (60, 40)


OPTIONS = {
  'strength': ('2', 'nan', 'x', '-1'),
  'psf': ('/etc/passwd', 'disk:2', 'file.npy', 'auto:99999'),
  'weights': ('../../etc/passwd', 'maxim', 'wiener', '/tmp/x.safetensors'),
  'format': ('gif', '../x', 'svg', 'exe'),
  'quality': ('0', '101', '1e9', 'x'),
  'crop': ('1,2', '0,0,0,5', '50,0,40,10', 'a,b,c,d', '-1,0,5,5', '0,0,99999999999,1'),
  'strip': ('perhaps',),
}


@pytest.mark.parametrize('name,value', [(n, v) for n, values in OPTIONS.items() for v in values])
def test_wrong_options_are_400(server, name, value):
  refused(server.restore(coded(picture()), **{name: value}), 400)


def test_masks_that_do_not_fit_are_refused(server):
  mask = ('m', coded(picture(20, 20)[..., 0]), 'image/png')
  refused(server.restore(coded(picture()), {'mask': mask}), 400, 'the mask is 20x20 pixels')
  refused(server.restore(coded(picture()), {'mask': ('m', SVG, 'image/png')}), 415, 'the mask: ')


def test_bodies_that_are_no_forms_are_400(server):
  post = server.client.post
  refused(post('/v1/restore', json={'image': 'http://127.0.0.1:1/x.png'}), 400, 'image: field')
  refused(post('/v1/restore', data={'image': 'file:///etc/passwd'}), 400)
  head = {'content-type': 'multipart/form-data'}
  refused(post('/v1/restore', content=b'x', headers=head), 400)
  refused(post('/v1/restore', data={f'a{i}': 'x' for i in range(5000)}, files={'b': b''}), 400)
  refused(post('/v1/restore', data={'psf': 'x' * 1_500_000}, files={'b': b''}), 400)
  refused(post('/v1/restore', files=[('image', b'x')] * 1500), 400)


def test_unknown_places_and_methods(server):
  refused(server.client.get('/v1/nothing'), 404)
  refused(server.client.get('/../../etc/passwd'), 404)
  refused(server.client.get('/%2e%2e/%2e%2e/etc/passwd'), 404)
  refused(server.client.get('/v1/restore'), 405)
  refused(server.client.get('/v1/jobs/..%2f..%2fx'), 404)
  refused(server.client.get("/v1/jobs/' OR 1=1 --"), 404)
  assert server.client.get('/docs').status_code == 404


@pytest.mark.parametrize('site,status', [('cross-site', 403), ('same-origin', 200), ('none', 200)])
def test_pages_of_other_sites_may_not_ask(server, site, status):
  answer = server.restore(coded(picture()), headers={'sec-fetch-site': site})
  assert answer.status_code == status


@pytest.mark.parametrize(
  'host,status',
  [
    ('localhost:8000', 200),
    ('127.0.0.1', 200),
    ('192.168.0.7:8000', 200),
    ('[::1]:8000', 200),
    ('Deblur.Example:8000', 200),
    ('evil.example', 421),
    ('localhost.evil.example:8000', 421),
    ('127.0.0.1.evil.example', 421),
    ('evil.example@localhost:x', 421),
    ('[::1', 421),
    ('', 421),
  ],
)
def test_other_names_of_the_server_are_refused(server, host, status):
  """DNS rebinding: a page of evil.example lets that name point to 127.0.0.1."""
  for place in ('/', '/v1/models', '/readyz'):
    answer = server.client.get(place, headers={'host': host})
    assert answer.status_code == status, place
    if status != 200:
      refused(answer, status, 'this host name is not allowed; see --allow-host')


def test_names_are_allowed_on_the_command_line():
  parser = argparse.ArgumentParser()
  command.add(parser.add_subparsers())
  given = ['serve', '--host', 'a.example', '--allow-host', 'b.example', '--allow-host', 'c.example']
  assert command.names(parser.parse_args(given)) == ['a.example', 'b.example', 'c.example']


def closed(connection):
  """Waits until the server closes a connection, without an answer."""
  connection.settimeout(60)
  with contextlib.suppress(ConnectionResetError):
    assert connection.recv(1) == b''


def raw(server, *parts, wait=0.0):
  """Status and body of the answer to these bytes, sent one by one, after which it hangs up."""
  with socket.create_connection(('127.0.0.1', server.port)) as connection:
    for part in parts:
      connection.sendall(part)
      time.sleep(wait)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    body = answer.read()
    closed(connection)
    return answer.status, body


HEAD = (
  b'POST /v1/restore HTTP/1.1\r\nHost: localhost\r\n'
  b'Content-Type: multipart/form-data; boundary=b\r\n'
)
PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'


def test_a_gigabyte_is_refused_by_its_length_or_cut_off(server, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(gate, 'LINGER_SECONDS', 0.5)
    status, found = raw(server, HEAD + b'Content-Length: 1000000000\r\n\r\n', bytes(100_000))
  assert status == 413 and b'the limit is 2 MB' in found

  def endless():
    yield PART
    for _ in range(1000):
      yield bytes(1_000_000)

  head = {'content-type': 'multipart/form-data; boundary=b'}
  refused(server.client.post('/v1/restore', content=endless(), headers=head), 413)
  image = coded(picture(1200, 1200), 'bmp')
  refused(server.restore(image), 413, 'the limit is 2 MB')


def test_a_slow_upload_is_cut_off(brighter, tmp_path, monkeypatch):
  monkeypatch.setattr(gate, 'LINGER_SECONDS', 0.5)
  with serving(tmp_path, [brighter], Limits(upload_seconds=1)) as running:
    begin = time.monotonic()
    status, found = raw(running, HEAD + b'Content-Length: 1000\r\n\r\n', PART, b'x', wait=0.1)
    assert status == 408 and b'did not arrive within 1 s' in found
    assert time.monotonic() - begin > 1


def test_idle_connections_leave_room_for_requests(brighter, tmp_path, monkeypatch):
  with contextlib.ExitStack() as stack:
    running = stack.enter_context(serving(tmp_path, [brighter], Limits(connections=40)))
    idle = []
    for i in range(300):  # silent, or in the middle of a head
      idle.append(stack.enter_context(socket.create_connection(('127.0.0.1', running.port))))
      idle[-1].sendall(HEAD if i % 2 else b'')
    assert running.restore(coded(picture())).status_code == 200
    deadline = time.monotonic() + 60
    while len(running.server.server_state.connections) > 41:  # and the one that it was asked on
      assert time.monotonic() < deadline
      time.sleep(0.1)
    assert running.restore(coded(picture(seed=1))).status_code == 200
    # The rest are closed by their age, also if the client goes on sending.
    late = stack.enter_context(socket.create_connection(('127.0.0.1', running.port)))
    late.sendall(HEAD)
    monkeypatch.setattr(run, 'HEAD_SECONDS', 0.5)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
      for _ in range(600):
        late.sendall(b'x: y\r\n')
        time.sleep(0.1)
    for connection in idle:
      closed(connection)


def test_a_client_that_does_not_read_is_cut_off(brighter, tmp_path, monkeypatch):
  monkeypatch.setattr(run, 'STUCK_SECONDS', 0.5)
  with serving(tmp_path / 'data', [brighter]) as running:
    (tmp_path / 'big').write_bytes(bytes(50_000_000))
    report = {'notes': [], 'method': 'brighter', 'seconds': 1, 'tiles': 1}
    running.service.results.put('big', 'png', tmp_path / 'big', report)
    row = "INSERT INTO jobs VALUES ('one', '', 'done', 'big', '', '', NULL, NULL, 0, ?)"
    running.service.database.run(row, time.time())
    with socket.create_connection(('127.0.0.1', running.port)) as connection:
      connection.sendall(b'GET /v1/jobs/one/result HTTP/1.1\r\nHost: localhost\r\n\r\n')
      assert connection.recv(15) == b'HTTP/1.1 200 OK'
      deadline = time.monotonic() + 60
      while running.server.server_state.connections:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(running.client.get('/v1/jobs/one/result').content) == 50_000_000


def test_streams_of_events_are_bounded_too(brighter, tmp_path, monkeypatch):
  go = threading.Event()
  with serving(tmp_path, [brighter], Limits(connections=4)) as running:
    counted(monkeypatch, go)
    client = running.client
    job = client.post('/v1/jobs', files={'image': coded(picture())}).json()['id']
    with contextlib.ExitStack() as stack:
      for _ in range(4):
        stack.enter_context(client.stream('GET', f'/v1/jobs/{job}/events'))
      refused(client.get('/v1/models'), 503, 'busy')
      assert client.get('/healthz').status_code == 200
      go.set()


def test_a_connection_cut_in_the_middle_leaves_nothing(server):
  for _ in range(20):
    with socket.create_connection(('127.0.0.1', server.port)) as connection:
      connection.sendall(HEAD + b'Content-Length: 100000\r\n\r\n--b\r\n')
  assert server.restore(coded(picture())).status_code == 200
  deadline = time.monotonic() + 60
  while list((server.service.database.folder / 'uploads').iterdir()):
    assert time.monotonic() < deadline


@pytest.mark.slow
def test_a_thousand_requests_at_a_queue_of_16(brighter, tmp_path, monkeypatch):
  original = photo_restore.restore_file

  def slow(*arguments):
    time.sleep(0.3)
    return original(*arguments)

  monkeypatch.setattr(photo_restore, 'restore_file', slow)
  images = [coded(picture(8, 9, seed=i)) for i in range(1000)]
  # No connection is closed for being slow to send its request, which is tested above.
  with serving(tmp_path, [brighter], Limits(queue=16, seconds=600, connections=1000)) as running:

    async def all_at_once():
      limits = httpx.Limits(max_connections=None)
      async with httpx.AsyncClient(timeout=900, limits=limits) as client:
        url = f'{running.url}/v1/restore'
        calls = [client.post(url, files={'image': image}) for image in images]
        return await asyncio.gather(*calls)

    answers = asyncio.run(all_at_once())
    assert {one.status_code for one in answers} == {200, 503}
    for one in answers:
      if one.status_code == 503:
        refused(one, 503, 'busy')
        assert int(one.headers['retry-after']) > 0
    assert sum(one.status_code == 200 for one in answers) >= 16
    assert running.restore(images[0]).status_code == 200


def test_damaged_files_are_refused_or_restored_with_a_note(server, shared):
  cases = shared('cases')
  for path in sorted(cases.glob('*/*')):
    if path.suffix in ('.png', '.jpg', '.jfif', '.tif', '.avif') and path.stat().st_size < 1.9e6:
      answer = server.client.post('/v1/restore', files={'image': path.read_bytes()})
      if answer.status_code != 200:
        assert answer.status_code in (413, 415, 422), (path, answer.text)
        refused(answer, answer.status_code)


# Keys.


@pytest.fixture
def keys(tmp_path):
  """A file of two keys, and the keys."""
  found = {name: new_key(name) for name in ('alice', 'bob')}
  path = tmp_path / 'keys.toml'
  path.write_text('\n'.join(lines for _, lines in found.values()) + 'requests_per_hour = 3\n')
  assert all(key not in path.read_text() for key, _ in found.values())
  return path, {name: {'authorization': f'Bearer {key}'} for name, (key, _) in found.items()}


def test_two_tenants_share_nothing(brighter, tmp_path, monkeypatch, keys):
  path, headers = keys
  data = coded(picture())
  with serving(tmp_path / 'data', [brighter], keys=path) as running:
    calls = counted(monkeypatch)
    client = running.client
    for wrong in ({}, {'authorization': 'Bearer x'}, {'authorization': 'Basic YTpi'}):
      answer = running.restore(data, headers=wrong)
      refused(answer, 401)
      assert answer.headers['www-authenticate'] == 'Bearer'
    assert client.get('/v1/models').status_code == 401
    for open_to_all in ('/healthz', '/readyz', '/metrics', '/'):
      assert client.get(open_to_all).status_code == 200
    alice, bob = (running.restore(data, headers=headers[name]) for name in ('alice', 'bob'))
    assert alice.content == bob.content and alice.headers['etag'] != bob.headers['etag']
    assert bob.headers['x-deblur-cache'] == 'miss' and len(calls) == 2
    tag = {'if-none-match': alice.headers['etag']}
    assert running.restore(data, headers=headers['bob'] | tag).status_code == 200
    job = client.post('/v1/jobs', files={'image': data}, headers=headers['alice']).json()['id']
    for place in ('', '/result', '/events'):
      refused(client.get(f'/v1/jobs/{job}{place}', headers=headers['bob']), 404, 'no such job')
    refused(client.delete(f'/v1/jobs/{job}', headers=headers['bob']), 404)
    assert client.get(f'/v1/jobs/{job}', headers=headers['alice']).status_code == 200
    metrics = client.get('/metrics').text
    assert 'alice' not in metrics and 'bob' not in metrics
    running.restore(data, headers=headers['bob'])
    answer = running.restore(data, headers=headers['bob'])
    refused(answer, 429, 'the quota of 3 requests per hour is used up')
    assert 0 < int(answer.headers['retry-after']) <= 1200
    # A key that is removed from the file is no longer valid.
    path.write_text(new_key('carol')[1])
    os.utime(path, (1, 1))
    refused(running.restore(data, headers=headers['alice']), 401, 'this key is not valid')


def test_quotas_survive_a_restart(brighter, tmp_path, keys):
  path, headers = keys  # bob has 3 requests per hour
  data, given = coded(picture()), headers['bob']
  for i in range(2):
    with serving(tmp_path / 'data', [brighter], keys=path) as running:
      assert running.restore(data, headers=given).status_code == 200
      if i == 0:  # saved while it runs, so that it is there if the process is killed
        deadline = time.monotonic() + 60
        while not running.service.database.run('SELECT * FROM quotas WHERE available < 2.9'):
          assert time.monotonic() < deadline
          time.sleep(0.1)
  with serving(tmp_path / 'data', [brighter], keys=path) as running:
    assert running.restore(data, headers=given).status_code == 200
    refused(running.restore(data, headers=given), 429, 'the quota of 3 requests per hour')
    # Another quota, or a new key, does not fill it up.
    key, lines = new_key('bob')
    path.write_text(lines + 'requests_per_hour = 2\n')
    os.utime(path, (1, 1))
    given = {'authorization': f'Bearer {key}'}
    refused(running.restore(data, headers=given), 429, 'the quota of 2 requests per hour')


def test_a_saved_quota_refills_with_time(tmp_path, monkeypatch):
  path = tmp_path / 'keys.toml'
  key, lines = new_key('alice')
  path.write_text(lines + 'requests_per_hour = 60\n')
  database = Database(tmp_path / 'data')
  now = 1e9
  monkeypatch.setattr(time, 'time', lambda: now)

  def start():
    keys = Keys(path)
    keys.keep(database)
    return keys, keys.owner(f'Bearer {key}')

  keys, owner = start()
  owner.use('requests', 60)
  keys.save()
  now += 120  # two of 60 per hour
  keys, owner = start()
  owner.use('requests', 2)
  with pytest.raises(RefusedError, match='try again in 60 s'):
    owner.use('requests', 1)
  keys.save()
  now -= 3600  # the clock is set back
  with pytest.raises(RefusedError, match='try again in 60 s'):
    start()[1].use('requests', 1)
  database.close()


def test_quotas_of_pixels_and_files_of_keys_that_are_wrong(tmp_path):
  path = tmp_path / 'keys.toml'
  key, lines = new_key('alice')
  path.write_text(lines + 'megapixels_per_hour = 10\n')
  owner = Keys(path).owner(f'bearer {key}')
  owner.use('megapixels', 6)
  with pytest.raises(RefusedError, match=r'10 megapixels per hour is used up; try again in 72\d s'):
    owner.use('megapixels', 6)  # two of 10 per hour are missing: 720 s
  digest = hashlib.sha256(b'x').hexdigest()
  for text, message in {
    '[a': 'not a valid TOML file',
    '[a]\n': r'\[a\] needs sha256',
    f"[a]\nsha256 = '{digest}'\nper_day = 3\n": 'per_day: expected requests_per_hour or',
    f"[a]\nsha256 = '{digest}'\nrequests_per_hour = 0\n": 'above 0',
  }.items():
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
      Keys(path)
