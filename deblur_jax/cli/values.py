"""What the commands' options take, for argparse; wrong values are told in one line."""

import argparse


def positive(text: str) -> int:
  """A whole number of pixels from 1 up."""
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is not a number of pixels')
  return int(text)
