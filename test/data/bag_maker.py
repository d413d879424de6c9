"""Bags of synthetic episodes, as the graph would have published them."""

from __future__ import annotations

import json

import ros_messages as ros

from il_robot.data.bags import BagWriter

DT = 0.02
T0 = 1_795_000_000.0  # a wall time: floats are 0.24 us apart there


def write_bag(path, spec, steps, views=(), metadata=None, jpeg=False, ns='', spoil=None,
              log_step=1, ended=True):
    """A bag of these steps as the graph publishes them; ``spoil(i, name, data)`` may change it.

    Messages are received ``log_step`` [ns] apart; nobody says the end unless ``ended``.

    Returns:
        Stamps of the steps and of the state reached.
    """
    bag = BagWriter(path, metadata or {})
    kinds = {'joint_states': ros.JOINTS, 'command': ros.JOINTS, 'expert/proposal': ros.JOINTS,
             'policy/proposal': ros.CHUNK, 'session/mode': ros.STATUS,
             'policy/status': ros.STATUS, 'sim/episode': ros.STATUS}
    names = steps[0].observation.objects
    kinds |= {f'object/{name}/pose': ros.POSE for name in names}
    for camera in views:
        kinds[f'camera/{camera.name}/image_raw' + '/compressed' * jpeg] = \
            ros.JPEG if jpeg else ros.IMAGE
    for name, kind in kinds.items():
        bag.add_topic(ros.topic(f'{ns}/{name}', kind))
    times = [float(T0 + i * spec.dt) for i in range(len(steps) + 1)]
    clock = iter(range(10**18, 2 * 10**18, log_step))

    def put(i, name, data):
        data = spoil(i, name, data) if spoil else data
        if data is not None:
            bag.write(f'{ns}/{name}', data, next(clock))

    put(0, 'policy/status', ros.status(
        T0, checkpoint='c0ffee', chunk_size=1, execution_mode='newest', n_action_steps=1,
        decay=0.0))
    joints = spec.joint_names
    driver = None
    for i, (t, step) in enumerate(zip(times, steps)):
        o = step.observation
        for name, value in o.objects.items():
            put(i, f'object/{name}/pose', ros.pose(t, value))
        for camera in views:
            suffix, make = ('/compressed', ros.jpeg) if jpeg else ('', ros.image)
            put(i, f'camera/{camera.name}/image_raw{suffix}', make(t, o.images[camera.name]))
        if i in (0, len(steps) - 1):
            put(i, 'sim/episode', ros.status(
                t if i == 0 else times[-1], seed=7, task='transfer_cube',
                success=str(i > 0).lower(), terminated=str(i > 0).lower()))
        put(i, 'joint_states', ros.joints(t, joints, o.state))
        if step.expert is not None:
            put(i, 'expert/proposal', ros.joints(t, joints, step.expert))
        put(i, 'policy/proposal', ros.chunk(t, joints, [t], [step.policy]))
        if (now := (step.source, step.intervention)) != driver:
            driver = now
            put(i, 'session/mode', ros.status(
                t, mode='X', intervention=str(step.intervention).lower(), **{
                    f'driver_{arm.name}': s.name.lower()
                    for arm, s in zip(spec.arms, step.source)}))
        put(i, 'command', ros.joints(t, joints[::-1], step.action[::-1]))
    put(len(steps), 'joint_states', ros.joints(times[-1], joints, steps[-1].action))
    bag.close({'end': repr(times[-1]), 'outcome': 'success'} if metadata and ended else {})
    return times


def known(spec, **more):
    return {'robot': json.dumps(spec.to_dict()), 'task': 'transfer_cube', 'language': 'do it',
            'start': repr(T0), 'round': '2', **more}
