"""MPRNet from github.com/swz30/MPRNet."""

import re

LICENSE = 'academic public license, non-commercial'
SIGNATURE = (
  'shallow_feat1.0.weight',
  'shallow_feat1.1.CA.conv_du.0.weight',
  'stage1_encoder.down12.down.1.weight',
  'stage1_encoder.down23.down.1.weight',
  'concat23.weight',
)
RULES = (
  # Every CAB lists the PReLU that all share; an ORB's own body.1 is a convolution.
  (r'^(?!stage3_orsnet\.orb\d\.body\.1\.weight$).*\.body\.1\.weight$', 'act.negative_slope'),
  (r'\.(down|up)\.1\.', '.'),
)


def arguments(shapes):
  """The constructor arguments, from the shapes of the tensors."""
  n_feat, channels = shapes['shallow_feat1.0.weight'][:2]
  wider = shapes['stage1_encoder.down12.down.1.weight'][0]
  squeezed = {
    shape[1]: shape[0] for name, shape in shapes.items() if name.endswith('CA.conv_du.0.weight')
  }
  reductions = range(1, n_feat + 1)
  fits = [r for r in reductions if all(c // r == less for c, less in squeezed.items())]
  body = [re.fullmatch(r'stage3_orsnet\.orb1\.body\.(\d+)\.weight', name) for name in shapes]
  return {
    'n_feat': n_feat,
    'scale_unetfeats': wider - n_feat,
    'scale_orsnetfeats': shapes['concat23.weight'][0] - n_feat,
    'num_cab': max((int(match[1]) for match in body if match), default=0),
    'reduction': max(fits) if fits else n_feat // squeezed[n_feat],
    'channels': channels,
  }
