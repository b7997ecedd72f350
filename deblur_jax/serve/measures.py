"""Counters and times of a server for Prometheus, at `/metrics`."""

from collections.abc import Iterator
import contextlib
from typing import TYPE_CHECKING

import prometheus_client

if TYPE_CHECKING:
  from deblur_jax.serve.service import Service

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Measures:
  """What `/metrics` shows; nothing about a client or a picture except its size."""

  def __init__(self, service: 'Service'):
    self.registry = prometheus_client.CollectorRegistry()
    self._requests = prometheus_client.Counter(
      'deblur_requests', 'Answered requests', ['route', 'status'], registry=self.registry
    )
    self._seconds = prometheus_client.Histogram(
      'deblur_request_seconds',
      'From the first byte of a request to the last of its answer',
      ['route'],
      buckets=SECONDS,
      registry=self.registry,
    )
    self._computing = prometheus_client.Histogram(
      'deblur_restore_seconds',
      'Reading, restoring and writing one picture',
      ['weights'],
      buckets=SECONDS,
      registry=self.registry,
    )
    self._pixels = prometheus_client.Counter(
      'deblur_restored_pixels', 'Pixels restored', ['weights'], registry=self.registry
    )
    self._cache = prometheus_client.Counter(
      'deblur_results',
      'Where results came from: computed, cached, or shared',
      ['from'],
      registry=self.registry,
    )
    queue = prometheus_client.Gauge('deblur_queue', 'What waits', ['what'], registry=self.registry)
    queue.labels('requests').set_function(lambda: service.worker.waiting()[0])
    queue.labels('jobs').set_function(lambda: service.worker.waiting()[1])
    size = prometheus_client.Gauge(
      'deblur_results_bytes', 'Results on disk', registry=self.registry
    )
    size.set_function(lambda: service.results.bytes())

  def text(self) -> bytes:
    """All measures in the text format of Prometheus."""
    return prometheus_client.generate_latest(self.registry)

  def answered(self, route: str, status: int, seconds: float) -> None:
    """Counts a request."""
    self._requests.labels(route, str(status)).inc()
    self._seconds.labels(route).observe(seconds)

  def cached(self) -> None:
    """Counts a result from the cache."""
    self._cache.labels('cached').inc()

  def joined(self, shared: bool) -> None:
    """Counts a result that will be computed, or is `shared` with an equal request."""
    self._cache.labels('shared' if shared else 'computed').inc()

  @contextlib.contextmanager
  def computing(self, weights: str, size: tuple[int, int]) -> Iterator[None]:
    """Measures the restoration of a picture of `size` (height, width)."""
    with self._computing.labels(weights).time():
      yield
    self._pixels.labels(weights).inc(size[0] * size[1])
