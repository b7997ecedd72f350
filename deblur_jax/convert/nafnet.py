"""NAFNet from github.com/megvii-research/NAFNet."""

import re

LICENSE = 'MIT'
SIGNATURE = ('intro.weight', 'ending.weight', 'middle_blks.0.sca.1.weight', 'ups.0.0.weight')
RULES = (
  (r'\.sca\.1\.', '.sca.'),
  (r'^ups\.(\d+)\.0\.', r'ups.\1.'),
)


def arguments(shapes):
  """The constructor arguments, from the shapes of the tensors."""

  def count(pattern):
    found = [re.match(pattern, name) for name in shapes]
    return 1 + max((int(match[1]) for match in found if match), default=-1)

  def blocks(part):  # A level has at least one; if none is found, its weights are missing.
    return tuple(max(count(rf'{part}\.{level}\.(\d+)\.'), 1) for level in range(levels))

  levels = count(r'downs\.(\d+)\.')
  return {
    'width': shapes['intro.weight'][0],
    'enc_blk_nums': blocks('encoders'),
    'middle_blk_num': count(r'middle_blks\.(\d+)\.'),
    'dec_blk_nums': blocks('decoders'),
    'channels': shapes['intro.weight'][1],
  }
