"""Rounds of live correction with the real graph: the policy of the running node is swapped."""

import json
import resource

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from small_policy import write_lively_policy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from il_robot import sim
from il_robot.checkpoints import find_checkpoint
from il_robot.data.dataset import open_dataset
from il_robot.nodes import convert, topics
from il_robot.policies.checkpoint import read_description

SPEC = sim.default_robot()
SETTINGS = ['training.steps=30', 'training.threads=1', 'training.validation=0.0',
            'training.outcomes=[success, failure, unknown]', 'model.hidden=[16]']
# of the policy that drives at first
SAME = ['model.chunk_size=10', 'training.actions=absolute', 'observation.hands=false',
        'observation.scales=[]']


@pytest.fixture
def make_cell(graph, tmp_path):
    """Makes the cell of a test; its dagger node, which may end by itself, does not outlive it."""
    cells = []

    def make(**parameters):
        cells.append(Cell(graph, tmp_path / 'out', **parameters))
        return cells[-1]

    yield make
    for cell in cells:
        cell.dagger.stop()


class Cell:
    """Everything that `launch dagger` starts, and what is heard of it."""

    def __init__(self, graph, folder, **parameters):
        self.graph, self.folder = graph, folder
        self.first = write_lively_policy(graph.folder / 'policy', SPEC, ['cube'])
        graph.start('sim', lockstep=True, seed=30_000)
        graph.start('arbiter', lockstep=True, resume=True, use_sim_time=True)
        graph.start('expert', use_sim_time=True, gate='rule')
        graph.start('recorder', output=str(folder), use_sim_time=True, round=1)
        self.policy = graph.start('policy', checkpoint=str(self.first), runtime='torch',
                                  use_sim_time=True)
        self.statuses = graph.collect(
            DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS)
        self.said = graph.collect(DiagnosticArray, topics.DAGGER_STATUS, topics.LATCHED_QOS)
        self.parameters = {
            'output': str(folder), 'policy': str(self.first), 'recipe': 'chunk_mlp',
            'settings': SETTINGS, 'environment': ['--task', 'transfer_cube'], 'rounds': 1,
            'episodes': 1, 'evaluate_episodes': 0, 'use_sim_time': True, **parameters}
        self.dagger = self.start()

    def start(self):
        """The dagger node, which ends by itself."""
        dagger = self.graph.start('dagger', **self.parameters)
        self.graph.processes.remove(dagger)
        return dagger

    @property
    def running(self):
        """Hash of the checkpoint that the policy node runs."""
        return convert.status_values(self.statuses[-1])['checkpoint'] if self.statuses else ''

    def stage(self):
        return convert.status_values(self.said[-1])['stage'] if self.said else ''

    def ended(self):
        """Wait for the end of the rounds; the file."""
        self.graph.until(lambda: self.dagger.popen.poll() is not None, self.dagger.output, 240)
        assert self.dagger.popen.returncode == 0, self.dagger.output
        return json.loads((self.folder / 'rounds.json').read_text())


def hash_of(run):
    return read_description(find_checkpoint(run)).hash


def test_a_round_ends_with_the_new_policy_in_the_running_node(graph, make_cell):
    cell = make_cell(settings=SETTINGS + SAME, warm_steps=20)
    folder = cell.folder
    said = cell.ended()
    assert [(p['number'], p['taken'], p['episodes']) for p in said['past']] == [(1, True, 1)]
    run = folder / 'rounds' / '01' / 'run'
    graph.until(lambda: cell.running == hash_of(run), 'the new policy in the running node')
    described = read_description(find_checkpoint(run))
    assert (described.start, described.step) == (hash_of(cell.first), 20)
    dataset = open_dataset(folder / 'dataset')
    (episode,) = dataset.episodes
    assert (episode.round, episode.seed) == (1, 30_000)
    assert episode.checkpoint == hash_of(cell.first), 'who drove is known'
    stages = [convert.status_values(m)['stage'] for m in cell.said]
    assert list(dict.fromkeys(stages)) == ['collect', 'train', 'swap', 'done']
    assert (folder / 'rounds.png').stat().st_size > 1000


def test_a_child_that_dies_leaves_the_old_policy_and_says_so(make_cell):
    cell = make_cell(settings=[*SETTINGS, 'training.nonsense=1'])
    said = cell.ended()
    (past,) = said['past']
    assert not past['taken'] and 'nonsense' in past['reason'] and 'old policy' in past['reason']
    assert cell.running == hash_of(cell.first)
    assert len(open_dataset(cell.folder / 'dataset').episodes) == 1, 'the data stay'


def test_a_full_disk_leaves_the_old_policy_and_says_so(make_cell):
    """A limit on the size of files stands for a full disk, for the node and for its child."""
    cell = make_cell()
    cell.graph.until(lambda: cell.stage() == 'collect', 'the first episode')
    resource.prlimit(cell.dagger.popen.pid, resource.RLIMIT_FSIZE, (6_000, 6_000))
    said = cell.ended()
    (past,) = said['past']
    assert not past['taken'] and 'File too large' in past['reason']
    assert 'rounds.png' in cell.dagger.output, 'the picture is missed, no more'
    assert cell.running == hash_of(cell.first)
    assert len(open_dataset(cell.folder / 'dataset').episodes) == 1, 'the data stay'


def test_a_stop_during_a_swap_stops_the_arms_and_the_new_policy_waits(graph, make_cell):
    cell = make_cell(rounds=2)
    modes = graph.collect(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
    requests = graph.publisher(String, topics.REQUEST, topics.REQUEST_QOS)

    def mode():
        return convert.status_values(modes[-1])['mode'] if modes else ''

    graph.until(lambda: cell.stage() == 'swap', 'the swap', 240)
    graph.ask(requests, 'stop', lambda: mode() == 'STOPPED')
    run = cell.folder / 'rounds' / '01' / 'run'
    graph.until(lambda: cell.running == hash_of(run), 'the new policy')
    graph.until(lambda: cell.stage() == 'collect', 'the second round')
    graph.until(lambda: 'reset' in cell.dagger.output, 'what to do')
    assert mode() == 'STOPPED', 'nobody but a person ends a stop'
    graph.ask(requests, 'reset', lambda: mode() != 'STOPPED')
    said = cell.ended()
    assert [(p['number'], p['taken']) for p in said['past']] == [(1, True), (2, True)]


def test_killed_nodes_go_on_with_the_round_and_with_its_policy(graph, make_cell):
    cell = make_cell(rounds=2)
    folder = cell.folder
    graph.until(lambda: (folder / 'rounds.json').exists(), 'the first round', 240)
    cell.dagger.kill()
    graph.processes.remove(cell.policy)
    cell.policy.kill()
    first = folder / 'rounds' / '01' / 'run'
    graph.start('policy', checkpoint=str(cell.first), runtime='torch', use_sim_time=True)
    cell.dagger = cell.start()
    graph.until(lambda: cell.running == hash_of(first), 'the policy of round 1 again', 120)
    said = cell.ended()
    assert [(p['number'], p['taken']) for p in said['past']] == [(1, True), (2, True)]
    assert {e.round for e in open_dataset(folder / 'dataset').episodes} == {1, 2}


def test_rollback_and_skip_by_request(graph, make_cell):
    cell = make_cell(rounds=2, episodes=50, corrections=1)
    file = cell.folder / 'rounds.json'
    modes = graph.collect(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
    graph.until(lambda: any(convert.status_values(m)['mode'] == 'AUTONOMOUS' for m in modes),
                'the first episode')
    answer = graph.call(Trigger, topics.DAGGER_ROLLBACK)
    assert not answer.success and 'no policy before' in answer.message
    assert graph.call(Trigger, topics.DAGGER_SKIP).success
    graph.until(file.exists, 'the first round', 240)
    graph.until(lambda: cell.stage() == 'collect', 'the second round')
    answer = graph.call(Trigger, topics.DAGGER_ROLLBACK)
    assert answer.success, answer.message
    graph.until(lambda: cell.running == hash_of(cell.first), 'the policy of the beginning')
    said = json.loads(file.read_text())
    assert [p['taken'] for p in said['past']] == [False]


@pytest.mark.parametrize(('wrong', 'words'), [
    ({'rounds': 0}, 'rounds'), ({'episodes': 0}, 'needs an end'),
    ({'dataset': '/nowhere'}, 'no dataset there'), ({'keep_old': 'always'}, 'keep_old')])
def test_wrong_parameters_are_told(graph, tmp_path, wrong, words):
    process = graph.start('dagger', **{
        'output': str(tmp_path / 'out'), 'policy': str(tmp_path), **wrong})
    graph.processes.remove(process)
    assert process.popen.wait(60) == 2 and words in process.output
