"""The folder of live rounds: what it knows again after a crash, and what it lets run."""

import json

import pytest

from il_robot.algorithms.live_rounds import LiveRounds, Orders, table
from il_robot.control.rounds import Facts, RoundsConfig, Score, Stage
from il_robot.errors import ConfigError

CONFIG = RoundsConfig(rounds=2, episodes=3, evaluate_episodes=10)


@pytest.fixture
def orders(tmp_path):
    return Orders(tmp_path / 'first', settings=('training.batch_size=8',),
                  environment=('--task', 'insert_peg'))


def through(rounds, score):
    """The present round, from its first episode to the swap."""
    for facts in ({'episodes': 3, 'saved': True}, {'child': 'done'},
                  {'child': 'done', 'score': score}, {'swap': 'done'}):
        rounds.step(Facts(**facts))


def test_after_each_round_it_goes_on_where_it_was(tmp_path, orders):
    folder = LiveRounds(tmp_path / 'out', CONFIG, orders)
    assert (folder.rounds.stage, folder.driving) == (Stage.EVALUATE, [orders.policy])
    folder.rounds.step(Facts(child='done', score=Score(5, 10)))
    through(folder.rounds, Score(8, 10))
    folder.driving.append(folder.run(1))
    folder.save()
    again = LiveRounds(tmp_path / 'out', CONFIG, orders)
    assert (again.rounds.number, again.rounds.stage) == (2, Stage.COLLECT)
    assert again.rounds.baseline == Score(8, 10)
    assert again.rounds.past == folder.rounds.past
    assert again.driving == folder.driving
    through(again.rounds, Score(2, 10))
    again.save()
    last = LiveRounds(tmp_path / 'out', CONFIG, orders)
    assert last.rounds.stage is Stage.DONE
    assert last.rounds.baseline == Score(8, 10), 'the worse policy was not taken'
    assert [line.split()[-1] for line in table(last.rounds.past)[1:3]] == ['yes', 'yes']
    assert 'worse' in table(last.rounds.past)[3]
    last.draw()
    assert (tmp_path / 'out' / 'rounds.png').stat().st_size > 1000


def test_it_trains_on_everything_and_goes_on_with_what_began(tmp_path, orders):
    folder = LiveRounds(tmp_path / 'out', CONFIG, orders)
    folder.rounds.step(Facts(child='done', score=Score(5, 10)))
    words = folder.training()
    assert words[:3] == ['train', '--config', 'chunk_mlp']
    assert words[words.index('--dataset') + 1] == str(folder.dataset)
    assert 'training.batch_size=8' in words
    assert 'training.weights.policy=0' in words
    assert '--start' not in words
    assert folder.trained() == {}
    folder.run(1).mkdir(parents=True)
    (folder.run(1) / 'run.json').touch()
    (folder.run(1) / 'metrics.jsonl').write_text(
        '{"step": 50, "loss": 0.5, "rate": 9, "grad_norm": 1}\n{"step": 10')
    assert folder.training() == ['train', '--output', str(folder.run(1)), '--resume']
    assert folder.trained() == {'step': 50, 'loss': 0.5, 'rate': 9}


def test_it_evaluates_the_policy_at_the_beginning_and_then_that_of_the_round(tmp_path, orders):
    folder = LiveRounds(tmp_path / 'out', CONFIG, orders)
    words = folder.evaluation()
    assert words[words.index('--policy') + 1] == str(orders.policy)
    assert words[words.index('--task') + 1] == 'insert_peg'
    assert '--resume' not in words
    assert folder.evaluated() is None
    report = folder.folder(0) / 'evaluation.json'
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({'summary': {'successes': 3, 'episodes': 4}}))
    assert folder.evaluated() == Score(3, 4)
    assert folder.evaluation()[-1] == '--resume'
    folder.rounds.step(Facts(child='done', score=Score(5, 10)))
    words = folder.evaluation()
    assert words[words.index('--policy') + 1] == str(folder.run(1))
    assert folder.evaluated() is None, 'of this round there is none yet'


def test_demonstrations_are_copied_once(tmp_path, orders):
    source = tmp_path / 'demos' / 'meta'
    source.mkdir(parents=True)
    with pytest.raises(ConfigError, match='no dataset there'):
        LiveRounds(tmp_path / 'out', CONFIG, orders, str(source.parent))
    (source / 'info.json').touch()
    folder = LiveRounds(tmp_path / 'out', CONFIG, orders, str(source.parent))
    (folder.dataset / 'new').touch()
    LiveRounds(tmp_path / 'out', CONFIG, orders, str(source.parent))
    assert (folder.dataset / 'new').exists()
    assert not list(folder.output.glob('*.copy'))
