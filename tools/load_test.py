"""Asks a running server many things at once, compares every answer with `deblur-jax restore`.

  deblur-jax serve --weights mobile &
  python tools/load_test.py [--clients 8] [--requests 4] [--size 256x256] [--weights mobile]

Each client sends pictures that nobody else sends, so nothing comes from the cache, one after the
other; a busy server (503) is asked again. Then the same pictures are restored here, one by one, and
the digests of all answers are compared. Prints latency, throughput, and the ratio to one by one;
the exit code is 1 if an answer is not the answer to its question.
"""

import argparse
import concurrent.futures
import hashlib
import io
import pathlib
import tempfile
import time

import httpx
import numpy as np
import PIL.Image
from skimage import data

from deblur_jax import sharding
from deblur_jax.photos import history, jobs, restore
from deblur_jax.photos.restorer import load


def picture(number: int, height: int, width: int) -> bytes:
  """A PNG that differs for each number: part of a photograph, with noise."""
  rng = np.random.default_rng(number)
  image = np.pad(data.astronaut(), ((0, height), (0, width), (0, 0)), 'symmetric')
  top, left = rng.integers(0, 512, 2)
  noisy = image[top : top + height, left : left + width] + rng.normal(0, 2, (height, width, 3))
  file = io.BytesIO()
  PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, 'png', compress_level=1)
  return file.getvalue()


def ask(client: httpx.Client, image: bytes, weights: str) -> tuple[float, str, int]:
  """(seconds, digest of the answer, how often the server was busy)."""
  begin, busy = time.perf_counter(), 0
  while True:
    answer = client.post('/v1/restore', files={'image': image}, data={'weights': weights})
    if answer.status_code != 503:
      break
    busy += 1
    time.sleep(1)
  answer.raise_for_status()
  return time.perf_counter() - begin, hashlib.sha256(answer.content).hexdigest(), busy


def expected(images: list[bytes], weights: str) -> tuple[list[str], float]:
  """(digests of what `restore` writes, seconds), without the time to load and compile."""
  with tempfile.TemporaryDirectory() as folder:
    todo = []
    for i, image in enumerate(images):
      path = pathlib.Path(folder, f'{i}.png')
      path.write_bytes(image)
      todo.append(jobs.Job(path, pathlib.Path(folder, 'out', f'{i}.png')))
    sharding.keep_compiled()
    restorer = load(weights)
    restore.restore_files(todo[:1], restorer)
    begin = time.perf_counter()
    made = history.made(weights, {})
    restore.restore_files(todo, restorer, restore.Options(overwrite=True, made=made))
    seconds = time.perf_counter() - begin
    return [hashlib.sha256(job.target.read_bytes()).hexdigest() for job in todo], seconds


def main() -> int:
  """Runs the test; returns the exit code."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
  parser.add_argument('--url', default='http://127.0.0.1:8000')
  parser.add_argument('--clients', type=int, default=8)
  parser.add_argument('--requests', type=int, default=4, help='of each client')
  parser.add_argument('--size', default='256x256', help='height and width')
  parser.add_argument('--weights', default='mobile')
  parser.add_argument('--first', type=int, default=0, help='number of the first picture')
  arguments = parser.parse_args()
  height, width = map(int, arguments.size.split('x'))
  count = arguments.clients * arguments.requests
  images = [picture(arguments.first + i, height, width) for i in range(count)]

  def client(number: int) -> list[tuple[float, str, int]]:
    with httpx.Client(base_url=arguments.url, timeout=600) as session:
      own = images[number :: arguments.clients]
      return [ask(session, image, arguments.weights) for image in own]

  with httpx.Client(base_url=arguments.url, timeout=600) as session:
    ask(
      session, picture(-1 % 2**31 - arguments.first, height, width), arguments.weights
    )  # compiles
  begin = time.perf_counter()
  with concurrent.futures.ThreadPoolExecutor(arguments.clients) as pool:
    answers = list(pool.map(client, range(arguments.clients)))
  seconds = time.perf_counter() - begin
  digests, alone = expected(images, arguments.weights)
  wrong = sum(
    answer[1] != digest
    for number, own in enumerate(answers)
    for answer, digest in zip(own, digests[number :: arguments.clients], strict=True)
  )
  times = np.array([answer[0] for own in answers for answer in own])
  busy = sum(answer[2] for own in answers for answer in own)
  print(f'{count} pictures of {arguments.size} from {arguments.clients} clients, {wrong} wrong')
  print(f'latency p50 {np.quantile(times, 0.5):.2f} s, p99 {np.quantile(times, 0.99):.2f} s')
  print(f'{count / seconds:.2f} pictures per second; {busy} times busy')
  print(f'one by one, without a server: {count / alone:.2f} per second')
  print(f'the server takes {seconds / alone:.2f} times as long')
  return 1 if wrong else 0


if __name__ == '__main__':
  try:
    raise SystemExit(main())
  except httpx.ConnectError as error:
    raise SystemExit(f'no server at {error.request.url}: start deblur-jax serve first') from None
