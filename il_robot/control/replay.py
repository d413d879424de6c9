"""What a policy proposed at given times, from its recorded chunks: the arbiter's own buffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from il_robot.config import build
from il_robot.control.chunks import ChunkBuffer, Execution
from il_robot.errors import ActionError, ConfigError
from il_robot.spec import RobotSpec
from il_robot.types import ActionChunk, Float32, Float64


def policy_actions(
    chunks: Sequence[ActionChunk], status: Mapping[str, str], stamps: Float64, spec: RobotSpec
) -> Float32:
    """The policy's own action at each time.

    Every chunk counts from the stamp of its observation on: this is what the policy thinks of
    that state, whatever the network's latency was and whoever drove.

    Args:
        chunks: In any order.
        status: What the policy says of itself on ``policy/status``: ``chunk_size``,
            ``execution_mode``, ``n_action_steps``, ``decay``, ``blend_steps``. Empty: the newest
            chunk counts.
        stamps: ``(N,)`` increasing [s].
        spec: The robot.

    Returns:
        ``(N, D)``; NaN where no chunk covers the time.

    Raises:
        ConfigError: the status lacks something or says what cannot be.
    """
    out = np.full((len(stamps), spec.dim), np.nan, np.float32)
    if not chunks:
        return out
    size, execution = _execution(chunks, status)
    buffer = ChunkBuffer(size, spec.dim, spec.dt, execution)
    waiting = sorted(chunks, key=lambda chunk: chunk.stamp, reverse=True)
    for i, now in enumerate(stamps):
        while waiting and waiting[-1].stamp <= now:
            try:
                buffer.push(waiting.pop())
            except ActionError:
                continue  # the arbiter refused it too
        action = buffer.action(float(now))
        if action is not None:
            out[i] = action
    return out


def _execution(
    chunks: Sequence[ActionChunk], status: Mapping[str, str]
) -> tuple[int, Execution]:
    if not status:
        return max(len(chunk.times) for chunk in chunks), Execution('newest')
    try:
        execution = build(Execution, {
            'mode': status['execution_mode'], 'n_action_steps': int(status['n_action_steps']),
            'decay': float(status['decay']),
            # recordings of before there was such a thing do not have it
            'blend_steps': int(status.get('blend_steps', Execution.blend_steps))},
            'policy/status')
        return int(status['chunk_size']), execution
    except (KeyError, ValueError) as error:
        raise ConfigError(f'policy/status: {error!r} is missing or wrong') from None
