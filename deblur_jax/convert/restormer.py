"""Restormer from github.com/swz30/Restormer."""

import re

LICENSE = 'academic public license, non-commercial'
SIGNATURE = (
  'patch_embed.proj.weight',
  'encoder_level1.0.attn.temperature',
  'latent.0.ffn.project_in.weight',
  'output.weight',
)
RULES = (
  (r'^patch_embed\.proj\.', 'patch_embed.'),
  (r'\.(norm\d)\.body\.', r'.\1.'),
  (r'^((?:up|down)\d_\d)\.body\.0\.', r'\1.'),
)


def arguments(shapes):
  """The constructor arguments, from the shapes of the tensors."""

  def count(pattern):
    found = [re.match(pattern, name) for name in shapes]
    return 1 + max((int(match[1]) for match in found if match), default=-1)

  levels = [f'encoder_level{i}' for i in range(1, count(r'encoder_level(\d+)\.'))] + ['latent']
  outward = [shapes[f'{level}.0.ffn.project_out.weight'][:2] for level in levels]
  # The authors' factor first; others can give the same number of hidden channels.
  factors = (2.66, *(n / 100 for n in range(100, 1001)), outward[-1][1] / outward[-1][0])
  fits = (f for f in factors if all(int(c * f) == hidden for c, hidden in outward))
  return {
    'dim': shapes['patch_embed.proj.weight'][0],
    'num_blocks': tuple(count(rf'{level}\.(\d+)\.') for level in levels),
    'num_refinement_blocks': count(r'refinement\.(\d+)\.'),
    'heads': tuple(shapes[f'{level}.0.attn.temperature'][0] for level in levels),
    'ffn_expansion_factor': next(fits, factors[-1]),
    'channels': shapes['patch_embed.proj.weight'][1],
  }
