"""The converter beside the recorder: reports every bag, survives its own death and ours."""

import json
import time

import pytest
from bag_maker import known, write_bag

from il_robot.data.convert_process import ConvertProcess
from il_robot.data.dataset import open_dataset


@pytest.fixture
def bags(tmp_path, spec, synthetic):
    steps = list(synthetic.steps(spec, 20))
    for name in 'ab':
        write_bag(tmp_path / name, spec, steps, (), known(spec, cameras='[]'))
    return tmp_path


def reports(converter, count):
    found = []
    end = time.monotonic() + 60
    while len(found) < count and time.monotonic() < end:
        found += converter.poll()
        time.sleep(0.02)
    return found


def test_every_bag_is_reported_in_order(bags):
    converter = ConvertProcess(bags / 'dataset')
    converter.start()
    for name in ('a', 'none', 'b'):
        converter.submit(bags / name)
    assert converter.waiting == 3
    a, none, b = reports(converter, 3)
    assert (a['episode'], a['rows'], a['outcome'], a['notes']) == (0, 20, 'success', [])
    assert 'no such folder' in none['error']
    assert b['episode'] == 1 and converter.waiting == 0
    assert converter.close(30.0) == 0
    assert len(open_dataset(bags / 'dataset').episodes) == 2


def test_its_death_is_reported_and_the_next_bag_starts_it_again(bags):
    converter = ConvertProcess(bags / 'dataset')
    converter.start()
    converter._process.kill()
    converter._process.wait()
    converter._waiting.append(bags / 'a')  # it died with this one in its hands
    (report,) = reports(converter, 1)
    assert report == {'bag': str(bags / 'a'), 'error': 'the converter ended with -9'}
    converter.submit(bags / 'b')
    (report,) = reports(converter, 1)
    assert report['episode'] == 0
    converter.close(30.0)


def test_it_finishes_its_work_when_nobody_listens_any_more(bags):
    """A recorder that is killed closes the pipe; the bags submitted before still arrive."""
    converter = ConvertProcess(bags / 'dataset')
    converter.submit(bags / 'a')
    process = converter._process
    assert converter.close(0.0) == 1
    process.wait(60)
    ledger = (bags / 'dataset' / 'meta' / 'bags.jsonl').read_text()
    assert json.loads(ledger)['episode'] == 0
    assert len(open_dataset(bags / 'dataset').episodes) == 1
