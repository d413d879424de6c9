import numpy as np

from il_robot.control.contest import Contest

A, B = np.array([0.0, np.nan], np.float32), np.array([0.1, np.nan], np.float32)


def test_one_node_may_repeat_itself():
    contest = Contest()
    assert not any(contest.put(0.02 * (i // 2), A) for i in range(100))


def test_two_answers_to_each_observation_are_a_contest_until_one_is_gone():
    contest = Contest(memory=0.5, conflicts=3)
    said = []
    for i in range(10):
        said += [contest.put(0.02 * i, A), contest.put(0.02 * i, B)]
    assert said == [False] * 5 + [True] * 15
    alone = [contest.put(0.02 * i, A) for i in range(10, 60)]
    assert alone[0] and not alone[-1]
    assert alone == sorted(alone, reverse=True)


def test_a_clock_that_went_back_forgives():
    contest = Contest(conflicts=1)
    contest.put(5.0, A)
    assert contest.put(5.0, B)
    assert not contest.put(1.0, A)
