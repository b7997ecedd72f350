"""Chains of steps as text."""

import re

import pytest

from deblur_jax import spec
from deblur_jax.spec import Range


def test_a_chain_is_read_as_written():
  chain = spec.parse('shake(9..31, taps=500) or sharp | noise(0..0.02)')
  (shake, sharp), (noise,) = chain
  assert shake[:3] == ('shake', (Range(9, 31),), {'taps': 500})
  assert sharp[:3] == ('sharp', (), {})
  assert noise.args == (Range(0, 0.02),)


def test_an_empty_chain_has_no_steps():
  assert spec.parse(' ') == ()


def test_calls_are_made_with_their_arguments():
  made = spec.build('add(1, y=2) | add(3, 4)', {'add': lambda x, y: x + y})
  assert made == ((3,), (7,))


@pytest.mark.parametrize(
  'text, message',
  [
    ('shak(1)', 'did you mean shake'),
    ('shake(1, 2)', "step 'shake(1, 2)'"),
    ('shake(9..)', "'9..' is neither"),
    ('shake(9..3)', 'runs backwards'),
    ('shake(1', 'cannot read step'),
    ('shake(x=1, 2)', 'follows a named one'),
    ('shake(1) |', "cannot read step ''"),
  ],
)
def test_what_cannot_be_parsed_is_named(text, message):
  with pytest.raises(ValueError, match=re.escape(message)) as caught:
    spec.build(text, {'shake': lambda size: size})
  assert '\n' not in str(caught.value)
