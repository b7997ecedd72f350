"""DBGAN from github.com/HDCVLab/Deblurring-by-Realistic-Blurring, the generator G.pth."""

import re

LICENSE = 'none stated'
SIGNATURE = ('model.0.weight', 'model.1.sub1.0.RDB1.conv1.0.weight', 'model.4.weight')
RULES = (
  (r'^model\.1\.', ''),
  (r'(conv\d|sub2)\.0\.', r'\1.'),
)


def arguments(shapes):
  """The constructor arguments, from the shapes of the tensors."""
  nf, channels = shapes['model.0.weight'][:2]
  blocks = [re.match(r'model\.1\.sub1\.(\d+)\.', name) for name in shapes]
  return {
    'nf': nf,
    'nb': 1 + max(int(match[1]) for match in blocks if match),
    'gc': shapes['model.1.sub1.0.RDB1.conv1.0.weight'][0],
    'channels': channels,
  }
