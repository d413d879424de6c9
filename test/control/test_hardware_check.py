"""The start-up check refuses with the reason, each reason alone."""

import numpy as np
import pytest

from il_robot.control.gripper_goals import GripperGoals
from il_robot.control.hardware_check import ControllerSeen, UrdfLimit, check, urdf_limits
from il_robot.control.measurements import Measurements
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'aloha_viperx'))
WIRING = SPEC.wiring


def measured(*, hertz=100.0, without=(), extra=(), at=(), skew=0.0, topics=(0, 1)):
    """One second of joint states."""
    measurements = Measurements(WIRING, period=SPEC.dt, jump_margin=0.1)
    measurements.count_from(0.0)
    ours = SPEC.rest.astype(float)
    for name, value in dict(at).items():
        ours[SPEC.index(name)] = value
    for k in range(1, int(hertz) + 1):
        for source in topics:
            rows = [(WIRING.joints[i].driver, (ours[i] - WIRING.joints[i].offset)
                     / WIRING.joints[i].gain) for i in WIRING.sources[source].joints]
            rows = [r for r in rows if r[0] not in without] + [(e, 0.0) for e in extra]
            names, positions = zip(*rows)
            measurements.put(source, names, positions, (), (), stamp=k / hertz - skew,
                             clock=k / hertz, now=k / hertz)
    return measurements


def seen(**changes):
    """Every controller as it should be, with changes of the first one."""
    controllers = [ControllerSeen(1, 0, tuple(WIRING.drivers(c.joints)))
                   for c in WIRING.controllers]
    values = {'listeners': 1, 'rivals': 0, 'joints': controllers[0].joints} | changes
    return [ControllerSeen(**values), *controllers[1:]]


def urdf(**changes):
    """The limits of each arm's URDF, as the robot file has them."""
    limits = {}
    for j in WIRING.joints:
        ends = sorted((v - j.offset) / j.gain for v in (j.lower, j.upper))
        limits.setdefault(j.description, {})[j.driver] = changes.get(
            j.driver, UrdfLimit(*ends, j.velocity / abs(j.gain)))
    return limits


def run(measurements=None, controllers=None, descriptions=None, **kw):
    return check(
        WIRING, measurements or measured(), 1.0, controllers=controllers or seen(),
        descriptions=urdf() if descriptions is None else descriptions, **kw)


def test_a_robot_that_fits_has_no_problems_and_no_notes():
    found = run()
    assert (found.problems, found.notes) == ([], [])


ORDER = ('elbow', 'waist', 'shoulder', 'forearm_roll', 'wrist_angle', 'wrist_rotate')


@pytest.mark.parametrize(('given', 'said'), [
    ({'measurements': lambda: measured(topics=(0,))},
     ['/follower_right/joint_states: no message']),
    ({'measurements': lambda: measured(without=('elbow',), extra=('elbo',))},
     ['no elbow (our left_elbow); other joints there: elbo', 'our right_elbow']),
    ({'measurements': lambda: measured(hertz=50.0)},
     ['/follower_left/joint_states: 50.0 Hz, needs 80 Hz', '/follower_right']),
    ({'measurements': lambda: measured(at={'left_shoulder': 1.4})},
     ['left_shoulder is at 1.4000 (shoulder = 1.4000), outside [-1.85005, 1.25664]']),
    ({'measurements': lambda: measured(at={'right_gripper': 0.1})},
     ['right_gripper is at 0.1000 (left_finger = 0.0710), outside [0, 0.072]']),
    ({'measurements': lambda: measured(skew=3.0)},
     ['left/joint_states: its stamps are 3.000 s behind our clock', 'right/joint_states']),
    ({'controllers': lambda: seen(listeners=0)},
     ['/follower_left/arm_controller/joint_trajectory: no controller listens']),
    ({'controllers': lambda: seen(rivals=2)}, ['2 other node(s) write to it']),
    ({'controllers': lambda: seen(joints=None)}, ['does not say which joints it moves']),
    ({'controllers': lambda: seen(joints=('waist', 'elbow'))},
     ['the controller moves elbow, waist; the robot file says elbow, forearm_roll']),
    ({'descriptions': lambda: urdf(elbow=UrdfLimit(-1.0, 1.0, 4.0))},
     ['left_elbow: [-1.76278, 1.6057] is [-1.7628, 1.6057] for elbow, wider than its URDF',
      'right_elbow']),
    ({'descriptions': lambda: urdf(waist=UrdfLimit(-4.0, 4.0, 1.0))},
     ['left_waist: velocity 3.14 is 3.1400 for waist, more than', 'right_waist']),
])
def test_each_reason_alone_is_named(given, said):
    found = run(**{key: make() for key, make in given.items()})
    assert len(found.problems) == len(said), found.problems
    for problem, part in zip(found.problems, said):
        assert part in problem


def test_the_order_matters_for_forward_controllers_only():
    """A trajectory names its joints; values in an array must be in the controller's order."""
    assert run(controllers=seen(joints=ORDER)).problems == []
    ur = load_robot_spec(named_config('robots', 'openarm'))
    measurements = Measurements(ur.wiring, period=ur.dt, jump_margin=0.1)
    controllers = [ControllerSeen(1, 0, tuple(reversed(ur.wiring.drivers(c.joints))))
                   for c in ur.wiring.controllers]
    problems = check(
        ur.wiring, measurements, 1.0, controllers=controllers, descriptions={}).problems
    wrong = [p for p in problems if 'in this order' in p]
    assert len(wrong) == 2  # one joint has one order only
    assert 'openarm_left_joint7, openarm_left_joint6' in wrong[0]


def test_what_only_is_worth_knowing_does_not_refuse():
    found = run(measurements=measured(extra=('torso',)), descriptions={})
    assert found.problems == []
    assert any('not used: torso' in n for n in found.notes)
    assert any('limits not compared' in n for n in found.notes)


def test_a_joint_at_its_stop_may_measure_a_little_beyond():
    span = SPEC.upper[1] - SPEC.lower[1]
    inside = measured(at={'left_shoulder': SPEC.upper[1] + 0.019 * span})
    assert run(measurements=inside).problems == []


def test_a_dry_run_needs_no_controllers():
    silent = [ControllerSeen(0) for _ in WIRING.controllers]
    assert len(run(controllers=silent).problems) == 4
    assert run(controllers=silent, dry_run=True).problems == []


def test_limits_of_a_urdf():
    limits = urdf_limits("""<robot name="r">
        <joint name="a" type="revolute"><limit lower="-1" upper="2" velocity="3"/></joint>
        <joint name="b" type="continuous"><limit velocity="4" effort="1"/></joint>
        <joint name="c" type="fixed"/>
        <transmission><joint name="a"/></transmission></robot>""")
    assert limits == {'a': UrdfLimit(-1, 2, 3), 'b': UrdfLimit(-np.inf, np.inf, 4)}
    for text in ('', '<robot>', '<r><joint name="a"><limit lower="x"/></joint></r>'):
        with pytest.raises(ValueError, match='URDF|could not convert'):
            urdf_limits(text)


def test_a_gripper_gets_few_goals():
    goals = GripperGoals(tolerance=0.001, period=0.2)
    sent = [t for k in range(200) if goals.send(t := 0.04 - 0.0002 * k, now=0.01 * k)]
    assert len(sent) == pytest.approx(10, abs=1)
    assert not goals.send(sent[-1] + 0.0005, now=10.0)
    assert goals.send(sent[-1] + 0.01, now=10.0)
    goals.forget()
    assert goals.send(sent[-1] + 0.01, now=10.0)
