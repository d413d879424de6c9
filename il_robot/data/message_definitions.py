"""ROS message definitions as a bag needs them: the ``.msg`` text with everything it refers to.

Read from the ``share/`` folders that ROS packages install (a ROS installation and the wheels
alike); no ROS library is needed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from il_robot.errors import DatasetError

_SEPARATOR = '=' * 80
_PRIMITIVES = frozenset(
    'bool byte char float32 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 '
    'string wstring'.split())


def share_folders() -> tuple[Path, ...]:
    """Where ``<package>/msg/*.msg`` may lie: every ament prefix, then this Python's prefix."""
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    return tuple(Path(prefix, 'share') for prefix in dict.fromkeys(prefixes) if prefix)


@lru_cache(maxsize=256)
def message_definition(type_name: str, folders: tuple[Path, ...]) -> tuple[str, str]:
    """The definition of a message type in the form MCAP calls ``ros2msg``, and its hash.

    Args:
        type_name: For example ``sensor_msgs/msg/JointState``.
        folders: See :func:`share_folders`.

    Returns:
        The text (the type's own, then one block per type it refers to, at any depth), and the
        type hash (``RIHS01_...``), empty where the package ships none.

    Raises:
        DatasetError: the type, or one it refers to, is not installed.
    """
    own = _file(type_name, folders)
    blocks = [own.read_text(encoding='utf-8')]
    seen = {type_name}
    waiting = list(_references(blocks[0], type_name))
    while waiting:
        name = waiting.pop(0)
        if name not in seen:
            seen.add(name)
            text = _file(name, folders).read_text(encoding='utf-8')
            blocks.append(f'{_SEPARATOR}\nMSG: {name.replace("/msg/", "/")}\n{text}')
            waiting += _references(text, name)
    return '\n'.join(blocks), _hash(own.with_suffix('.json'), type_name)


def _file(type_name: str, folders: Sequence[Path]) -> Path:
    package, _, name = type_name.partition('/msg/')
    for folder in folders:
        path = folder / package / 'msg' / f'{name}.msg'
        if name and path.is_file():
            return path
    places = ', '.join(map(str, folders))
    raise DatasetError(
        f'message type {type_name} is not installed: no {package}/msg/{name}.msg in {places}; '
        f'install the package {package}')


def _references(text: str, type_name: str) -> Iterator[str]:
    """The message types that the fields of a definition name."""
    package = type_name.partition('/')[0]
    for line in text.splitlines():
        words = line.partition('#')[0].split()
        if not words:
            continue
        base = re.split(r'\[|<=', words[0])[0]
        if base not in _PRIMITIVES:
            where, _, name = base.rpartition('/')
            yield f'{(where or package).removesuffix("/msg")}/msg/{name}'


def _hash(file: Path, type_name: str) -> str:
    if not file.is_file():
        return ''
    hashes = json.loads(file.read_text(encoding='utf-8')).get('type_hashes', [])
    return next((str(h['hash_string']) for h in hashes if h['type_name'] == type_name), '')
