"""The commands ``train`` and ``evaluate``, in process, on the real simulation but tiny."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from il_robot.apps import evaluate, record, train
from il_robot.apps.interrupt import stop_on_interrupt
from il_robot.errors import CheckpointError, ConfigError, DatasetError
from il_robot.policies.assessor import ASSESSOR, load_assessor
from il_robot.policies.checkpoint import (
    find_checkpoint,
    load_training_state,
    read_description,
)

ROOT = Path(__file__).parents[2]


def call(module, *words):
    parser = argparse.ArgumentParser()
    module.add_parser(parser.add_subparsers())
    args = parser.parse_args([module.__name__.rpartition('.')[2], *map(str, words)])
    return args.run(args)


TINY = ('--steps', 60, '--set', 'model.hidden=[32]', '--set', 'log_every=10',
        '--set', 'training.device=cpu')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three demonstrations and a policy trained on them for a moment."""
    path = tmp_path_factory.mktemp('apps')
    assert call(record, '--expert', '--episodes', 3, '--output', path / 'data') == 0
    assert call(train, '--policy', 'chunk_mlp', '--dataset', path / 'data', '--output',
                path / 'run', *TINY) == 0
    return path


def test_a_run_holds_everything(folder):
    names = {p.name for p in (folder / 'run').iterdir()}
    assert names == {'run.json', 'metrics.jsonl', 'tensorboard', 'loss.png', 'checkpoints'}
    steps = [json.loads(line)['step'] for line in (folder / 'run/metrics.jsonl').open()]
    assert steps == [10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize(('words', 'error', 'message'), [
    (['--policy', 'chunk_mpl'], ConfigError, "did you mean 'chunk_mlp'"),
    (['--config', 'nowhere.yaml'], ConfigError, 'no file nowhere.yaml'),
    (['--set', 'training.stepz=1'], ConfigError, "did you mean 'steps'"),
    (['--robot', 'r2d2'], ConfigError, 'sim_dual_arm'),
    (['--assess', '2'], ConfigError, 'between 0 and 1'),
])
def test_mistakes_of_train_are_told(folder, tmp_path, words, error, message):
    with pytest.raises(error, match=message):
        call(train, '--dataset', folder / 'data', '--output', tmp_path / 'x', *words)
    assert not (tmp_path / 'x').exists()


def test_train_never_overwrites_and_needs_what_it_needs(folder, tmp_path):
    with pytest.raises(ConfigError, match='--resume'):
        call(train, '--dataset', folder / 'data', '--output', folder / 'run')
    with pytest.raises(ConfigError, match='--dataset is needed'):
        call(train, '--output', tmp_path / 'x')
    with pytest.raises(DatasetError):
        call(train, '--dataset', tmp_path, '--output', tmp_path / 'x')
    with pytest.raises(ConfigError, match='leave out'):
        call(train, '--output', folder / 'run', '--resume', '--steps', 3)
    assert call(train, '--output', folder / 'run', '--resume') == 0


def test_a_dataset_that_does_not_say_its_robot_trains(folder, tmp_path):
    """As LeRobot writes them."""
    shutil.copytree(folder / 'data', tmp_path / 'data')
    (tmp_path / 'data/meta/robot.json').unlink()
    for name, words in (('without', []), ('with', ['--robot', 'sim_dual_arm'])):
        assert call(train, '--policy', 'mlp', '--dataset', tmp_path / 'data', '--output',
                    tmp_path / name, *TINY, *words) == 0
        assert call(train, '--output', tmp_path / name, '--resume') == 0
    with pytest.raises(CheckpointError, match='train with --robot'):
        call(evaluate, '--policy', tmp_path / 'without', '--episodes', 1, '--workers', 1)
    assert call(evaluate, '--policy', tmp_path / 'with', '--episodes', 1, '--workers', 1) == 0


def test_ctrl_c_saves_a_checkpoint_and_says_how_to_go_on(folder, tmp_path, capsys):
    output = tmp_path / 'a run'
    words = ['--dataset', folder / 'data', '--output', output, *TINY, '--steps', 100_000]
    finger = threading.Thread(target=_interrupt_when, args=(output / 'metrics.jsonl',))
    finger.start()
    assert call(train, *words) == 130
    finger.join()
    said = capsys.readouterr()
    assert 'stopped at step' in said.out and f"--output '{output}' --resume" in said.out
    assert list((output / 'checkpoints').iterdir())


def _interrupt_when(path: Path):
    while not (path.exists() and path.read_text().count('\n') > 2):
        threading.Event().wait(0.02)
    os.kill(os.getpid(), signal.SIGINT)


def test_evaluate_reports_success_with_its_interval(folder, capsys):
    output = folder / 'expert.json'
    code = call(evaluate, '--policy', 'expert', '--episodes', 2, '--workers', 2, '--output',
                output, '--video', 2)
    assert code == 0 and 'expert on transfer_cube: 2 of 2 = 100.0 %' in capsys.readouterr().out
    data = json.loads(output.read_text())
    assert data['summary']['interval_95'][0] == pytest.approx(0.342, abs=1e-3)
    assert data['settings']['task'] == 'transfer_cube' and data['about']['versions']['pybullet']
    for suffix in ('.png', '.mp4'):
        assert output.with_suffix(suffix).stat().st_size > 1000
    with pytest.raises(ConfigError, match='exists; --resume'):
        call(evaluate, '--policy', 'expert', '--output', output)
    with pytest.raises(ConfigError, match='task: transfer_cube \\| lift_tray'):
        call(evaluate, '--policy', 'expert', '--task', 'lift_tray', '--output', output, '--resume')
    assert call(evaluate, '--policy', 'expert', '--episodes', 3, '--workers', 1, '--output',
                output, '--resume') == 0
    assert [e['seed'] for e in json.loads(output.read_text())['episodes']] == [0, 1, 2]


def test_evaluate_runs_a_policy_and_names_it_by_its_hash(folder):
    output = folder / 'policy.json'
    assert call(evaluate, '--policy', folder / 'run', '--episodes', 1, '--workers', 1, '--output',
                output, '--execution', 'mode=newest', '--execution', 'n_action_steps=10',
                '--runtime', 'trace') == 0
    settings = json.loads(output.read_text())['settings']
    assert settings['runtime'] == 'trace'
    assert settings['policy'] == 'chunk_mlp' and len(settings['checkpoint']) == 16
    assert settings['execution'] == {
        'mode': 'newest', 'n_action_steps': 10, 'decay': 0.1, 'blend_steps': 5,
        'inpaint': 'replace'}
    assert 'delay' not in settings


@pytest.mark.parametrize(('words', 'error', 'message'), [
    (['--policy', 'expert', '--task', 'fold_shirt'], ConfigError, 'transfer_cube'),
    (['--policy', 'expert', '--disturb', 'shovez=1'], ConfigError, 'shoves'),
    (['--policy', 'expert', '--disturb', 'shoves'], ConfigError, 'KEY=VALUE'),
    (['--policy', 'expert', '--width', 'huge'], ConfigError, 'nominal'),
    (['--policy', 'expert', '--execution', 'decay=1'], ConfigError, 'no chunks'),
    (['--policy', 'expert', '--runtime', 'trace'], ConfigError, 'no network'),
    (['--policy', 'expert', '--delay', 0.1], ConfigError, 'answers at once'),
    (['--policy', 'expert', '--episodes', 0], ConfigError, 'episodes'),
    (['--policy', 'expert', '--video', 2], ConfigError, 'need --output'),
    (['--policy', 'expert', '--output', 'x.txt'], ConfigError, 'json'),
    (['--policy', 'expert', '--output', 'x.json', '--resume'], ConfigError, 'nothing to resume'),
    (['--policy', 'nowhere'], CheckpointError, 'no such folder'),
])
def test_mistakes_of_evaluate_are_told(words, error, message):
    with pytest.raises(error, match=message):
        call(evaluate, *words, '--workers', 1)


def test_a_policy_for_another_task_is_told(folder):
    with pytest.raises(Exception, match='needs the pose of cube'):
        call(evaluate, '--policy', folder / 'run', '--task', 'lift_tray', '--episodes', 1,
             '--workers', 1)


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal: a shell that starts the tests in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_ctrl_c_asks_and_the_second_interrupts(ctrl_c):
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt() as stopped:
        assert not stopped()
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped()
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_that_is_done_learns_when_it_needs_help(folder, tmp_path, capsys):
    run = tmp_path / 'run'
    shutil.copytree(folder / 'run', run)
    assert call(train, '--output', run, '--resume', '--assess', 0.2) == 0
    assert 'assessor: doubt' in capsys.readouterr().out
    checkpoint = find_checkpoint(run)
    assessor = load_assessor(checkpoint / ASSESSOR, read_description(checkpoint).hash)
    assert {'doubt', 'risk', 'low_risk', 'discrepancy'} <= assessor.config.thresholds.keys()


def test_checkpoints_are_tried_in_the_task_of_the_dataset(folder, tmp_path, capsys):
    words = ['--policy', 'mlp', '--dataset', folder / 'data', '--output', tmp_path / 'run', *TINY,
             '--evaluate', 60, '--set', 'training.evaluate_episodes=1', '--workers', 1]
    assert call(train, *words) == 0
    said = capsys.readouterr().out
    assert f'evaluate --policy {tmp_path}/run/best --task transfer_cube' in said
    data = json.loads((tmp_path / 'run/run.json').read_text())
    assert data['trial']['task'] == 'transfer_cube'
    assert call(train, '--output', tmp_path / 'run', '--resume') == 0
    assert call(evaluate, '--policy', tmp_path / 'run/best', '--episodes', 1, '--workers', 1) == 0
    with pytest.raises(ConfigError, match="did you mean 'lift_tray'"):
        call(train, *words[:5], tmp_path / 'x', *words[6:], '--task', 'lift_try')
    with pytest.raises(ConfigError, match='add --evaluate'):
        call(train, '--dataset', folder / 'data', '--output', tmp_path / 'x', '--task', 'cube')
    assert not (tmp_path / 'x').exists()


def test_torchrun_trains_with_two_processes_and_ctrl_c_keeps_a_checkpoint(folder, tmp_path):
    output = tmp_path / 'run'
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node',
                '2', '-m', 'il_robot', 'train']
    words = ['--policy', 'mlp', '--dataset', folder / 'data', '--output', output, *TINY, '--steps',
             100_000]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(
        [*torchrun, *map(str, words)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    metrics = output / 'metrics.jsonl'
    while process.poll() is None and not (
            metrics.exists() and metrics.read_text().count('\n') > 2):
        threading.Event().wait(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert '2 processes' in out and out.count('stopped at step') == 1, err
    [checkpoint] = (output / 'checkpoints').iterdir()
    assert load_training_state(checkpoint)['step'] > 20
    again = subprocess.run([*torchrun, *map(str, words)], env=environment, text=True,
                           capture_output=True, timeout=100)
    assert again.returncode and again.stderr.count('is not empty; add --resume') == 1
