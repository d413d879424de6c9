"""Where launch/, config/ and urdf/ lie, in every way of installing.

They stand at the top of the source tree and are installed to ``share/il_robot``. Looked for,
in this order: the source tree this file is part of (checkout, ``pip install -e``, colcon
``--symlink-install``), the prefix this file was installed to (pip, colcon), the ament index.
"""

from __future__ import annotations

import os
from pathlib import Path

from il_robot.errors import ConfigError, unknown

_PACKAGE = 'il_robot'


def _candidates() -> list[Path]:
    here = Path(__file__).resolve()
    top = here.parent.parent
    found = [top] if (top / 'package.xml').is_file() else []
    # <prefix>/lib/pythonX.Y/site-packages/il_robot/resources.py -> <prefix>/share/il_robot
    found += [parent / 'share' / _PACKAGE for parent in (top, *top.parents)]
    found += [
        Path(prefix) / 'share' / _PACKAGE
        for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if prefix
    ]
    return found


def resource(*parts: str) -> Path:
    """The path of an installed file or folder, for example ``resource('config', 'robots')``.

    Raises:
        ConfigError: it exists nowhere; the message lists the places looked at.
    """
    tried = [base.joinpath(*parts) for base in _candidates()]
    for path in tried:
        if path.exists():
            return path
    places = '\n  '.join(dict.fromkeys(map(str, tried)))
    raise ConfigError(f'{"/".join(parts)} not found; looked at\n  {places}')


def named_config(kind: str, name: str) -> Path:
    """``config/<kind>/<name>.yaml``, or ``name`` itself where it is a path to a YAML file.

    Raises:
        ConfigError: no such name (the valid ones are listed) or no such file.
    """
    if name.endswith(('.yaml', '.yml')):
        if not Path(name).is_file():
            raise ConfigError(f'no file {name}')
        return Path(name)
    folder = resource('config', kind)
    path = folder / f'{name}.yaml'
    if not path.is_file():
        raise ConfigError(unknown(f'{kind} config', name, (p.stem for p in folder.glob('*.yaml'))))
    return path
