import json

from il_robot.apps.main import main

SMALL = ['--policy', 'mlp', '--rounds', '1', '--demonstrations', '1', '--episodes', '1',
         '--evaluate-episodes', '1', '--workers', '1', '--set', 'training.steps=20',
         '--set', 'model.hidden=[16]', '--set', 'training.validation=0']


def test_a_run_of_one_round_with_quiet_demonstrations(tmp_path, capsys):
    output = tmp_path / 'run'
    assert main(['dagger', '--output', str(output), *SMALL, '--disturb', 'shoves=2',
                 '--noise', '0.01', '--quiet-demonstrations']) == 0
    environment = json.loads((output / 'seed_0' / 'dagger.json').read_text())['environment']
    assert environment['env']['disturbances'] == {'shoves': 2}
    assert environment['demonstrations']['disturbances'] == {
        'action_noise': 0.01, 'noise_share': 1.0}
    printed = capsys.readouterr().out
    assert 'round 0 (demonstrations)' in printed and 'round 1 (beta)' in printed
    assert (output / 'dagger.png').exists()
    assert main(['dagger', '--output', str(output), '--resume']) == 0  # nothing is left to do


def test_what_cannot_be_learned_is_refused_before_anything_is_made(tmp_path, capsys):
    output = tmp_path / 'run'
    words = ['dagger', '--output', str(output), *SMALL, '--disturb', 'shoves=2', '--gate', 'never',
             '--policy', 'chunk_mlp']
    assert main(words) == 2
    assert 'spans that the expert drives' in capsys.readouterr().err
    assert not output.exists()
