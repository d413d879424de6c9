"""The names of all dataset columns and files, in one place (docs/architecture.md)."""

from __future__ import annotations

STATE = 'observation.state'
OBJECTS = 'observation.environment_state'
IMAGES = 'observation.images.'
ACTION = 'action'
PROPOSAL_POLICY = 'proposal.policy'
PROPOSAL_EXPERT = 'proposal.expert'
SOURCE = 'source'
INTERVENTION = 'intervention'
ROUND = 'round'
REWARD = 'next.reward'
DONE = 'next.done'
SUCCESS = 'next.success'

TIMESTAMP = 'timestamp'
FRAME = 'frame_index'
EPISODE = 'episode_index'
INDEX = 'index'
TASK = 'task_index'
#: What every LeRobotDataset has.
REQUIRED = (TIMESTAMP, FRAME, EPISODE, INDEX, TASK)

#: How much a row counts; algorithms add it in memory, no file has it.
WEIGHT = 'weight'

POSE_FIELDS = ('x', 'y', 'z', 'qx', 'qy', 'qz', 'qw')

#: Value of ``source`` in a dataset that does not say who drove (LeRobot's own recordings).
UNKNOWN_SOURCE = -1

#: Columns where NaN is meaning ("proposed nothing"): kept out of the statistics.
MAY_BE_NAN = (PROPOSAL_POLICY, PROPOSAL_EXPERT)


def image_key(camera: str) -> str:
    """The column of a camera: ``observation.images.<camera>``."""
    return IMAGES + camera


def camera_name(key: str) -> str:
    """The camera of an image column; a column named otherwise is its own name."""
    return key.removeprefix(IMAGES)
