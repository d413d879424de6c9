"""What keeps a stop over restarts."""

import pytest

from il_robot.nodes.stop_latch import StopLatch, stop_file
from il_robot.resources import named_config
from il_robot.sim import default_robot
from il_robot.spec import load_robot_spec


def test_a_stop_is_kept_until_it_is_cleared(tmp_path):
    path = tmp_path / 'folder' / 'stopped.json'
    latch = StopLatch(path)
    assert not latch.stopped
    latch.clear()
    latch.keep('somebody pressed stop')
    latch.keep('again')
    again = StopLatch(path)
    assert again.stopped and 'somebody pressed stop' in again.reason and ' since 2' in again.reason
    again.clear()
    assert not StopLatch(path).stopped and list(path.parent.iterdir()) == []


@pytest.mark.parametrize('text', ['', '{', '[]', '{"since": 1}', 'null'])
def test_a_damaged_file_is_a_stop_all_the_same(tmp_path, text):
    path = tmp_path / 'stopped.json'
    path.write_text(text)
    latch = StopLatch(path)
    assert latch.stopped and str(path) in latch.reason


def test_real_robots_are_stopped_for_good_and_simulated_ones_for_this_launch(
        monkeypatch, tmp_path):
    monkeypatch.setenv('ROS_HOME', str(tmp_path))
    monkeypatch.setenv('ROS_DOMAIN_ID', '7')
    simulated, real = default_robot(), load_robot_spec(named_config('robots', 'aloha_viperx'))
    assert simulated.hardware is None and real.hardware is not None
    name = f'stopped_7_{simulated.name}'
    assert stop_file(simulated).parent == tmp_path / 'il_robot'
    assert stop_file(simulated).name.startswith(f'{name}_')
    assert stop_file(real).name == f'stopped_7_{real.name}.json'
