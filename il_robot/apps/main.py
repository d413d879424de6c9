"""The ``il_robot`` command: one parser, one place where errors become exit codes.

Every sub-command is a module of this package with ``add_parser(subparsers)``, which adds its
parser and sets the default ``run`` to a function ``(namespace) -> exit code``. Modules import
what is heavy (torch, pybullet, pyarrow) inside that function, so that ``--help`` is quick.

Exit codes: 0 done, 1 the command ran and reports a failure, 2 an error the user can repair (one
line on stderr), 130 interrupted, 141 nobody reads the output. A traceback is a bug of ours.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Sequence
from types import ModuleType

from il_robot import __version__
from il_robot.apps import (
    bench,
    dagger,
    dataset,
    demo,
    evaluate,
    export,
    finetune,
    launch,
    record,
    train,
    view,
)
from il_robot.errors import ConfigError, IlRobotError, unknown

_PROG = 'il_robot'
_COMMANDS: dict[str, ModuleType] = {
    'demo': demo, 'record': record, 'train': train, 'evaluate': evaluate, 'dagger': dagger,
    'finetune': finetune, 'bench': bench, 'dataset': dataset,
    'export': export, 'view': view, 'launch': launch,
}


def build_parser() -> argparse.ArgumentParser:
    """The parser with every sub-command."""
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description='Imitation learning for bimanual manipulation: record, train, evaluate, '
                    'correct.',
        epilog=f'"{_PROG} COMMAND --help" shows the options of a command and an example.',
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for command in _COMMANDS.values():
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        The exit code (see the module's docstring).

    Raises:
        SystemExit: from argparse: 0 after ``--help`` and ``--version``, 2 for a wrong option.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    name = next((a for a in arguments if not a.startswith('-')), '')
    prog = f'{_PROG} {name}' if name in _COMMANDS else _PROG
    try:
        if name and name not in _COMMANDS:
            raise ConfigError(unknown('command', name, _COMMANDS))
        code = _execute(arguments)
    except IlRobotError as error:
        print(f'{prog}: error: {error}', file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith('il_robot'):
            raise
        print(
            f"{prog}: error: {error.name} is not installed: pip install 'il_robot[sim,train]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f'\n{prog}: interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _stdout_closed():
            raise  # another pipe, of a worker that died: a bug to be seen
        return 141
    return code


def _execute(arguments: list[str]) -> int:
    try:
        namespace = build_parser().parse_args(arguments)
        return int(namespace.run(namespace))
    finally:
        sys.stdout.flush()  # here, so that a closed stdout is seen in main() and not at exit


def _stdout_closed() -> bool:
    """Whether the reader of stdout has gone (``il_robot ... | head``); silences it then."""
    poller = select.poll()
    poller.register(1, 0)  # no events asked for: errors and hang-ups are always reported
    if not poller.poll(0):
        return False
    # Python's own flush at exit must have somewhere to go
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True
