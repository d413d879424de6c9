import numpy as np
import pytest
import toy

from il_robot.algorithms.corrections import GatedController, GatedFactory, run_corrected
from il_robot.control.gates import GATES, make_gate
from il_robot.errors import ConfigError
from il_robot.types import Source

EXPERT, POLICY = (Source.EXPERT,) * 2, (Source.POLICY,) * 2


class Stubborn:
    """Drives both slides away from wherever the ball is."""

    signals = (0.7, 0.8, 0.9)  # novelty, doubt, risk

    def reset(self, rng):
        self.rng = rng

    def act(self, observation):
        away = -np.sign(observation.objects['ball'][:2])
        action = observation.state + self.rng.normal(0, 1e-3, 4).astype(np.float32)
        action[[0, 2]] += 0.05 * away
        return action.astype(np.float32)


def run(gate, options=None, relabel=True, seed=3):
    controller = GatedController(Stubborn(), make_gate(gate, options), relabel)
    return run_corrected(toy.ToyEnv(), controller, seed)


def labelled(corrected):
    return [step.expert is not None for step in corrected.steps]


def driven(corrected):
    assert all(step.source in (EXPERT, POLICY) for step in corrected.steps)
    return [step.source == EXPERT for step in corrected.steps]


@pytest.mark.parametrize('gate', sorted({*GATES} - {'never'}))
def test_rows_say_who_drove_what_was_done_and_what_both_wanted(gate):
    corrected = run(gate)
    assert any(driven(corrected))
    for step, expert in zip(corrected.steps, driven(corrected)):
        assert step.intervention is expert
        np.testing.assert_array_equal(step.action, step.expert if expert else step.policy)
    assert corrected.result.length == len(corrected.steps)
    assert corrected.result.success is corrected.steps[-1].success


def test_without_a_gate_the_policy_drives_and_every_state_can_be_labelled():
    corrected = run('never')
    assert not any(driven(corrected)) and all(labelled(corrected))
    assert not any(labelled(run('never', relabel=False)))


def test_a_policy_that_is_taken_over_from_succeeds_and_only_what_was_driven_is_labelled():
    assert not run('never').result.success
    corrected = run('human', relabel=False)
    assert corrected.result.success
    assert labelled(corrected) == driven(corrected) and not all(labelled(corrected))
    row, reason = corrected.reasons[0]
    assert driven(corrected).index(True) == row and 'disagree' in reason


def test_who_looks_at_the_experts_action_has_asked_for_it():
    """EnsembleDAgger's second rule costs a label in every step; it must not look cheaper."""
    corrected = run('ensemble', {'novelty': 9.0, 'discrepancy': 9.0}, relabel=False)
    assert all(labelled(corrected)) and not any(driven(corrected))


def test_a_correction_is_as_inexact_as_asked_and_its_label_is_not():
    controller = GatedController(Stubborn(), make_gate('human', None), False, noise=0.02)
    corrected = run_corrected(toy.ToyEnv(), controller, 3)
    exact = run('human', relabel=False)
    assert corrected.result.success
    off = np.array([step.action - step.expert for step in corrected.steps
                    if step.source == EXPERT])
    assert 0.005 < np.abs(off[:, [0, 2]]).max() < 0.08
    assert np.abs(off[0]).max() < 0.03  # begins small: no jump
    assert np.abs(off[:, [1, 3]]).max() < np.abs(off[:, [0, 2]]).max()  # grippers, by their range
    for a, b in zip(corrected.steps, exact.steps):
        if a.source == POLICY:
            np.testing.assert_array_equal(a.action, a.policy)  # nothing is added to a policy
        else:
            np.testing.assert_array_equal(a.expert, b.expert)  # the first one, before any noise
            break


def test_an_episode_depends_on_its_seed_alone():
    for gate in ('beta', 'human'):
        first, again, other = run(gate), run(gate), run(gate, seed=4)
        assert first.result == again.result != other.result
        for a, b in zip(first.steps, again.steps, strict=True):
            np.testing.assert_array_equal(a.action, b.action)


def test_without_a_policy_the_expert_demonstrates():
    env = toy.ToyEnv()
    controller = GatedFactory()(env)
    corrected = run_corrected(env, controller, 3)
    assert corrected.result.success and all(driven(corrected)) and all(labelled(corrected))
    assert not any(step.intervention or step.policy is not None for step in corrected.steps)


def test_a_gate_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match='unknown gate'):
        GatedFactory(gate='nobody')(toy.ToyEnv())
