"""Makes sure that Ctrl-C is never lost.

Python raises KeyboardInterrupt in whatever code is running. In a callback from C (libvips' log,
JAX) the exception is printed and dropped, and the program continues; so the signal is remembered,
and `check`, called between tiles, raises it again.
"""

from collections.abc import Iterator
import contextlib
import signal
import threading

_seen = threading.Event()


@contextlib.contextmanager
def remembered() -> Iterator[None]:
  """A context in which Ctrl-C raises KeyboardInterrupt at once and again at every `check`.

  Does nothing outside the main thread, the only one that receives signals.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def interrupt(*_) -> None:
    _seen.set()
    raise KeyboardInterrupt

  _seen.clear()
  before = signal.signal(signal.SIGINT, interrupt)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)
    _seen.clear()


def check() -> None:
  """Raises KeyboardInterrupt if Ctrl-C was pressed since `remembered` was entered."""
  if _seen.is_set():
    raise KeyboardInterrupt
