from il_robot.control.reminder import Reminder


def said(waits, after=5.0, again=30.0):
    """Seconds at which something is said, one wait a second."""
    reminder = Reminder(after, again)
    return [now for now, what in enumerate(waits) if reminder.due(float(now), what)]


def test_what_takes_a_while_is_said_and_said_again_now_and_then():
    assert said(['the arbiter'] * 70) == [5, 35, 65]


def test_what_is_over_soon_or_is_nothing_is_not_said():
    assert said((['the arbiter'] * 5 + [''] * 2) * 10) == []
    assert said([''] * 100) == []


def test_something_else_begins_anew():
    assert said(['the arbiter'] * 8 + ['a reset'] * 8) == [5, 13]
