import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.gate_rule import (
    Driver,
    StartRule,
    TakeoverConfig,
    TakeoverRule,
    disagreement,
    driver_of,
)
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import ControlMode, Source

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
DT = 0.02
CONFIG = TakeoverConfig()
FAR, NEAR = 2 * CONFIG.engage_distance, 0.5 * CONFIG.release_distance


class Loop:
    """A robot on which every request is granted at the next observation."""

    def __init__(self, config=CONFIG, granted=True):
        self.rule, self.now, self.driver = TakeoverRule(config), 0.0, Driver.POLICY
        self.granted, self.log = granted, []

    def run(self, seconds, distance, stage=0):
        """Go on for so long; what was requested, as (time, request)."""
        start = len(self.log)
        for _ in range(round(seconds / DT)):
            verdict = self.rule.update(self.now, self.driver, distance, stage)
            if verdict.request:
                assert verdict.reason
                self.log.append((self.now, verdict.request, verdict.reason))
                if self.granted:
                    engaged = verdict.request == 'engage'
                    self.driver = Driver.EXPERT if engaged else Driver.POLICY
            self.now += DT
        return [entry[1] for entry in self.log[start:]]


def test_a_policy_that_agrees_and_makes_progress_is_left_alone():
    loop = Loop()
    for stage in range(5):
        assert loop.run(0.9 * CONFIG.stall_time, NEAR, stage) == []


@pytest.mark.parametrize('rule', [TakeoverRule(CONFIG), StartRule()])
def test_it_comes_when_it_is_called(rule):
    rule.update(0.0, Driver.EXPERT, NEAR, 0)  # StartRule: it has driven once
    assert not rule.update(1.0, Driver.NOBODY, NEAR, 0).request
    verdict = rule.update(1.02, Driver.NOBODY, NEAR, 0, 'risk 0.8 over 0.5')
    assert verdict.request == 'engage'
    assert verdict.reason == 'called for help: risk 0.8 over 0.5'
    assert not rule.update(1.04, Driver.NOBODY, NEAR, 0, 'risk').request, 'patience'
    assert rule.update(1.04 + CONFIG.patience, Driver.NOBODY, NEAR, 0, 'risk').request


def test_it_gives_back_after_helping():
    loop = Loop()
    loop.rule.update(0.0, Driver.NOBODY, NEAR, 0, 'risk')
    loop.now, loop.driver = DT, Driver.EXPERT
    assert loop.run(2 * CONFIG.min_correction, NEAR) == ['release']


def test_disagreement_must_last_before_it_counts():
    loop = Loop()
    loop.run(1.0, NEAR)
    assert loop.run(0.2 * CONFIG.window, FAR) == []
    assert loop.run(1.0, NEAR) == []
    assert loop.run(CONFIG.window, FAR) == ['engage']
    assert 'disagree' in loop.log[-1][2]


def test_a_correction_ends_when_the_two_agree_but_not_at_once():
    loop = Loop()
    loop.run(0.5, FAR)
    assert loop.driver is Driver.EXPERT
    assert loop.run(2.0, NEAR) == ['release']
    (engaged, _, _), (released, _, why) = loop.log
    assert released - engaged >= CONFIG.min_correction
    assert 'agree again' in why


def test_between_the_thresholds_nothing_changes():
    """Hysteresis: what is too little to engage is too much to release."""
    between = 0.5 * (CONFIG.engage_distance + CONFIG.release_distance)
    loop = Loop()
    assert loop.run(0.9 * CONFIG.stall_time, between) == []
    loop.run(0.5, FAR, stage=1)
    assert loop.driver is Driver.EXPERT
    assert loop.run(0.9 * CONFIG.max_correction, between, stage=1) == []


def test_a_stall_is_corrected_until_the_task_goes_on():
    loop = Loop()
    assert loop.run(CONFIG.stall_time + 0.1, NEAR) == ['engage']
    assert 'no progress' in loop.log[-1][2] and 'stage 0' in loop.log[-1][2]
    assert loop.run(0.5 * CONFIG.max_correction, NEAR) == []  # agreement alone is no help
    assert loop.run(0.1, NEAR, stage=1) == ['release']
    assert 'stage 1' in loop.log[-1][2]


def test_no_correction_lasts_longer_than_allowed():
    loop = Loop()
    loop.run(0.5, FAR)
    assert loop.run(CONFIG.max_correction + 0.1, FAR)[0] == 'release'
    assert 'the most allowed' in loop.log[1][2]


def test_a_request_that_changes_nothing_is_repeated_slowly():
    loop = Loop(granted=False)
    requests = loop.run(3.0, FAR)
    assert set(requests) == {'engage'}
    assert len(requests) == pytest.approx((3.0 - CONFIG.window) / CONFIG.patience, abs=1)


def test_without_a_policy_or_with_a_person_driving_nothing_is_asked():
    for driver in (Driver.NOBODY, Driver.OPERATOR):
        loop = Loop()
        loop.driver = driver
        assert loop.run(20.0, FAR) == []


def test_a_silent_policy_is_no_disagreement():
    loop = Loop()
    assert loop.run(0.9 * CONFIG.stall_time, None) == []


def test_reset_forgets_the_last_episode():
    loop = Loop()
    loop.run(0.9 * CONFIG.stall_time, NEAR, stage=3)
    loop.rule.reset()
    assert loop.run(0.9 * CONFIG.stall_time, NEAR, stage=0) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 0.2) | st.none(), st.integers(0, 4)),
                min_size=1, max_size=40))
def test_requests_alternate_and_never_come_thick_and_fast(pieces):
    """Whatever happens: engage and release in turns, each correction within its limits."""
    loop = Loop()
    for distance, stage in pieces:
        loop.run(0.5, distance, stage)
    requests = [entry[1] for entry in loop.log]
    assert requests == ['engage', 'release'] * (len(requests) // 2) + (
        ['engage'] if len(requests) % 2 else [])
    times = [entry[0] for entry in loop.log]
    for engage, release in zip(times[::2], times[1::2]):
        assert CONFIG.min_correction - 1e-6 <= release - engage <= (
            CONFIG.max_correction + 4 * DT)


@pytest.mark.parametrize('wrong', [
    {'release_distance': 0.1}, {'release_distance': 0.0}, {'min_correction': 9.0},
    {'window': 0.0}, {'stall_time': -1.0}, {'patience': 0.0},
])
def test_thresholds_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValueError, match='needs|must be'):
        TakeoverConfig(**wrong)


def test_disagreement_is_that_of_the_worse_arm_and_leaves_grippers_out():
    a = SPEC.rest
    assert disagreement(a, a, SPEC) == 0.0
    b = a.copy()
    for arm in SPEC.arms:
        b[SPEC.arm_slice(arm.name).stop - 1] += 0.05
    assert disagreement(a, b, SPEC) == 0.0
    b[SPEC.index('left_waist')] += 0.6
    expected = 0.6 / np.sqrt(len(SPEC.joints))
    assert disagreement(a, b, SPEC) == disagreement(b, a, SPEC) == pytest.approx(expected)
    b[SPEC.index('right_waist')] += 0.1
    assert disagreement(a, b, SPEC) == pytest.approx(expected)


@pytest.mark.parametrize(('mode', 'drivers', 'expected'), [
    (ControlMode.AUTONOMOUS, (Source.POLICY, Source.POLICY), Driver.POLICY),
    (ControlMode.CORRECTION, (Source.EXPERT, Source.POLICY), Driver.EXPERT),
    (ControlMode.CORRECTION, (Source.TELEOP, Source.POLICY), Driver.OPERATOR),
    (ControlMode.TELEOP, (Source.EXPERT, Source.EXPERT), Driver.OPERATOR),
    (ControlMode.HOLD, (Source.HOLD, Source.HOLD), Driver.NOBODY),
    (ControlMode.STOPPED, (Source.HOLD, Source.HOLD), Driver.NOBODY),
])
def test_who_drives(mode, drivers, expected):
    assert driver_of(mode, drivers) is expected


def test_start_rule_asks_until_somebody_drives_and_then_never_again():
    rule, nobody = StartRule(patience=0.5), Driver.NOBODY
    asked = [k * DT for k in range(100) if rule.update(k * DT, nobody, None, 0).request]
    assert asked == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert not rule.update(2.0, Driver.OPERATOR, None, 0).request
    assert not rule.update(9.0, nobody, None, 0).request
    rule.reset()
    assert rule.update(9.02, nobody, None, 0).request == 'engage'
