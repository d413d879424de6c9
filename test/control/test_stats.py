import pytest

from il_robot.control.stats import Rate


def test_a_steady_rate_is_found_and_silence_ends_it():
    rate = Rate(window=2.0)
    assert rate.hertz(0.0) == 0.0
    for k in range(500):
        rate.tick(100.0 + 0.02 * k)
    now = 100.0 + 0.02 * 499
    assert rate.hertz(now) == pytest.approx(50.0, rel=0.02)
    assert rate.hertz(now + 1.0) == pytest.approx(25.0, rel=0.04)
    assert rate.hertz(now + 2.5) == 0.0


def test_the_start_does_not_count_as_silence():
    rate = Rate(window=2.0)
    for k in range(11):
        rate.tick(0.02 * k)
    assert rate.hertz(0.2) == pytest.approx(55.0)
