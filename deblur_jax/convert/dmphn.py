"""DMPHN from github.com/HongguangZhang/DMPHN-cvpr19-master.

The parts are published as separate files; to convert, combine them into one state dict with the
name of the file as a prefix, as in encoder_lv1.layer1.weight.
"""

LICENSE = 'none stated'
SIGNATURE = ('encoder_lv1.layer1.weight', 'decoder_lv1.layer24.weight')
TRANSPOSED = r'decoder_lv\d\.layer(16|20)'


def arguments(shapes):
  """The constructor arguments, from the shapes of the tensors."""
  width, channels = shapes['encoder_lv1.layer1.weight'][:2]
  levels = {name.partition('.')[0] for name in shapes if name.startswith('encoder_lv')}
  return {'levels': len(levels), 'width': width, 'channels': channels}
