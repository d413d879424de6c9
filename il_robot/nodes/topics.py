"""Every topic and service name of the graph with its QoS; nothing else names one.

Names are relative, so that a namespace or a remapping moves the whole graph. QoS follows
REP 2003: sensors are published reliable (both kinds of subscriber match), state that a late
node must know is latched.
"""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

JOINT_STATES = 'joint_states'
COMMAND = 'command'
TELEOP_PROPOSAL = 'teleop/proposal'
EXPERT_PROPOSAL = 'expert/proposal'
POLICY_PROPOSAL = 'policy/proposal'
POLICY_STATUS = 'policy/status'
POLICY_ASSESSMENT = 'policy/assessment'
GATE_STATE = 'gate/state'
REQUEST = 'session/request'
MODE = 'session/mode'
RECORDING = 'session/episode'
SIM_EPISODE = 'sim/episode'
DIAGNOSTICS = 'diagnostics'
JOY = 'joy'
LEADER_STATES = 'leader/joint_states'
CLOCK = '/clock'  # ROS itself listens there, whatever the namespace

SIM_RESET, SIM_DISTURB, SIM_PAUSE = 'sim/reset', 'sim/disturb', 'sim/pause'
POLICY_RELOAD = 'policy/reload'
DAGGER_STATUS = 'dagger/status'
DAGGER_SKIP, DAGGER_ROLLBACK = 'dagger/skip', 'dagger/rollback'
DRY_RUN = 'hardware/dry_run'


def object_pose(name: str) -> str:
    """Topic of one object's pose."""
    return f'object/{name}/pose'


def hand(kind: str, arm: str) -> str:
    """Topic of an operator's hand: pose, twist, clutch or gripper, for one arm."""
    return f'teleop/{kind}/{arm}'


def image(camera: str) -> str:
    """Topic of a camera's raw images; ``/compressed`` after it is the JPEG stream."""
    return f'camera/{camera}/image_raw'


def compressed(camera: str) -> str:
    """Topic of a camera's JPEG images."""
    return f'{image(camera)}/compressed'


def camera_info(camera: str) -> str:
    """Topic of a camera's calibration."""
    return f'camera/{camera}/camera_info'


def service_of(request: str) -> str:
    """Service (std_srvs/Trigger) that makes the same request as the word on REQUEST."""
    return f'session/{request}'


def _reliable(depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)


STATE_QOS = _reliable(10)
DRIVER_STATE_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Matches every driver's joint states; an old one is worth nothing."""
SETPOINT_QOS = _reliable(1)
"""To controllers, which keep the newest only."""
COMMAND_QOS = QoSProfile(
    depth=10, reliability=ReliabilityPolicy.RELIABLE, liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(seconds=3))
"""With signs of life: an arbiter that was killed is soon no second writer beside the next one."""
PROPOSAL_QOS = _reliable(1)
CHUNK_QOS = _reliable(5)
REQUEST_QOS = _reliable(20)
JOY_QOS = _reliable(10)
DEVICE_SUBSCRIBER_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For leader arms, hands and twists, whose drivers publish either way."""
DIAGNOSTICS_QOS = _reliable(10)
IMAGE_QOS = _reliable(5)
IMAGE_SUBSCRIBER_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED_QOS = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
EVERY_MESSAGE_QOS = _reliable(200)
"""For a subscriber that must not miss one (the recorder)."""
EVERY_STATE_QOS = QoSProfile(
    depth=200, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""The same for what is latched: a recorder that lags behind must still hear of every change."""
EVERY_IMAGE_QOS = _reliable(90)
"""The same for images, which are large: three seconds of them, should the machine stall."""
