import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import il_robot.sim as sim
from il_robot.control.chunks import ChunkBuffer, Execution
from il_robot.control.gate_rule import Driver
from il_robot.control.gate_watch import GateWatch
from il_robot.control.gates import Move, make_gate
from il_robot.launch_options import ROBOT_GATED
from il_robot.types import ActionChunk

SPEC = sim.default_robot()


def watch(name='safe', **options):
    made = GateWatch(SPEC, make_gate(name, options))
    made.replace(make_gate(name, options), ChunkBuffer(1, SPEC.dim, SPEC.dt, Execution()))
    made.drive(Driver.POLICY)
    return made


def say(made, kind, stamp, doubt=0.9):
    if kind == 'chunk':
        made.chunk(ActionChunk(stamp, np.array([stamp]), SPEC.rest[None]))
    elif kind == 'label':
        made.label(stamp, SPEC.rest)
    else:
        made.think(stamp, {'doubt': doubt})


@given(st.permutations([(kind, 0.02 * tick) for tick in range(1, 5)
                        for kind in ('chunk', 'label', 'thought')]))
def test_every_observation_is_judged_at_most_once_and_never_half(order):
    made, seen = watch(), []
    heard = {'label': set(), 'thought': set()}
    for kind, stamp in order:
        say(made, kind, stamp)
        heard.get(kind, set()).add(stamp)
        decided = made.decide()
        if decided is not None:
            signals, _ = decided
            assert signals.now in heard['thought'] and signals.doubt == 0.9
            # a label is awaited where its sender spoke before
            if any(stamp < signals.now for stamp in heard['label']):
                assert signals.now in heard['label'] and signals.discrepancy == 0.0
            seen.append(signals.now)
        assert made.decide() is None
    assert seen == sorted(set(seen))


def test_a_label_that_stays_away_is_not_awaited_for_long():
    made = watch()
    say(made, 'label', 0.02)
    for stamp, judged in ((0.04, False), (0.1, False), (0.3, True)):
        say(made, 'thought', stamp)
        say(made, 'chunk', stamp)
        decided = made.decide()
        assert (decided is not None) is judged
    assert math.isnan(decided[0].discrepancy)


@pytest.mark.parametrize('driver', [Driver.NOBODY, Driver.OPERATOR])
def test_a_person_who_drives_is_left_alone(driver):
    made = watch()
    made.drive(driver)
    say(made, 'thought', 0.02)
    say(made, 'chunk', 0.02)
    assert made.decide() is None
    made.drive(Driver.POLICY)
    assert made.decide()[1].move is Move.TAKE


def test_an_episode_that_is_over_asks_nobody():
    made = watch()
    say(made, 'thought', 0.02)
    say(made, 'chunk', 0.02)
    made.progress(4, True)
    assert made.decide() is None


@pytest.mark.parametrize('name', [*ROBOT_GATED, 'beta', 'human'])
def test_what_is_requested_and_how_often(name):
    learned = {'novelty': 9.0, 'doubt': 0.9, 'risk': 0.9}
    made = watch(name, **({'beta': 1.0} if name == 'beta' else {}))
    words = []
    for tick in range(1, 76):
        stamp = 0.02 * tick
        made.label(stamp, SPEC.rest + np.float32(0.5))
        made.think(stamp, learned)
        say(made, 'chunk', stamp)
        signals, verdict = made.decide()
        words.append(made.request(signals, verdict))
    word = 'help' if name in ROBOT_GATED else 'engage'
    assert set(words) == {'', word}
    assert 2 <= words.count(word) <= 4, 'half a second lies between two'


def test_it_gives_back():
    made = watch()
    made.drive(Driver.EXPERT)
    say(made, 'thought', 0.02, doubt=0.1)
    say(made, 'chunk', 0.02)
    signals, verdict = made.decide()
    assert signals.correcting and verdict.move is Move.GIVE
    assert made.request(signals, verdict) == 'release'
