import json
from dataclasses import replace

import pytest
import toy

from il_robot.algorithms.evaluate import EpisodeResult, Evaluation, evaluate
from il_robot.algorithms.expert import expert_controller
from il_robot.algorithms.plots import plot_evaluation, plot_live_rounds, plot_training
from il_robot.algorithms.progress import evaluation_bar, training_bar
from il_robot.algorithms.report import read_report, setting_differences, write_report
from il_robot.control.rounds import Past, Score
from il_robot.errors import ConfigError

EPISODES = {
    0: EpisodeResult(0, True, 10, 1.0, 2, 'both'),
    3: EpisodeResult(3, False, 60, 0.5, 1, 'one'),
}
EVALUATION = Evaluation(EPISODES, {4: 'it broke'}, [5, 6])


def test_a_report_comes_back(tmp_path):
    path = tmp_path / 'deep' / 'report.json'
    write_report(path, EVALUATION, {'policy': 'x', 'decay': 0.1}, {'command': 'c'})
    evaluation, settings = read_report(path)
    assert evaluation == EVALUATION and settings == {'policy': 'x', 'decay': 0.1}
    data = json.loads(path.read_text())
    assert data['summary']['successes'] == 1 and data['about'] == {'command': 'c'}
    assert [p.name for p in path.parent.iterdir()] == ['report.json']


def test_an_evaluation_goes_on_from_its_report(tmp_path):
    done = []
    first = evaluate(toy.ToyFactory({'raise_seeds': (1,)}), expert_controller, range(6),
                     on_result=done.append, should_stop=lambda: len(done) == 3)
    assert list(first.failures) == [1]
    write_report(tmp_path / 'r.json', first, {}, {})
    second, _ = read_report(tmp_path / 'r.json')
    evaluate(toy.ToyFactory(), expert_controller, range(6), evaluation=second,
             on_result=done.append)
    assert sorted(e.seed for e in done) == list(range(6)), 'each ran once, the broken one again'
    straight = evaluate(toy.ToyFactory(), expert_controller, range(6))
    assert second.episodes() == straight.episodes() and not second.failures
    again = evaluate(toy.ToyFactory(), expert_controller, range(6), evaluation=second)
    assert again.episodes() == straight.episodes()


@pytest.mark.parametrize('text', ['', '{', '[]', '{"format": "other"}',
                                  '{"format": "il_robot.evaluation", "version": 9}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(ConfigError, match='x.json'):
        read_report(tmp_path / 'x.json')


def test_differences_of_settings_are_named():
    assert setting_differences({'a': [1], 'b': 2}, {'a': (1,), 'b': 2}) == []
    differences = setting_differences({'a': 1, 'b': 2}, {'a': 1, 'c': 3})
    assert differences == ['b: 2 | None', 'c: None | 3']


def test_pictures_are_written_for_any_outcome(tmp_path):
    failed, solved = [EPISODES[3]], [EPISODES[0]]
    for i, episodes in enumerate([failed, solved, [*failed, *solved], []]):
        plot_evaluation(episodes, 'a title', tmp_path / f'{i}.png')
    for i, records in enumerate([[], [{'step': 1, 'rate': 2.0, 'loss': 0.0}],
                                 [{'step': s, 'rate': 1.0, 'loss': 1 / s} for s in (1, 2)],
                                 [{'step': 2, 'success': 0.5, 'success_low': 0.2,
                                   'success_high': 0.8, 'episodes': 4}]]):
        plot_training(records, tmp_path / f'loss{i}.png')
    assert all(p.stat().st_size > 1000 for p in tmp_path.iterdir())


def test_bars_show_what_happens():
    import io

    from rich.console import Console
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with training_bar(100, console=console) as bar:
        bar.show({'step': 50, 'loss': 0.25, 'validation_loss': 0.5, 'rate': 123.4})
        bar.show({'step': 100, 'loss': 0.125, 'rate': 123.4, 'learning_rate': 0.1})
    with training_bar(100, console=console) as bar:
        bar.trying(EPISODES[3], Evaluation(EPISODES, {}, [9]))
    with training_bar(100, console=console) as bar:
        bar.show({'step': 7, 'success': 0.5, 'success_low': 0.1, 'success_high': 0.9,
                  'episodes': 2})
    with evaluation_bar(2, console=console) as on_result:
        for episode in EPISODES.values():
            on_result(episode)
    text = console.file.getvalue()
    assert 'loss 0.1250, validation 0.5000, 123 steps/s' in text and '100/100' in text
    assert '1/2 solved, 9-91 %' in text
    assert 'evaluation: 1/2 solved, 1 to go' in text and 'success 50 % [10, 90]' in text


def test_live_rounds_are_drawn_with_and_without_evaluation(tmp_path):
    past = [Past(1, 20, 30, None, True, 'better'), Past(2, 20, 10, None, False, 'worse')]
    plot_live_rounds(past, tmp_path / 'untried.png')
    tried = [replace(p, score=Score(10 * p.number, 50)) for p in past]
    plot_live_rounds(tried, tmp_path / 'tried.png')
    sizes = [(tmp_path / f'{name}.png').stat().st_size for name in ('untried', 'tried')]
    assert 1000 < sizes[0] < sizes[1]
