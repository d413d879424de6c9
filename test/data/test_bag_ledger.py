"""Which bags wait to become episodes."""

import pytest
from bag_maker import known, write_bag

from il_robot.control.replay import policy_actions
from il_robot.data.bag_convert import BagConverter, ConvertOptions
from il_robot.data.bag_ledger import converted, note, unconverted


@pytest.fixture
def bags(tmp_path, spec, synthetic):
    folder = tmp_path / 'bags'
    folder.mkdir()
    steps = list(synthetic.steps(spec, 10))
    for name in ('done', 'ready', 'killed'):
        write_bag(folder / name, spec, steps, (), known(spec, cameras='[]'))
    (folder / 'killed' / 'metadata.yaml').unlink()
    write_bag(folder / 'stopped', spec, steps)  # nobody said how it ended
    (folder / '.killed.repair').mkdir()
    (folder / 'notes.txt').write_text('not a bag')
    return folder


def test_what_waits_and_what_lacks_an_outcome(bags, tmp_path):
    with_outcome, without = unconverted(bags, tmp_path / 'dataset')
    assert [b.name for b in with_outcome] == ['done', 'ready']
    assert [b.name for b in without] == ['killed', 'stopped']
    with BagConverter(tmp_path / 'dataset', policy_actions, ConvertOptions()) as converter:
        converter.add(bags / 'done')
    with_outcome, _ = unconverted(bags, tmp_path / 'dataset')
    assert [b.name for b in with_outcome] == ['ready']


def test_a_line_counts_with_its_episode_only(bags, tmp_path):
    dataset = tmp_path / 'dataset'
    assert converted(dataset) == {}
    with BagConverter(dataset, policy_actions, ConvertOptions()) as converter:
        converter.add(bags / 'done')
    (bag,) = converted(dataset)
    note(dataset, 'never committed', 1)
    assert converted(dataset) == {bag: 0}
    with (dataset / 'meta' / 'bags.jsonl').open('a') as file:
        file.write('{"episode": 0, "ba')  # torn by a kill
    note(dataset, 'another', 0)
    assert converted(dataset) == {'another': 0}
