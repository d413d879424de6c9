"""When an episode begins and ends."""

import pytest

from il_robot.data.episode_session import (
    Begin,
    Discard,
    End,
    EpisodeSession,
    RefusedError,
)
from il_robot.types import Outcome


def sim(seed, success='false', terminated='false', truncated='false', episode='1'):
    return {'seed': str(seed), 'episode': episode, 'success': success, 'terminated': terminated,
            'truncated': truncated}


@pytest.fixture
def session():
    made = EpisodeSession()
    assert made.state(5.0) is None
    return made


@pytest.mark.parametrize(('word', 'outcome'), [
    ('success', Outcome.SUCCESS), ('failure', Outcome.FAILURE)])
def test_by_request(session, word, outcome):
    assert session.request('start') == Begin(5.0) and session.recording
    session.state(6.5)
    assert session.seconds == 1.5
    assert session.request(word) == End(6.5, outcome, f'request {word}')
    assert not session.recording


def test_discard(session):
    session.request('start')
    assert isinstance(session.request('discard'), Discard) and not session.recording


def test_what_is_not_possible_is_refused_with_the_reason(session):
    with pytest.raises(RefusedError, match='no joint_states have come.*sim or hardware'):
        EpisodeSession().request('start')
    for word in ('success', 'failure', 'discard'):
        with pytest.raises(RefusedError, match='no episode is being recorded; request start'):
            session.request(word)
    session.request('start')
    with pytest.raises(RefusedError, match='an episode is being recorded; end it'):
        session.request('start')
    assert session.recording


@pytest.mark.parametrize(('auto', 'outcome'), [
    ('', Outcome.UNKNOWN), ('sim', Outcome.FAILURE)])
def test_longest_episode(auto, outcome):
    session = EpisodeSession(auto, max_seconds=2.0)
    session.state(1.0)
    session.request('start')
    assert session.state(2.9) is None
    event = session.state(3.0)
    assert isinstance(event, End) and (event.end, event.outcome) == (3.0, outcome)
    assert session.state(9.0) is None


def test_a_clock_set_back_ends_the_episode(session):
    session.request('start')
    session.state(6.0)
    event = session.state(0.5)
    assert isinstance(event, End) and event.outcome is Outcome.UNKNOWN and event.end == 6.0
    assert session.request('start') == Begin(0.5)


def test_the_simulator_begins_and_ends_episodes():
    session = EpisodeSession('sim')
    assert session.sim_episode(1.0, sim(3)) == [Begin(1.0)]
    assert session.sim_episode(1.5, sim(3)) == []  # a new stage
    (end,) = session.sim_episode(2.0, sim(3, success='true', terminated='true'))
    assert (end.end, end.outcome) == (2.0, Outcome.SUCCESS)
    assert session.sim_episode(2.2, sim(3, success='true', terminated='true')) == []
    assert session.sim_episode(3.0, sim(4, episode='2')) == [Begin(3.0)]
    (end,) = session.sim_episode(4.0, sim(4, truncated='true', episode='2'))
    assert end.outcome is Outcome.FAILURE


@pytest.mark.parametrize('seed', [3, 4])
def test_a_reset_in_the_middle_ends_one_and_begins_the_next(seed):
    session = EpisodeSession('sim')
    session.sim_episode(1.0, sim(3))
    end, begin = session.sim_episode(2.0, sim(seed, episode='2'))
    assert (end.end, end.outcome) == (2.0, Outcome.UNKNOWN) and begin == Begin(2.0)


def test_after_the_longest_episode_the_same_one_does_not_begin_again():
    session = EpisodeSession('sim', max_seconds=1.0)
    session.sim_episode(1.0, sim(3))
    session.state(2.5)
    assert session.sim_episode(2.6, sim(3)) == []
    assert session.sim_episode(4.0, sim(3, episode='2')) == [Begin(4.0)]


def test_by_request_the_simulator_only_ends_what_it_resets(session):
    assert session.sim_episode(5.0, sim(3)) == []
    session.request('start')
    assert session.sim_episode(6.0, sim(3, success='true', terminated='true')) == []
    assert session.recording
    (end,) = session.sim_episode(7.0, sim(4, episode='2'))
    assert (end.end, end.outcome) == (7.0, Outcome.UNKNOWN)


def test_a_start_right_after_a_reset_does_not_begin_before_it():
    session = EpisodeSession()
    session.sim_episode(0.0, {'episode': '1', 'seed': '7'})
    session.state(3.0)
    assert session.simulated == '1'
    assert session.sim_episode(3.02, {'episode': '2', 'seed': '8'}) == []
    assert session.simulated == '2'
    assert session.request('start') == Begin(3.02)
    assert session.state(3.02) is None and session.recording
