"""The policy node with a policy that sees cameras, in real processes."""

import io

import numpy as np
import pytest

pytest.importorskip('rclpy')

import torch
from diagnostic_msgs.msg import DiagnosticArray
from in_process import states_in_process
from PIL import Image as Picture
from relay import Relay
from sensor_msgs.msg import CompressedImage, JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

import il_robot.sim as sim
from il_robot.config import build
from il_robot.data.normalizer import fit_normalizer
from il_robot.nodes import convert, topics
from il_robot.policies.checkpoint import Checkpoint, save_checkpoint
from il_robot.policies.features import FeatureLayout
from il_robot.policies.mlp import ChunkMLPConfig
from il_robot.policies.observation import ObservationConfig

SPEC = sim.default_robot()
CAMERAS = ('overhead', 'wrist_left')


WAYS = {
    'encoded': {'objects': [], 'encoder': {'widths': [8, 8], 'keypoints': 8}},
    'estimated': {'objects': ['cube'], 'estimate': ['cube'], 'estimator': {'widths': [4, 4]}}}
"""Pictures as features, and poses from pictures."""


def untrained(folder, way):
    """Write a policy whose joints depend on what it sees; its folder."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    seen = build(ObservationConfig, {
        'cameras': CAMERAS, 'image_size': [24, 32], 'hands': False, 'scales': [], **WAYS[way]})
    layout = FeatureLayout(SPEC.joint_names, seen.objects)
    normalizer = fit_normalizer({
        'features': rng.normal(size=(50, layout.dim)),
        'action': SPEC.rest + 0.05 * rng.normal(size=(50, SPEC.dim))})
    description = Checkpoint(
        'chunk_mlp', ChunkMLPConfig((16,), chunk_size=6, n_obs_steps=2), layout, normalizer,
        SPEC, {'mode': 'newest', 'n_action_steps': 3}, task='transfer_cube', observation=seen,
        recorded=dict.fromkeys(CAMERAS, (48, 64)))
    save_checkpoint(folder, description, description.make_policy())
    return folder


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp('checkpoints') / 'seeing', 'encoded')


@pytest.mark.parametrize('way', WAYS)
def test_an_episode_over_topics_equals_one_in_process(graph, tmp_path, way):
    """Drawn by the sim's camera process, sent raw, made smaller by the node: the same bits.

    The simulator publishes the objects' poses, too: who estimates them does not listen.
    """
    checkpoint = untrained(tmp_path / 'seeing', way)
    graph.start('sim', lockstep=True, seed=10, cameras=list(CAMERAS), image_size=[64, 48],
                image_transport='raw')
    graph.start('policy', checkpoint=str(checkpoint), image_transport='raw', runtime='torch')
    relay = Relay(graph, SPEC)
    statuses = graph.collect(DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS)
    graph.until(lambda: len(relay.states) > 10, 'the policy drives')
    assert convert.status_values(statuses[-1])['objects'] == ''
    assert graph.call(Trigger, topics.SIM_RESET).message.endswith('seed 11')
    graph.until(lambda: relay.episode['seed'] == '11' and len(relay.states) >= 30)

    assert np.array_equal(relay.states[:30], states_in_process(checkpoint, 11, 30))


def jpeg(level, size=(64, 48)):
    buffer = io.BytesIO()
    Picture.new('RGB', size, (level, 0, 255 - level)).save(buffer, 'JPEG')
    return buffer.getvalue()


def test_a_camera_that_falls_silent_or_sends_rubbish_is_named(graph, checkpoint):
    process = graph.start('policy', checkpoint=str(checkpoint))
    state = graph.publisher(JointState, topics.JOINT_STATES, topics.STATE_QOS)
    cameras = {c: graph.publisher(CompressedImage, topics.compressed(c), topics.IMAGE_QOS)
               for c in CAMERAS}
    chunks = graph.collect(JointTrajectory, topics.POLICY_PROPOSAL, topics.CHUNK_QOS)
    statuses = graph.collect(DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS)
    diagnostics = graph.collect(DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
    tick = 0

    def show(pictures):
        nonlocal tick
        tick += 1
        stamp = tick * SPEC.dt
        for name, picture in pictures.items():
            cameras[name].publish(convert.compressed_message(stamp, name, picture))
        state.publish(convert.joint_state(stamp, SPEC, SPEC.rest))
        return False

    good = {c: jpeg(20) for c in CAMERAS}
    # Two topics: either may be heard first.
    graph.until(lambda: show(good) or chunks and statuses, 'a chunk and the status')
    assert convert.status_values(statuses[-1])['cameras'] == ' '.join(CAMERAS)

    silent = {'overhead': good['overhead']}
    for _ in range(20):  # until the last picture is too old
        show(silent)
    topic = topics.compressed('wrist_left')
    graph.until(lambda: show(silent) or any(
        f'waiting for {topic}' in m.status[0].message for m in diagnostics), 'the complaint')
    chunks.clear()
    for _ in range(10):
        show(silent)
    graph.until(lambda: f'waiting for {topic}' in process.output, 'the log')
    assert not chunks

    for rubbish, why in ((b'hello', 'cannot be decoded'), (jpeg(20, (48, 48)), 'distorted')):
        bad = {**silent, 'wrist_left': rubbish}
        graph.until(lambda bad=bad, why=why: show(bad) or why in process.output, why)
    assert not chunks
    graph.until(lambda: show(good) or chunks, 'a chunk once it sends again')
