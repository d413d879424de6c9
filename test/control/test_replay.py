"""What a policy proposed, replayed: the same as the arbiter's buffer said live."""

import numpy as np
import pytest

from il_robot.control.chunks import ChunkBuffer, Execution
from il_robot.control.replay import policy_actions
from il_robot.errors import ConfigError
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import ActionChunk

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
DT = SPEC.dt
STAMPS = 1_795_000_000.0 + DT * np.arange(20)


def chunks(size=8, every=4):
    rng = np.random.default_rng(2)
    return [
        ActionChunk(t, t + DT * np.arange(size), rng.normal(size=(size, SPEC.dim)).astype('f4'))
        for t in STAMPS[2:16:every]]


def status(**changed):
    return {'chunk_size': '8', 'execution_mode': 'ensemble', 'n_action_steps': '4',
            'decay': '0.1', **changed}


@pytest.mark.parametrize('mode', ['ensemble', 'newest'])
def test_replay_is_the_chunk_buffer(mode):
    made = chunks()
    replayed = policy_actions(made[::-1], status(execution_mode=mode), STAMPS, SPEC)
    buffer = ChunkBuffer(8, SPEC.dim, DT, Execution(mode, 4, 0.1))
    for i, now in enumerate(STAMPS):
        for chunk in made:
            if chunk.stamp == now:
                buffer.push(chunk)
        live = buffer.action(now)
        if live is None:
            assert np.isnan(replayed[i]).all() and i < 2
        else:
            np.testing.assert_array_equal(replayed[i], live)


def test_without_a_status_the_newest_chunk_counts():
    made = chunks(size=4)
    replayed = policy_actions(made, {}, STAMPS, SPEC)
    np.testing.assert_array_equal(replayed[6], made[1].positions[0])
    # wall times are 0.24 us apart as floats: the next step is met all but exactly
    np.testing.assert_allclose(replayed[7], made[1].positions[1], atol=1e-4)


def test_a_chunk_the_arbiter_refused_is_left_out_here_too():
    long, *rest = chunks(size=9), *chunks()[1:]
    replayed = policy_actions([long[0], *rest], status(), STAMPS, SPEC)
    assert np.isnan(replayed[:6]).all()
    np.testing.assert_array_equal(replayed[6], rest[0].positions[0])


def test_a_policy_that_said_nothing_proposed_nothing():
    assert np.isnan(policy_actions([], {}, STAMPS, SPEC)).all()


def test_a_status_that_lacks_something_is_an_error():
    with pytest.raises(ConfigError, match='policy/status.*n_action_steps.* is missing or wrong'):
        policy_actions(chunks(), {'execution_mode': 'newest'}, STAMPS, SPEC)
