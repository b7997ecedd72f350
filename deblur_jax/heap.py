"""How the C library manages memory."""

import contextlib
import ctypes

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def share() -> None:
  """Lets all threads share one heap, if the C library is glibc; call it before they start.

  Otherwise every thread that compiles keeps what it freed to itself: 0.4 GB of the peak of MAXIM,
  at the same speed (docs/speed.md).
  """
  with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL('libc.so.6').mallopt(_ARENA_MAX, 1)
