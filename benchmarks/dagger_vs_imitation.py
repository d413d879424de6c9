"""Time to the expert's return: our DAgger against the imitation library's, in one run.

Pendulum-v1 with a scripted expert (benchmarks/pendulum.py), a net of 32 x 32, 3 episodes in every
round, the first round the expert's alone. After each round the policy is evaluated on 200 fixed
episodes, which the clock leaves out; a run ends with the first policy whose mean return is at
least 95 % of the way from random torques to the expert. What is compared is the wall time until
then: stepping Gymnasium's environment, expert, policy, storing and training, in one process and
thread each. Starting the processes, loading the libraries and a first run of two rounds are left
out, for both.

Theirs is ``SimpleDAggerTrainer.train`` (benchmarks/imitation_dagger.py, which says what a setting
is): with its defaults, and made quicker in several ways. Ours is what `il_robot dagger` is made
of, with Pendulum in place of our tasks: ``control.gates.BetaGate`` decides,
``policies.PolicyRuntime`` (numpy) answers, a ``Dataset`` grows, and ``algorithms.bc.train`` trains
a new policy on all of it in each round, into a folder with records and a synced checkpoint, from
which the next round loads it. Squared error, no clipping of gradients; the rest of the recipe is
in ``recipe_of``. Each has the expert's share fall linearly over 15 rounds, as is their default,
and by half in every round, as is ours.

Turns: for each seed all settings one after the other. Target: with the defaults of either, ours
>= 8x sooner (median of the seeds' ratios). ``against_quickest`` compares with the setting of
theirs whose median time is the least, ``same_schedule`` at the same share of the expert.
``processor`` is the time of the processor, which depends less on who else works on the machine,
but leaves out waiting for the disk.

    python3 -m venv IMITATION && IMITATION/bin/pip install imitation==1.0.1 'setuptools<81'
    python3 benchmarks/dagger_vs_imitation.py --imitation-python IMITATION/bin/python [--seeds 5]

Writes benchmarks/results/dagger_vs_imitation.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

import gymnasium
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import pendulum  # noqa: E402
from peer import Peer  # noqa: E402
from pendulum import Rounds  # noqa: E402

from il_robot.algorithms.bc import train  # noqa: E402
from il_robot.algorithms.recipe import Recipe, make_recipe  # noqa: E402
from il_robot.control.gates import BetaGate, Move, Signals  # noqa: E402
from il_robot.data import keys  # noqa: E402
from il_robot.data.dataset import Dataset, EpisodeRecord  # noqa: E402
from il_robot.policies.checkpoint import load_checkpoint  # noqa: E402
from il_robot.policies.runtime import PolicyRuntime  # noqa: E402
from il_robot.types import Outcome, Source  # noqa: E402

TARGET = 8.0
SHARE = 0.95
MOST_ROUNDS = 25
FPS = 20.0
FIRST_SEED = 10  # recipes were chosen on those before
DEFAULT = 'default_linear_0.001_4'
THEIRS = (DEFAULT, 'quick_linear_0.001_4', 'quick_exponential_0.001_4',
          'quick_exponential_0.003_10', 'quick_exponential_0.01_4')
OURS = ('ours_exponential', 'ours_linear')
STEPS, BATCH, RATE = 500, 128, 0.01
Rows = dict[str, list[Any]]


def recipe_of(seed: int) -> Recipe:
    """A one-step policy of the library's size."""
    return make_recipe({
        'policy': 'mlp', 'model': {'hidden': [32, 32], 'loss': 'mse'},
        'training': {
            'steps': STEPS, 'batch_size': BATCH, 'learning_rate': RATE, 'warmup_steps': 20,
            'grad_clip': 0.0, 'validation': 0.0, 'log_every': STEPS, 'checkpoint_every': STEPS,
            'seed': seed, 'device': 'cpu', 'threads': 1}})


class Driver:
    """The policy of a checkpoint, one observation at a time or many.

    Args:
        checkpoint: Its folder.
    """

    def __init__(self, checkpoint: Path) -> None:
        described, self._policy = load_checkpoint(checkpoint)
        self._normalizer = described.normalizer
        example = {'features': torch.zeros(1, 1, 3)}
        self._runtime = PolicyRuntime(self._policy, example, 'numpy')
        self._generator = torch.Generator()

    def act(self, state: np.ndarray) -> np.ndarray:
        """The torque ``(1,)`` for ``(3,)``."""
        features = self._normalizer.normalize('features', state[None, None])
        answer = self._runtime({'features': torch.from_numpy(features)}, self._generator)
        return self._normalizer.unnormalize('action', answer)[0]

    def act_many(self, states: np.ndarray) -> np.ndarray:
        """The torques ``(N, 1)`` for ``(N, 3)``."""
        features = torch.from_numpy(self._normalizer.normalize('features', states))[:, None]
        with torch.inference_mode():
            answer = self._policy.predict({'features': features}, self._generator)
        return self._normalizer.unnormalize('action', answer[:, 0].numpy())


def collect(
    env: Any, driver: Driver | None, gate: BetaGate, seed: int, number: int, rows: Rows
) -> None:
    """One episode of a round; its rows are added."""
    gate.reset(np.random.default_rng([seed, 3]))
    state, _ = env.reset(seed=seed)
    correcting, ended, frame = False, False, 0
    while not ended:
        label = pendulum.expert(state[None])[0]
        proposal = label if driver is None else driver.act(state)
        if driver is not None:
            verdict = gate.update(Signals(frame / FPS, correcting))
            correcting = correcting if verdict.move is Move.KEEP else verdict.move is Move.TAKE
        expert = correcting or driver is None
        action = label if expert else proposal
        following, reward, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated
        for key, value in (
                (keys.STATE, state), (keys.ACTION, action), (keys.PROPOSAL_POLICY, proposal),
                (keys.PROPOSAL_EXPERT, label), (keys.REWARD, reward), (keys.ROUND, number),
                (keys.SOURCE, Source.EXPERT if expert else Source.POLICY),
                (keys.INTERVENTION, correcting)):
            rows[key].append(value)
        state, frame = following, frame + 1


KINDS: Mapping[str, tuple[type, int]] = {
    keys.STATE: (np.float32, 3), keys.ACTION: (np.float32, 1),
    keys.PROPOSAL_POLICY: (np.float32, 1), keys.PROPOSAL_EXPERT: (np.float32, 1),
    keys.REWARD: (np.float32, 0), keys.ROUND: (np.int64, 0), keys.SOURCE: (np.int64, 0),
    keys.INTERVENTION: (np.bool_, 0)}


def aggregated(rows: Rows) -> Dataset:
    """All rows so far; a third of a round's is an episode."""
    count, length = len(rows[keys.STATE]), pendulum.LENGTH
    episodes = tuple(
        EpisodeRecord(i, i * length, (i + 1) * length, 'stand up', 'pendulum', Outcome.UNKNOWN,
                      -1, int(rows[keys.ROUND][i * length]), '', {})
        for i in range(count // length))
    features = {key: {'dtype': np.dtype(kind).name, 'shape': [width or 1]}
                for key, (kind, width) in KINDS.items()}
    features[keys.STATE]['names'] = ['cosine', 'sine', 'speed']
    columns = {key: np.array(rows[key], kind) for key, (kind, _) in KINDS.items()}
    return Dataset(Path('memory'), FPS, features, None, episodes, columns)


def ours(schedule: str, seed: int, most: int, target: float) -> Rounds:
    """Rounds until the target is reached."""
    rows: Rows = {key: [] for key in KINDS}
    driver: Driver | None = None
    with tempfile.TemporaryDirectory() as folder:
        clock = pendulum.Clock(target)
        env = gymnasium.make('Pendulum-v1')
        for number in range(most):
            gate = BetaGate(pendulum.beta(schedule, number))
            for i in range(pendulum.EPISODES):
                collect(env, driver, gate, 1_000_000 * (seed + 1) + 100 * number + i, number, rows)
            result = train(
                aggregated(rows), recipe_of(seed), Path(folder) / f'{number:02d}')
            driver = Driver(result.checkpoint)
            if clock.reached(driver.act_many):
                break
    return clock.rounds


def wanted() -> dict[str, float]:
    """Mean returns over the evaluated episodes: of random torques, of the expert, the target."""
    rng = np.random.default_rng(0)
    low = float(pendulum.returns(
        lambda seen: rng.uniform(-pendulum.TORQUE, pendulum.TORQUE, (len(seen), 1)),
        pendulum.EVALUATED).mean())
    high = float(pendulum.returns(pendulum.expert, pendulum.EVALUATED).mean())
    return {'random': low, 'expert': high, 'target': low + SHARE * (high - low)}


def take_turns(imitation: Peer, seeds: int, target: float) -> dict[str, list[Rounds]]:
    """The rounds of each setting, for each seed."""
    def one(name: str, seed: int, most: int) -> Rounds:
        if name.startswith('ours_'):
            return ours(name.removeprefix('ours_'), seed, most, target)
        rounds: Rounds = imitation.answer(name, seed, most)
        return rounds

    found: dict[str, list[Rounds]] = {name: [] for name in (*OURS, *THEIRS)}
    for name in (OURS[0], THEIRS[0]):
        one(name, 0, 2)
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for name, runs in found.items():
            runs.append(one(name, seed, MOST_ROUNDS))
            seconds, _, value = runs[-1][-1]
            print(f'seed {seed} {name:28} {seconds:6.2f} s {len(runs[-1]):3} rounds, '
                  f'return {value:.0f}', flush=True)
    return found


def summary(found: dict[str, list[Rounds]], target: float) -> list[dict[str, Any]]:
    """A row for each setting; a run that has not got there counts as long as it took."""
    rows = []
    for name, runs in found.items():
        seconds = [run[-1][0] for run in runs]
        rows.append({
            'setting': name, 'median_s': round(statistics.median(seconds), 3),
            'seconds': [round(s, 3) for s in seconds],
            'median_processor_s': round(statistics.median(run[-1][1] for run in runs), 3),
            'rounds': [len(run) for run in runs],
            'reached': sum(run[-1][2] >= target for run in runs)})
    return rows


def ratio(found: dict[str, list[Rounds]], theirs: str, own: str) -> dict[str, float]:
    """Median of the seeds' ratios of times, of the wall and of the processor."""
    return {name: round(statistics.median(
        b[-1][i] / a[-1][i] for a, b in zip(found[own], found[theirs])), 2)
        for i, name in enumerate(('wall', 'processor'))}


def main() -> int:
    """Measure, print, write; 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--imitation-python', required=True, help='python with imitation 1.0.1')
    parser.add_argument('--seeds', type=int, default=5, help='runs of each setting')
    args = parser.parse_args()
    torch.set_num_threads(1)
    aim = wanted()
    os.environ['OMP_NUM_THREADS'] = '1'
    imitation = Peer(args.imitation_python, 'imitation_dagger.py', aim['target'])
    found = take_turns(imitation, args.seeds, aim['target'])
    imitation.close()
    rows = summary(found, aim['target'])
    quickest = min((r for r in rows if r['setting'] in THEIRS), key=lambda r: r['median_s'])
    ratios = {
        'defaults': ratio(found, DEFAULT, OURS[0]),
        'against_quickest': ratio(found, quickest['setting'], OURS[0]),
        'same_schedule_linear': ratio(found, DEFAULT, OURS[1]),
        'same_schedule_exponential': ratio(found, 'quick_exponential_0.001_4', OURS[0])}
    print(f'quickest of theirs {quickest["setting"]}, ratios {ratios}')
    (HERE / 'results' / 'dagger_vs_imitation.json').write_text(json.dumps({
        'command': 'python3 benchmarks/dagger_vs_imitation.py --imitation-python '
                   f'IMITATION/bin/python --seeds {args.seeds}',
        'n': args.seeds, 'first_seed': FIRST_SEED, 'mean_returns': aim,
        'evaluated_episodes': len(pendulum.EVALUATED), 'episodes_per_round': pendulum.EPISODES,
        'ours_steps_per_round': STEPS, 'ours_batch': BATCH,
        'machine': {'processor': platform.machine(), 'system': platform.system(),
                    'cpus': os.cpu_count(), 'python': platform.python_version(),
                    'load_average': [round(v, 1) for v in os.getloadavg()]},
        'versions': {p: version(p) for p in ('torch', 'numpy', 'gymnasium')},
        'difference_to_gymnasium': pendulum.differences(gymnasium.make('Pendulum-v1')),
        'versions_imitation': imitation.about, 'target': TARGET, 'ratios': ratios,
        'quickest': quickest['setting'], 'rows': rows}, indent=1) + '\n')
    return int(ratios['defaults']['wall'] < TARGET)


if __name__ == '__main__':
    sys.exit(main())
