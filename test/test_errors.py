import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot import errors
from il_robot.errors import IlRobotError, unknown


def test_every_error_is_one_the_command_line_prints():
    classes = [c for c in vars(errors).values() if getattr(c, '__module__', '') == errors.__name__
               and inspect.isclass(c)]
    assert len(classes) > 1
    assert all(issubclass(c, IlRobotError) for c in classes)


@given(name=st.text(), valid=st.lists(st.text(min_size=1), max_size=5))
def test_unknown_says_what_was_given_and_all_that_would_be_right(name, valid):
    text = unknown('task', name, valid)
    assert repr(name) in text
    assert text.endswith(f'Valid: {", ".join(sorted(valid)) or "none"}')


@pytest.mark.parametrize(('name', 'expected'), [
    ('lift_try', "unknown task 'lift_try' in x.yaml: did you mean 'lift_tray'? "
                 'Valid: insert_peg, lift_tray'),
    ('zzz', "unknown task 'zzz' in x.yaml: Valid: insert_peg, lift_tray"),
])
def test_unknown_suggests_only_what_is_close(name, expected):
    assert unknown('task', name, ['lift_tray', 'insert_peg'], 'x.yaml') == expected
