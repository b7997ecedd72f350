"""Asks a running server many things at once, compares every answer with `deblur-jax restore`.

  deblur-jax serve --weights mobile &
  python tools/load_test.py --pid $! --clients 8 --requests 4 --sizes 256x256 --weights mobile
  python tools/load_test.py --pid $! --clients 32 --seconds 600 --sizes 256x256,384x512,512x512

Each client sends pictures that nobody else sends, so nothing comes from the cache, one after the
other and of all sizes in turn; a busy server (503) is asked again. Then the same pictures are
restored here, one by one, and the digests of all answers are compared. Prints the latency by size,
the throughput and its ratio to one by one, and with `--pid` the memory of the server; the exit code
is 1 if an answer is not the answer to its question.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import hashlib
import io
import itertools
import pathlib
import tempfile
import threading
import time
from typing import NamedTuple

import httpx
import numpy as np
import PIL.Image
from skimage import data

from deblur_jax import sharding
from deblur_jax.cli import values
from deblur_jax.photos import history, jobs, restore
from deblur_jax.photos.restorer import load

SAMPLE_SECONDS = 1.0
"""How often the memory of the server is read."""

BATCH = 100
"""Pictures that are on disk at once while they are restored here."""


class Answer(NamedTuple):
  """The answer for a picture, and how long it took."""

  number: int
  size: tuple[int, int]
  seconds: float
  digest: str
  busy: int
  """How often the server was busy before."""


def picture(number: int, height: int, width: int) -> bytes:
  """A PNG that differs for each number: part of a photograph, with noise."""
  rng = np.random.default_rng(number)
  image = np.pad(data.astronaut(), ((0, height), (0, width), (0, 0)), 'symmetric')
  top, left = rng.integers(0, 512, 2)
  noisy = image[top : top + height, left : left + width] + rng.normal(0, 2, (height, width, 3))
  file = io.BytesIO()
  PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, 'png', compress_level=1)
  return file.getvalue()


def ask(client: httpx.Client, number: int, size: tuple[int, int], weights: str) -> Answer:
  """The answer for a picture, however often the server is busy."""
  image = picture(number, *size)
  begin, busy = time.perf_counter(), 0
  while True:
    answer = client.post('/v1/restore', files={'image': image}, data={'weights': weights})
    if answer.status_code != 503:
      break
    busy += 1
    time.sleep(1)
  answer.raise_for_status()
  seconds = time.perf_counter() - begin
  return Answer(number, size, seconds, hashlib.sha256(answer.content).hexdigest(), busy)


def expected(answers: list[Answer], weights: str) -> tuple[list[str], float]:
  """(digests of what `restore` writes, seconds), without the time to load and compile."""
  sharding.keep_compiled()
  restorer, made = load(weights), history.made(weights, {})
  for size in {answer.size for answer in answers}:
    restored([Answer(0, size, 0, '', 0)], restorer, made)
  digests, seconds = [], 0.0
  for start in range(0, len(answers), BATCH):
    found, took = restored(answers[start : start + BATCH], restorer, made)
    digests, seconds = digests + found, seconds + took
  return digests, seconds


def restored(answers: list[Answer], restorer, made) -> tuple[list[str], float]:
  """(digests of what `restore` writes, seconds)."""
  with tempfile.TemporaryDirectory() as folder:
    todo = []
    for i, answer in enumerate(answers):
      path = pathlib.Path(folder, f'{i}.png')
      path.write_bytes(picture(answer.number, *answer.size))
      todo.append(jobs.Job(path, pathlib.Path(folder, 'out', f'{i}.png')))
    begin = time.perf_counter()
    restore.restore_files(todo, restorer, restore.Options(made=made))
    seconds = time.perf_counter() - begin
    return [hashlib.sha256(job.target.read_bytes()).hexdigest() for job in todo], seconds


@contextlib.contextmanager
def memory_of(pid: int | None):
  """A list that gets (seconds, MB) of a process's resident memory until the context ends."""
  samples: list[tuple[float, float]] = []
  ended, begin = threading.Event(), time.monotonic()

  def sample() -> None:
    while not ended.wait(SAMPLE_SECONDS):
      status = pathlib.Path(f'/proc/{pid}/status').read_text()
      kilobytes = int(status.partition('VmRSS:')[2].split()[0])
      samples.append((time.monotonic() - begin, kilobytes / 1e3))

  thread = threading.Thread(target=sample)
  if pid:
    thread.start()
  try:
    yield samples
  finally:
    ended.set()
    if pid:
      thread.join()


def load_server(arguments: argparse.Namespace) -> tuple[list[Answer], float, list]:
  """(the answers, seconds, samples of the memory)."""
  ends = [float('inf')]

  def client(number: int) -> list[Answer]:
    with httpx.Client(base_url=arguments.url, timeout=600) as session:
      found = []
      for i in itertools.count():
        if time.perf_counter() > ends[0] or i == arguments.requests:
          return found
        own = arguments.first + number + arguments.clients * i
        size = arguments.sizes[(number + i) % len(arguments.sizes)]
        found.append(ask(session, own, size, arguments.weights))

  with httpx.Client(base_url=arguments.url, timeout=600) as session:
    for size in arguments.sizes:  # compiles
      ask(session, 2**31 - 1 - arguments.first, size, arguments.weights)
  with memory_of(arguments.pid) as samples:
    begin = time.perf_counter()
    if arguments.seconds:
      ends[0] = begin + arguments.seconds
    with concurrent.futures.ThreadPoolExecutor(arguments.clients) as pool:
      answers = [one for own in pool.map(client, range(arguments.clients)) for one in own]
    seconds = time.perf_counter() - begin
  return answers, seconds, samples


def parsed() -> argparse.Namespace:
  """The arguments."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
  parser.add_argument('--url', default='http://127.0.0.1:8000')
  parser.add_argument('--clients', type=int, default=8)
  parser.add_argument('--requests', type=int, help='of each client (4, or as many as possible)')
  parser.add_argument('--seconds', type=float, help='how long new requests are sent')
  parser.add_argument(
    '--sizes',
    type=lambda text: [values.size(one) for one in text.split(',')],
    default=[(256, 256)],
    help='heights and widths, separated by commas (256x256)',
  )
  parser.add_argument('--weights', default='mobile')
  parser.add_argument('--pid', type=int, help='process of the server, to measure its memory')
  parser.add_argument('--first', type=int, default=0, help='number of the first picture')
  arguments = parser.parse_args()
  arguments.requests = arguments.requests or (None if arguments.seconds else 4)
  return arguments


def main() -> int:
  """Runs the test; returns the exit code."""
  arguments = parsed()
  answers, seconds, samples = load_server(arguments)
  digests, alone = expected(answers, arguments.weights)
  wrong = sum(one.digest != digest for one, digest in zip(answers, digests, strict=True))
  count, busy = len(answers), sum(answer.busy for answer in answers)
  print(f'{count} pictures from {arguments.clients} clients in {seconds:.0f} s, {wrong} wrong')
  by_size = collections.defaultdict(list)
  for answer in answers:
    by_size[answer.size].append(answer.seconds)
  for (height, width), times in sorted(by_size.items()):
    p50, p99 = np.quantile(times, [0.5, 0.99])
    print(f'{height}x{width}: {len(times)}, latency p50 {p50:.2f} s, p99 {p99:.2f} s')
  print(f'{count / seconds:.2f} pictures per second; {busy} times busy')
  print(f'one by one, without a server: {count / alone:.2f} per second')
  print(f'the server takes {seconds / alone:.2f} times as long')
  if samples:
    for when, megabytes in samples[:: max(1, len(samples) // 10)]:
      print(f'memory of the server after {when:.0f} s: {megabytes:.0f} MB')
    print(f'at most {max(megabytes for _, megabytes in samples):.0f} MB')
  return 1 if wrong else 0


if __name__ == '__main__':
  try:
    raise SystemExit(main())
  except httpx.ConnectError as error:
    raise SystemExit(f'no server at {error.request.url}: start deblur-jax serve first') from None
