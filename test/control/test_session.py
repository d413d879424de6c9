"""Laws of the session, against a graph that reports late, refuses, dies and is meddled with."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.session import Phase, Session
from il_robot.control.session_view import Reset, SessionConfig, View
from il_robot.types import ControlMode

M = ControlMode
LENGTH = 30
"""Ticks until the driver of the simulated graph solves its task."""
LATE = 4
"""Ticks from an observation to the policy's proposal."""


class FakeGraph:
    """Simulator, arbiter, recorder and policy as far as a session can tell.

    Requests take effect ``delay`` ticks later; every ``lose``-th is lost.
    """

    def __init__(self, session, *, delay=1, lose=0, solves=lambda seed: True, ready_at=0,
                 saving=2):
        self.session, self.delay, self.lose, self.ready_at = session, delay, lose, ready_at
        self.solves, self.saving, self.busy_until = solves, saving, 0
        self.view = View(episode=1, seed=session.config.seed, mode=M.HOLD, recorder='idle')
        self.tick = self.driven = self.asked = 0
        self.due = []
        self.said, self.saved = [], []

    def step(self):
        self.tick += 1
        view = replace(self.view, stamp=0.02 * self.tick, policy_ready=self.tick >= self.ready_at,
                       policy_stamp=0.02 * (self.tick - LATE))
        for wish in self.session.step(0.02 * self.tick, view):
            self.said.append((self.session.phase, wish))
            self.asked += 1
            if not self.lose or self.asked % self.lose:
                self.due.append((self.tick + self.delay, wish))
        for when, wish in [d for d in self.due if d[0] <= self.tick]:
            self.due.remove((when, wish))
            self.obey(wish)
        self.live()

    def live(self):
        view = self.view
        if view.recorder == 'saving' and self.tick >= self.busy_until:
            self.view = view = replace(view, recorder='idle')
        if view.mode in (M.AUTONOMOUS, M.TELEOP) and not (view.success or view.truncated):
            self.driven += 1
            solved = self.driven == LENGTH and self.solves(view.seed)
            self.view = replace(view, success=solved, terminated=solved,
                                truncated=self.driven > 2 * LENGTH)

    def obey(self, wish):
        view = self.view
        if isinstance(wish, Reset):
            number, self.driven, self.reset_at = view.episode + 1, 0, self.tick
            self.view = replace(view, episode=number, seed=wish.seed, recorder_episode=number,
                                success=False, terminated=False, truncated=False)
        elif wish in ('run', 'engage') and view.mode is not M.STOPPED:
            assert wish == 'engage' or self.tick >= self.ready_at
            assert wish == 'engage' or self.tick - LATE >= self.reset_at, 'of the last episode'
            self.view = replace(view, mode=M.AUTONOMOUS if wish == 'run' else M.TELEOP)
        elif wish == 'hold' and view.mode is not M.STOPPED:
            self.view = replace(view, mode=M.HOLD)
        elif wish == 'start' and view.recorder != 'recording':
            self.view = replace(view, recorder='recording')
        elif wish in ('success', 'failure', 'discard') and view.recorder == 'recording':
            self.saved.append((view.seed, wish))
            self.view = replace(view, recorder='saving', outcome=wish)
            self.busy_until = self.tick + self.saving

    def run(self, ticks=20_000):
        for _ in range(ticks):
            if self.session.phase is Phase.DONE:
                return self
            self.step()
        raise AssertionError(f'{self.session} waits for {self.session.waiting!r}')


def make(**settings):
    return Session(SessionConfig(**{'episodes': 3, **settings}))


@settings(max_examples=40, deadline=None)
@given(delay=st.integers(0, 20), lose=st.sampled_from([0, 2, 3, 5]), record=st.booleans(),
       driver=st.sampled_from(['policy', 'human']), seed=st.integers(0, 2**20))
def test_one_result_per_episode_with_consecutive_seeds(delay, lose, record, driver, seed):
    session = make(driver=driver, record=record, seed=seed)
    graph = FakeGraph(session, delay=delay, lose=lose, solves=lambda s: s % 2 == 0).run()
    assert [r.seed for r in session.results] == [seed, seed + 1, seed + 2]
    assert [r.success for r in session.results] == [(seed + i) % 2 == 0 for i in range(3)]
    assert all(0 < r.seconds < 10 for r in session.results)
    assert graph.view.mode is M.HOLD
    if record:
        kept = [said for said in graph.saved if said[1] != 'discard']
        assert kept == [(r.seed, 'success' if r.success else 'failure') for r in session.results]
    else:
        assert not graph.saved
        assert not {'start', 'success', 'failure'} & {wish for _, wish in graph.said}


def run_until_help(graph, ticks=2000):
    """Until the policy drives, then let it ask for help."""
    for _ in range(ticks):
        graph.step()
        if graph.view.mode is M.AUTONOMOUS and graph.driven == 5:
            graph.view = replace(graph.view, mode=M.HOLD, help='risk 0.8 over 0.5')
            return
    raise AssertionError('it never drove')


@pytest.mark.parametrize('record', [False, True])
def test_help_that_does_not_come_fails_the_episode_and_says_so(record):
    session = make(episodes=2, record=record, help_timeout=5.0)
    graph = FakeGraph(session)
    run_until_help(graph)
    for _ in range(round(4.8 / 0.02)):
        graph.step()
    assert not session.results and session.phase is Phase.RUN
    assert session.waiting == 'help: risk 0.8 over 0.5'
    for _ in range(20):
        graph.step()
    assert [(r.success, r.reason) for r in session.results] == [
        (False, 'help was wanted (risk 0.8 over 0.5), and nobody came within 5.0 s')]
    assert 'hold' in [wish for _, wish in graph.said], 'the run is over'
    graph.view = replace(graph.view, help='')
    graph.run()
    assert [r.success for r in session.results] == [False, True]
    if record:
        assert [word for _, word in graph.saved] == ['failure', 'success']


def test_waiting_for_help_is_no_time_of_the_episode():
    session = make(episodes=1, max_seconds=3.0, help_timeout=30.0)
    graph = FakeGraph(session)
    run_until_help(graph)
    for _ in range(round(10.0 / 0.02)):
        graph.step()
    graph.view = replace(graph.view, mode=M.AUTONOMOUS, help='')
    graph.run()
    assert session.results[0].success and not session.results[0].reason


def test_an_operator_who_is_not_there_fails_the_episode_too():
    session = make(episodes=1, driver='operator', help_timeout=1.0)
    graph = FakeGraph(session)
    for _ in range(50):
        graph.step()
    graph.view = replace(graph.view, mode=M.HOLD, help='it looks new')
    for _ in range(100):
        graph.step()
    assert [(r.success, 'it looks new' in r.reason) for r in session.results] == [(False, True)]


def test_never_drives_before_the_policy_is_ready():
    session = make()
    graph = FakeGraph(session, ready_at=500)
    for _ in range(400):
        graph.step()
    assert graph.said == []
    assert session.waiting == 'the policy to become active'
    graph.run()
    assert len(session.results) == 3


def test_somebody_who_drives_needs_no_policy():
    assert len(FakeGraph(make(driver='human'), ready_at=10**9).run().session.results) == 3


def test_drives_only_while_it_is_recorded():
    graph = FakeGraph(make(record=True, driver='human'))
    while graph.session.phase is not Phase.DONE:
        graph.step()
        if graph.view.mode is M.TELEOP and graph.session.phase is Phase.RUN:
            assert graph.view.recorder == 'recording'


def test_the_episode_starts_with_a_reset_even_if_the_simulator_is_fresh():
    """The simulator may have stood there for a while, with disturbances that count its ticks."""
    graph = FakeGraph(make(seed=5)).run()
    assert graph.said[0][1] == Reset(5)


@pytest.mark.parametrize('meddle', [
    lambda v: replace(v, episode=1, seed=99),  # the simulator died and was started again
    lambda v: replace(v, episode=v.episode + 1),  # somebody reset it
    lambda v: replace(v, mode=M.STOPPED),
])
@pytest.mark.parametrize('when', [Phase.RECORD, Phase.START, Phase.RUN])
def test_a_broken_episode_is_thrown_away_and_done_again(meddle, when):
    session = make(record=True)
    graph = FakeGraph(session, delay=3)
    while session.phase is not when or len(session.results) < 1:
        graph.step()
    for _ in range(5):
        graph.step()
    graph.view = meddle(graph.view)
    for _ in range(20):
        graph.step()
    if graph.view.mode is M.STOPPED:
        for _ in range(500):
            graph.step()
        assert 'clear the stop' in session.waiting
        assert 'reset' not in {wish for _, wish in graph.said}  # a person's to say
        graph.view = replace(graph.view, mode=M.HOLD)
    graph.run()
    assert [r.seed for r in session.results] == [0, 1, 2]
    kept = [seed for seed, outcome in graph.saved if outcome != 'discard']
    assert kept == [0, 1, 2]


def test_waits_for_a_recording_that_is_not_its_own():
    session = make(record=True)
    graph = FakeGraph(session)
    graph.view = replace(graph.view, recorder='recording')
    for _ in range(300):
        graph.step()
    assert graph.said == [] and 'recording' in session.waiting


def test_ends_only_when_all_is_saved():
    session = make(record=True, episodes=1)
    graph = FakeGraph(session, saving=500)
    for _ in range(300):
        graph.step()
    assert session.phase is Phase.SAVE and session.waiting
    graph.run()
    assert session.step(1e9, graph.view) == []


def test_counts_corrections_within_the_episode():
    session = make(episodes=1)
    graph = FakeGraph(session)
    while session.phase is not Phase.RUN:
        graph.step()
    for mode in (M.CORRECTION, M.CORRECTION, M.AUTONOMOUS, M.CORRECTION, M.AUTONOMOUS):
        graph.view = replace(graph.view, mode=mode)
        graph.step()
    graph.run()
    assert session.results[0].interventions == 2


@pytest.mark.parametrize('lost', [True, False])
def test_a_driver_that_was_lost_goes_on_but_a_hold_on_request_stays(lost):
    session = make(episodes=1)
    graph = FakeGraph(session)
    while session.phase is not Phase.RUN:
        graph.step()
    graph.said.clear()
    graph.view = replace(graph.view, mode=M.HOLD, lost=lost)
    for _ in range(20):
        graph.step()
    assert ('run' in {wish for _, wish in graph.said}) is lost
    assert (graph.view.mode is M.HOLD) is not lost


def test_an_own_limit_replaces_the_simulators():
    slow = FakeGraph(make(episodes=1, max_seconds=5.0), solves=lambda seed: False).run()
    assert slow.session.results[0].seconds >= 5.0  # although truncated after 1.2 s
    quick = FakeGraph(make(episodes=1, max_seconds=0.1)).run()
    assert not quick.session.results[0].success


def test_without_end():
    session = make(episodes=0, driver='human')
    graph = FakeGraph(session)
    for _ in range(3000):
        graph.step()
    assert len(session.results) > 10 and session.phase is not Phase.DONE


def test_an_operator_ends_the_episodes_and_the_session_resets():
    session = make(driver='operator', record=True, episodes=2)
    graph = FakeGraph(session)

    def ticks(n=10):
        for _ in range(n):
            graph.step()

    for outcome in ('success', 'discard', 'failure'):
        ticks()
        assert session.phase is Phase.RUN
        episode = graph.view.episode
        graph.view = replace(graph.view, recorder='recording', mode=M.TELEOP)
        ticks()
        assert graph.view.episode == episode, 'reset while the operator works'
        graph.obey(outcome)
        ticks()
    assert session.phase is Phase.DONE
    assert [r.success for r in session.results] == [True, False]
    asked = {wish for _, wish in graph.said if not isinstance(wish, Reset)}
    assert asked <= {'hold'}


def test_an_operator_without_a_recorder_ends_by_solving():
    session = make(driver='operator', episodes=2)
    graph = FakeGraph(session)
    for _ in range(400):
        if session.phase is Phase.RUN:
            graph.view = replace(graph.view, mode=M.TELEOP)
        graph.step()
    assert session.phase is Phase.DONE and all(r.success for r in session.results)


@pytest.mark.parametrize('name', ['episodes', 'seed', 'max_seconds'])
def test_negative_numbers_are_refused(name):
    with pytest.raises(ValueError, match='>= 0'):
        SessionConfig(**{name: -1})
