"""Laws of the arbiter: no jump, no stale driver, latched stop, human before policy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.arbiter import Arbiter, ArbiterConfig, Proposal
from il_robot.control.modes import REQUESTS, TRANSITIONS, Request
from il_robot.errors import ConfigError
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import ControlMode, Source

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
DT = SPEC.dt
LEFT, RIGHT = SPEC.arm_slice('left'), SPEC.arm_slice('right')


def constant(stamp: float, value: float, arms: tuple[str, ...] = ('left', 'right')) -> Proposal:
    position = np.full(SPEC.dim, np.nan, np.float32)
    for arm in arms:
        position[SPEC.arm_slice(arm)] = SPEC.rest[SPEC.arm_slice(arm)] + np.float32(value)
        position[SPEC.arm_slice(arm).stop - 1] = 0.04
    return Proposal(stamp, position)


class Bench:
    """Runs an arbiter tick by tick; the robot follows the command perfectly."""

    def __init__(self, **config: float) -> None:
        self.arbiter = Arbiter(SPEC, ArbiterConfig(**config))  # type: ignore[arg-type]
        self.now, self.state = 0.0, SPEC.rest
        self.tick({})

    def tick(self, proposals: dict[Source, Proposal], *requests: str):
        self.now += DT
        wanted = [Request.parse(r, SPEC) for r in requests]
        decision = self.arbiter.decide(self.now, self.state, proposals, wanted)
        self.state = decision.command
        return decision

    def fresh(self, source: Source, value: float, **kw) -> dict[Source, Proposal]:
        return {source: constant(self.now + DT, value, **kw)}


def test_first_command_is_where_the_robot_is():
    decision = Bench().tick({})
    np.testing.assert_array_equal(decision.command, SPEC.rest)
    assert decision.mode is ControlMode.HOLD
    assert decision.drivers == (Source.HOLD, Source.HOLD)


def test_run_without_a_policy_is_refused_with_the_reason():
    decision = Bench().tick({}, 'run')
    assert decision.mode is ControlMode.HOLD
    assert 'policy' in decision.refused[0]


def test_policy_drives_and_arrives():
    bench = Bench()
    bench.tick(bench.fresh(Source.POLICY, 0.3), 'run')
    for _ in range(60):
        decision = bench.tick(bench.fresh(Source.POLICY, 0.3))
    assert decision.mode is ControlMode.AUTONOMOUS
    assert decision.drivers == (Source.POLICY, Source.POLICY)
    np.testing.assert_allclose(
        decision.command, constant(0.0, 0.3).position, atol=1e-6)


def test_one_arm_takeover_leaves_the_other_to_the_policy():
    bench = Bench()
    both = lambda: bench.fresh(Source.POLICY, 0.2) | bench.fresh(  # noqa: E731
        Source.TELEOP, -0.2, arms=('left',))
    bench.tick(both(), 'run')
    decision = bench.tick(both(), 'engage left')
    assert decision.mode is ControlMode.CORRECTION and decision.intervention
    for _ in range(60):
        decision = bench.tick(both())
    assert decision.drivers == (Source.TELEOP, Source.POLICY)
    np.testing.assert_allclose(
        decision.command[RIGHT], constant(0, 0.2).position[RIGHT], atol=1e-6)
    np.testing.assert_allclose(
        decision.command[LEFT], constant(0, -0.2).position[LEFT], atol=1e-6)
    decision = bench.tick(both(), 'release')
    assert decision.mode is ControlMode.AUTONOMOUS and not decision.intervention


def test_releasing_one_of_two_arms_keeps_the_other_engaged():
    bench = Bench()
    every = lambda: bench.fresh(Source.POLICY, 0.1) | bench.fresh(  # noqa: E731
        Source.EXPERT, 0.0)
    bench.tick(every(), 'run')
    bench.tick(every(), 'engage')
    decision = bench.tick(every(), 'release left')
    assert decision.mode is ControlMode.CORRECTION
    assert decision.drivers == (Source.POLICY, Source.EXPERT)


def test_operator_outranks_expert():
    bench = Bench()
    proposals = bench.fresh(Source.EXPERT, 0.1) | bench.fresh(Source.TELEOP, -0.1)
    assert bench.tick(proposals, 'engage').drivers == (Source.TELEOP, Source.TELEOP)


def test_engage_without_an_operator_is_refused():
    bench = Bench()
    decision = bench.tick(bench.fresh(Source.TELEOP, 0.0, arms=('left',)), 'engage')
    assert decision.mode is ControlMode.HOLD and 'right' in decision.refused[0]


@pytest.mark.parametrize('resume', [False, True])
def test_a_silent_policy_means_hold(resume):
    bench = Bench(policy_timeout=0.1, resume=resume)
    last = bench.fresh(Source.POLICY, 0.2)
    bench.tick(last, 'run')
    for _ in range(10):
        decision = bench.tick(last)
    assert decision.mode is ControlMode.HOLD and 'policy lost' in decision.reason
    held = decision.command
    np.testing.assert_array_equal(bench.tick(last).command, held)
    decision = bench.tick(bench.fresh(Source.POLICY, 0.2))
    assert (decision.mode is ControlMode.AUTONOMOUS) == resume


def test_a_silent_operator_during_a_correction_holds_both_arms():
    bench = Bench()
    policy = lambda: bench.fresh(Source.POLICY, 0.2)  # noqa: E731
    operator = bench.fresh(Source.TELEOP, 0.0, arms=('left',))
    bench.tick(policy() | operator, 'run')
    bench.tick(policy() | operator, 'engage left')
    for _ in range(20):
        decision = bench.tick(policy() | operator)
    assert decision.mode is ControlMode.HOLD and 'operator lost' in decision.reason
    assert decision.drivers == (Source.HOLD, Source.HOLD)


def test_stop_is_latched_until_reset():
    bench = Bench()
    bench.tick(bench.fresh(Source.POLICY, 0.2), 'run')
    stopped = bench.tick(bench.fresh(Source.POLICY, 0.2), 'stop')
    for request in ('run', 'engage', 'release', 'hold'):
        decision = bench.tick(bench.fresh(Source.POLICY, 0.2), request)
        assert decision.mode is ControlMode.STOPPED and decision.refused
        np.testing.assert_array_equal(decision.command, stopped.command)
    assert bench.tick({}, 'reset').mode is ControlMode.HOLD


def test_proposals_with_nan_or_from_the_future_do_not_count():
    bench = Bench()
    nan = Proposal(bench.now + DT, np.full(SPEC.dim, np.nan, np.float32))
    assert bench.tick({Source.POLICY: nan}, 'run').refused
    assert bench.tick({Source.POLICY: constant(bench.now + 10.0, 0.1)}, 'run').refused


def test_a_teleported_robot_is_held_where_it_is():
    bench = Bench()
    bench.tick(bench.fresh(Source.POLICY, 0.2), 'run')
    bench.state = SPEC.rest + np.float32(0.5) * (SPEC.upper > 1)
    decision = bench.tick(bench.fresh(Source.POLICY, 0.2))
    assert decision.mode is ControlMode.HOLD and 'jumped' in decision.reason
    np.testing.assert_array_equal(
        decision.command, np.clip(bench.state, SPEC.lower, SPEC.upper))


@pytest.mark.parametrize('silence', [DT, 100 * DT])
def test_a_robot_that_came_back_elsewhere_is_held_there(silence):
    """However long nothing was heard: it may have reached the last command, but nothing else."""
    bench = Bench()
    for _ in range(20):
        bench.tick(bench.fresh(Source.POLICY, 0.5), 'run')
    command, bench.state = bench.arbiter.decide(
        bench.now + DT, bench.state, {}).command, bench.state - np.float32(0.5)
    bench.now += DT + silence
    decision = bench.arbiter.decide(bench.now, bench.state, {})
    assert decision.mode is ControlMode.HOLD and 'jumped' in decision.reason and decision.fault
    np.testing.assert_array_equal(
        decision.command, np.clip(bench.state, SPEC.lower, SPEC.upper))
    assert np.abs(decision.command - command).max() > 0.3


def test_states_that_jump_are_doubted_until_they_go_on():
    arbiter = Arbiter(SPEC, ArbiterConfig())
    here, there = SPEC.rest, SPEC.rest + np.float32(1.0) * (SPEC.upper > 1)
    assert not arbiter.doubts(0.0, there)  # nothing to compare it with
    arbiter.decide(0.0, here, {})
    for stamp in (0.02, 0.06):
        assert arbiter.doubts(stamp, there)
        assert not arbiter.doubts(stamp + 0.02, here)
        arbiter.decide(stamp + 0.02, here, {})
    doubted = [arbiter.doubts(0.10 + 0.02 * i, there) for i in range(11)]
    assert doubted == [True] * 10 + [False]  # for 0.2 s
    assert 'jumped' in arbiter.decide(0.30, there, {}).reason
    assert not arbiter.doubts(0.32, there)
    arbiter.decide(0.32, there, {})
    arbiter.expect_jump()
    assert not arbiter.doubts(0.34, here)
    arbiter.decide(0.34, here, {})
    assert arbiter.doubts(0.36, there)


def test_states_that_jump_to_and_fro_are_never_believed():
    """Names in another order in each second message, for example."""
    arbiter = Arbiter(SPEC, ArbiterConfig())
    arbiter.decide(0.0, SPEC.rest, {})
    ways = [np.float32(way) * (SPEC.upper > 1) for way in (1.0, -1.0)]
    assert all(arbiter.doubts(0.02 * (i + 1), SPEC.rest + ways[i % 2]) for i in range(200))


@pytest.mark.parametrize('mode', ['run', 'hold', 'stop'])
def test_arms_that_do_not_follow_hold_where_they_are(mode):
    """A robot whose connection or brakes failed must not catch up at once when it is back."""
    bench = Bench()
    bench.tick(bench.fresh(Source.POLICY, 0.5), 'run')
    for _ in range(60):
        decision = bench.tick(bench.fresh(Source.POLICY, 0.5))
    if mode != 'run':
        decision = bench.tick({}, mode)
    elbow, goal = SPEC.index('left_elbow'), decision.command
    away = goal.copy()
    count = 0
    while np.abs(decision.command - goal)[elbow] < 1e-3:
        count += 1
        bench.now += DT
        away[elbow] = max(away[elbow] - 0.04, goal[elbow] - 0.6)  # pushed, no jump
        proposals = bench.fresh(Source.POLICY, 0.5) if mode == 'run' else {}
        decision = bench.arbiter.decide(bench.now, away.copy(), proposals)
    assert 13 + 24 <= count <= 13 + 26  # 0.52 rad away after 13 steps, then half a second
    if mode == 'stop':
        assert decision.mode is ControlMode.STOPPED
    else:
        assert decision.mode is ControlMode.HOLD
        assert 'left_elbow did not follow: more than 0.5 rad' in decision.reason
    np.testing.assert_allclose(decision.command[elbow], away[elbow], atol=1e-6)


def test_a_robot_that_followed_while_nothing_was_heard_has_not_jumped():
    bench = Bench()
    for _ in range(20):
        decision = bench.tick(bench.fresh(Source.POLICY, 0.5), 'run')
    late = bench.arbiter.decide(bench.now + 1.0, decision.command, {})
    assert 'jumped' not in late.reason
    np.testing.assert_array_equal(late.command, decision.command)


@pytest.mark.parametrize('source', [Source.POLICY, Source.EXPERT])
def test_after_a_silence_of_the_robot_nobody_goes_on_by_himself(source):
    """However fresh the answers to its first word are."""
    bench = Bench()
    for _ in range(20):
        bench.tick(bench.fresh(source, 0.5), 'run' if source is Source.POLICY else 'engage')
    bench.now += 1.0
    decision = bench.tick(bench.fresh(source, 0.5))
    assert decision.mode is ControlMode.HOLD and decision.fault
    assert 'robot lost: no joint states for 1.0 s' in decision.reason
    before = decision.command
    for _ in range(5):
        np.testing.assert_array_equal(bench.tick(bench.fresh(source, 0.5)).command, before)
    request = 'run' if source is Source.POLICY else 'engage'
    assert bench.tick(bench.fresh(source, 0.5), request).mode is not ControlMode.HOLD


def test_an_unattended_policy_resumes_when_the_robot_is_back():
    bench = Bench(resume=True)
    bench.tick(bench.fresh(Source.POLICY, 0.5), 'run')
    bench.now += 1.0
    bench.tick(bench.fresh(Source.POLICY, 0.5))
    assert bench.tick(bench.fresh(Source.POLICY, 0.5)).mode is ControlMode.AUTONOMOUS


def test_only_a_loss_is_a_fault():
    bench = Bench(human_timeout=0.05)
    assert not bench.tick({}).fault
    last = bench.fresh(Source.EXPERT, 0.1)
    assert not bench.tick(last, 'engage').fault
    for _ in range(5):
        decision = bench.tick(last)
    assert decision.fault and 'from expert for the left arm' in decision.reason
    assert not bench.tick({}, 'hold').fault


def test_a_call_for_help_holds_until_somebody_comes_and_the_policy_goes_on_after():
    bench = Bench()
    every = lambda: bench.fresh(Source.POLICY, 0.1) | bench.fresh(  # noqa: E731
        Source.EXPERT, 0.0)
    bench.tick(every(), 'run')
    asked = bench.tick(every(), 'help risk 0.8 over 0.5')
    assert asked.mode is ControlMode.HOLD and not asked.fault
    assert asked.help == 'risk 0.8 over 0.5' and asked.suspended
    assert asked.reason == 'help wanted from the expert: risk 0.8 over 0.5'
    assert bench.tick(every()).help, 'until somebody comes'
    helped = bench.tick(every(), 'engage')
    assert helped.mode is ControlMode.CORRECTION and helped.intervention and not helped.help
    assert bench.tick(every(), 'release').mode is ControlMode.AUTONOMOUS


def test_who_is_called_is_who_is_there():
    for said, who in (({}, 'neither teleop nor expert is there'),
                      ({Source.TELEOP}, 'from the operator: '),
                      ({Source.TELEOP, Source.EXPERT}, 'from the operator or the expert: ')):
        bench = Bench()
        proposals = {}
        for source in (Source.POLICY, *said):
            proposals |= bench.fresh(source, 0.0)
        bench.tick(proposals, 'run')
        assert who in bench.tick(proposals, 'help it looks new').reason


@pytest.mark.parametrize('word', ['run', 'hold', 'freeze', 'stop'])
def test_whatever_is_granted_answers_a_call_for_help(word):
    bench = Bench()
    bench.tick(bench.fresh(Source.POLICY, 0.1), 'run')
    bench.tick(bench.fresh(Source.POLICY, 0.1), 'help')
    decision = bench.tick(bench.fresh(Source.POLICY, 0.1), word)
    assert not decision.help and not decision.refused
    assert decision.suspended == (word == 'freeze')


@pytest.mark.parametrize('mode', ['HOLD', 'TELEOP', 'CORRECTION', 'STOPPED'])
def test_help_is_for_a_policy_that_drives(mode):
    bench = Bench()
    every = lambda: bench.fresh(Source.POLICY, 0.1) | bench.fresh(  # noqa: E731
        Source.TELEOP, 0.0)
    for word in {'TELEOP': ['engage'], 'CORRECTION': ['run', 'engage'],
                 'STOPPED': ['stop']}.get(mode, []):
        bench.tick(every(), word)
    decision = bench.tick(every(), 'help')
    assert decision.refused == (f'help: not possible in mode {mode}',)


@pytest.mark.parametrize('first', [(), ('engage',)])
@pytest.mark.parametrize('end', ['success', 'hold', 'stop'])
def test_a_frozen_run_goes_on_unless_it_was_ended(first, end):
    bench = Bench()
    every = lambda: bench.fresh(Source.POLICY, 0.1) | bench.fresh(  # noqa: E731
        Source.TELEOP, 0.0)
    for word in ('run', *first):
        bench.tick(every(), word)
    frozen = bench.tick(every(), 'freeze')
    assert frozen.mode is ControlMode.HOLD and frozen.suspended and not frozen.fault
    assert bench.tick(every(), 'engage').mode is ControlMode.CORRECTION
    bench.tick(every(), 'freeze')
    if end == 'success':
        bench.arbiter.end_run()  # what the node does when an episode ends
    else:
        bench.tick(every(), end)
        bench.tick(every(), 'reset')
    assert bench.tick(every(), 'engage').mode is ControlMode.TELEOP


def test_without_a_policy_freezing_suspends_nothing():
    bench = Bench()
    bench.tick(bench.fresh(Source.TELEOP, 0.0), 'engage')
    assert not bench.tick(bench.fresh(Source.TELEOP, 0.0), 'freeze').suspended
    assert bench.tick(bench.fresh(Source.TELEOP, 0.0), 'engage').mode is ControlMode.TELEOP


def test_who_comes_back_after_he_was_lost_goes_on_correcting():
    """An expert that dies in a correction: HOLD, named; it is started again and takes over."""
    bench = Bench()
    policy = lambda: bench.fresh(Source.POLICY, 0.1)  # noqa: E731
    last = bench.fresh(Source.EXPERT, 0.0)
    bench.tick(policy() | last, 'run')
    bench.tick(policy() | last, 'engage')
    for _ in range(20):
        decision = bench.tick(policy() | last)
    assert decision.mode is ControlMode.HOLD and decision.fault and decision.suspended
    assert 'operator lost: no fresh proposal from expert' in decision.reason
    again = bench.tick(policy() | bench.fresh(Source.EXPERT, 0.0), 'engage')
    assert again.mode is ControlMode.CORRECTION and again.correction == 2


def test_a_correction_of_no_length_changes_nothing():
    """A button that bounces: taken over and given back within one tick, taken over twice."""
    bench = Bench()
    every = lambda: bench.fresh(Source.POLICY, 0.1) | bench.fresh(  # noqa: E731
        Source.TELEOP, 0.5)
    bench.tick(every(), 'run')
    for _ in range(40):
        bench.tick(every())
    decision = bench.tick(every(), 'engage', 'release')
    assert decision.mode is ControlMode.AUTONOMOUS and not decision.intervention
    assert not decision.refused and not decision.changing.any()
    np.testing.assert_array_equal(decision.command, bench.fresh(Source.POLICY, 0.1)[
        Source.POLICY].position)
    assert bench.tick(every(), 'release').refused == (
        'release: not possible in mode AUTONOMOUS',)
    twice = bench.tick(every(), 'engage', 'engage')
    assert twice.mode is ControlMode.CORRECTION and twice.correction == 2
    assert bench.tick(every(), 'engage').correction == 2


def test_the_last_correction_of_an_episode_can_be_discarded_once():
    bench = Bench()
    every = lambda: bench.fresh(Source.POLICY, 0.1) | bench.fresh(  # noqa: E731
        Source.EXPERT, 0.0)
    assert 'no correction' in bench.tick(every(), 'discard_correction').refused[0]
    for word in ('run', 'engage', 'release', 'engage', 'release'):
        decision = bench.tick(every(), word)
    decision = bench.tick(every(), 'discard_correction')
    assert decision.discarded == (2,) and decision.changed and not decision.refused
    assert decision.mode is ControlMode.AUTONOMOUS
    assert 'already' in bench.tick(every(), 'discard_correction').refused[0]
    bench.arbiter.end_run()
    assert 'no correction' in bench.tick(every(), 'discard_correction').refused[0]


def test_a_reason_is_for_help_alone():
    assert Request.parse('help  risk 0.8 over 0.5 ', SPEC) == Request(
        'help', reason='risk 0.8 over 0.5')
    with pytest.raises(ConfigError, match='unknown arm'):
        Request.parse('engage because', SPEC)


def test_wrong_requests_name_the_right_ones():
    with pytest.raises(ConfigError, match="did you mean 'engage'"):
        Request.parse('engag', SPEC)
    with pytest.raises(ConfigError, match='left'):
        Request.parse('engage middle', SPEC)
    with pytest.raises(ConfigError, match='all arms'):
        Request.parse('stop left', SPEC)


def test_every_mode_can_be_stopped_and_stopped_only_reset():
    for mode in ControlMode:
        assert TRANSITIONS[mode, 'stop'] is ControlMode.STOPPED
    leaving = [r for m, r in TRANSITIONS if m is ControlMode.STOPPED and r != 'stop']
    assert leaving == ['reset']


values = st.one_of(
    st.floats(-10, 10, width=32), st.sampled_from([float('nan'), float('inf'), -float('inf')]))
ticks = st.lists(
    st.tuples(
        st.sampled_from(list(Source)),
        st.lists(values, min_size=SPEC.dim, max_size=SPEC.dim),
        st.floats(-0.3, 0.3),
        st.one_of(st.none(), st.sampled_from(REQUESTS)),
        st.sampled_from([(), ('left',), ('right',)]),
        st.sampled_from([0.0, DT, 10 * DT]),
    ), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(ticks)
def test_whatever_is_proposed_the_command_keeps_the_limits(script):
    arbiter = Arbiter(SPEC, ArbiterConfig(resume=True))
    now, state = 0.0, SPEC.rest
    previous = arbiter.decide(now, state, {}).command
    arm_joints = np.array([not n.endswith('gripper') for n in SPEC.joint_names])
    proposals: dict[Source, Proposal] = {}
    for source, position, age, kind, arms, elapsed in script:
        now += elapsed
        proposals[source] = Proposal(now + age, np.array(position, np.float32))
        requests = [] if kind is None else [
            Request(kind, arms if kind in ('engage', 'release') else ())]
        command = arbiter.decide(now, state, proposals, requests).command
        assert np.isfinite(command).all()
        assert (command >= SPEC.lower).all() and (command <= SPEC.upper).all()
        step = np.abs(command - previous)[arm_joints]
        assert (step <= SPEC.velocity[arm_joints] * min(elapsed, 2 * DT) + 1e-5).all()
        previous = state = command


def test_a_first_driver_far_away_is_approached_slowly():
    """Its target decides, not the beginning of the way there."""
    arbiter = Arbiter(SPEC, ArbiterConfig())
    far = SPEC.rest.copy()
    far[0] += 2.0
    state, now, sent = SPEC.rest, 0.0, []
    for i in range(60):
        now += SPEC.dt
        decision = arbiter.decide(now, state, {Source.TELEOP: Proposal(now, far)},
                                  [Request('engage')] if i == 5 else [])
        state = decision.command
        sent.append(state)
    speed = np.abs(np.diff(np.array(sent, np.float64), axis=0)[:, 0]).max() / SPEC.dt
    assert 0.1 < speed <= SPEC.safety.start_speed * SPEC.velocity[0] + 1e-4


def test_a_joint_measured_beyond_its_limits_comes_in_at_the_gates_speed():
    arbiter = Arbiter(SPEC, ArbiterConfig())
    state = SPEC.rest.copy()
    state[1] = SPEC.upper[1] + 0.2
    first = arbiter.decide(0.0, state, {}).command
    assert first[1] == state[1]
    for i in range(1, 20):
        np.testing.assert_array_equal(arbiter.decide(i * SPEC.dt, state, {}).command, state)


def test_a_stop_between_two_decisions_is_told_with_the_next():
    arbiter = Arbiter(SPEC, ArbiterConfig())
    assert not arbiter.decide(0.0, SPEC.rest, {}).changed
    arbiter.stop('request stop')
    decision = arbiter.decide(0.02, SPEC.rest, {}, [Request('stop')])
    assert decision.mode is ControlMode.STOPPED and decision.changed
    assert not arbiter.decide(0.04, SPEC.rest, {}).changed
