import json

import pytest

from il_robot.apps.main import main
from il_robot.checkpoints import find_checkpoint
from il_robot.policies.checkpoint import load_checkpoint

SMALL = ['--steps', '200', '--every', '100', '--evaluate-episodes', '2', '--worlds', '1',
         '--workers', '1', '--minutes', '5', '--target', '1.1', '--set', 'batch_size=16',
         '--set', 'warmup=50', '--set', 'hidden=[16]', '--set', 'updates=0.1']


@pytest.fixture(scope='module')
def cloned(tmp_path_factory):
    """Demonstrations of a real task, and a policy that has hardly looked at them."""
    folder = tmp_path_factory.mktemp('cloned')
    assert main(['record', '--expert', '--episodes', '2', '--output', str(folder / 'data')]) == 0
    assert main(['train', '--policy', 'chunk_mlp', '--dataset', str(folder / 'data'), '--output',
                 str(folder / 'run'), '--steps', '20', '--set', 'model.hidden=[16]']) == 0
    return folder


def test_a_policy_with_averaged_chunks_is_corrected_and_evaluated(cloned, tmp_path, capsys):
    output = tmp_path / 'better'
    assert main(['finetune', '--from', str(cloned / 'run'), '--dataset', str(cloned / 'data'),
                 '--output', str(output), *SMALL]) == 0
    printed = capsys.readouterr().out
    for words in ('before: 0 of 2', '200 steps: ', 'at the end: ', '200 steps are done'):
        assert words in printed
    assert (output / 'finetune.png').exists()
    about = json.loads((output / 'finetune.json').read_text())
    assert about['environment']['task'] == 'transfer_cube'  # as the checkpoint says
    checkpoint, policy = load_checkpoint(find_checkpoint(output))
    assert checkpoint.model.execution['mode'] == 'ensemble' and policy.chunk_size == 20
    # an ordinary checkpoint
    assert main(['evaluate', '--policy', str(output), '--episodes', '2', '--workers', '1']) == 0
    assert main(['finetune', '--output', str(output), '--resume']) == 0  # nothing left to do
    capsys.readouterr()
    assert main(['finetune', '--output', str(output), '--resume', '--steps', '300']) == 0
    assert '300 steps are done' in capsys.readouterr().out
    assert main(['finetune', '--output', str(output), '--resume', '--hold', '2', '--set',
                 'updates=1', '--disturb', 'shoves=1']) == 2
    assert 'leave out --set, --disturb, --hold' in capsys.readouterr().err


@pytest.mark.parametrize(('words', 'says'), [
    ([], '--from is needed'),
    (['--from', 'nowhere'], 'no such folder'),
    (['--from', 'RUN', '--algorithm', 'ppo'], 'mode=newest'),
    (['--from', 'RUN', '--algorithm', 'sac'], 'algorithm'),
    (['--from', 'RUN', '--limit', '0'], 'limit'),
    (['--from', 'RUN', '--set', 'gama=0.9'], "did you mean 'gamma'"),
    (['--from', 'RUN', '--resume'], 'leave out --from'),
])
def test_mistakes_are_said_in_one_line(cloned, tmp_path, capsys, words, says):
    words = [str(cloned / 'run') if w == 'RUN' else w for w in words]
    assert main(['finetune', '--output', str(tmp_path / 'out'), *words, *SMALL]) == 2
    assert says in capsys.readouterr().err
