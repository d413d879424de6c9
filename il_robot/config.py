"""Checked configuration: YAML or ``key=value`` text into frozen dataclasses.

An unknown key, a missing one, or a value of the wrong type is an error that names the file,
the key and the values that would be right. yaml is imported here and in no other core module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union

from il_robot.errors import ConfigError, unknown

T = TypeVar('T')


def load_yaml(path: Path | str) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ConfigError: no such file, not YAML, a key given twice, or not a mapping at the top.
    """
    import yaml

    path = Path(path)
    try:
        loader = yaml.SafeLoader(path.read_text(encoding='utf-8'))
        node = loader.get_single_node()
        _check_keys_once(node, path)
        data = loader.construct_document(node) if node else None
    except OSError as error:
        raise ConfigError(f'cannot read {path}: {error.strerror}') from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path} is not valid YAML: {error}') from None
    if not isinstance(data, dict):
        raise ConfigError(f'{path}: the top level must be a mapping of keys')
    return data


def _check_keys_once(node: Any, path: Path) -> None:
    """Refuse a key given twice, of which YAML would silently keep the last."""
    if node is None or not isinstance(node.value, list):
        return
    children = node.value
    if node.id == 'mapping':
        seen: set[str] = set()
        for key, _ in children:
            if key.value in seen:
                raise ConfigError(f'{path}:{key.start_mark.line + 1}: {key.value!r} given twice')
            seen.add(str(key.value))
        children = [value for _, value in children]
    for child in children:
        _check_keys_once(child, path)


def build(cls: type[T], data: Mapping[str, Any], where: str = 'config') -> T:
    """Make the dataclass ``cls`` from a mapping, recursively, checking keys and types.

    Args:
        cls: A dataclass; nested dataclasses, tuples of them, ``dict[str, X]``, ``X | None``
            and Literal fields are understood.
        data: Keys and values as YAML gives them. Where a float is wanted, an int is accepted
            and so is ``1e-4``, which YAML 1.1 reads as text; NaN is not.
        where: Shown in errors: a file or option, then the path of keys.

    Raises:
        ConfigError: unknown or missing key, wrong type, or the dataclass's own check failed.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f'{where}: expected keys of {cls.__name__}, got {data!r}')
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise ConfigError(unknown('key', key, fields, where))
    missing = [
        name for name, f in fields.items()
        if name not in data and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f'{where}: missing key(s) {", ".join(missing)}')
    values = {k: _convert(hints[k], v, f'{where}: {k}') for k, v in data.items()}
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise ConfigError(f'{where}: {error}') from None


def override(config: T, settings: Sequence[str], where: str = '--set') -> T:
    """A copy of ``config`` with ``key=value`` texts applied (values parsed as YAML).

    Raises:
        ConfigError: text without '=', unknown key, or a value of the wrong type.
    """
    import yaml

    data = to_dict(config)
    for text in settings:
        key, equals, value = text.partition('=')
        if not equals:
            raise ConfigError(f'{where} {text!r}: write key=value')
        target = data
        *parents, leaf = key.strip().split('.')
        for parent in parents:
            if parent not in target:
                raise ConfigError(unknown('key', parent, target, f'{where} {text}'))
            target = target[parent]
            if not isinstance(target, dict):
                raise ConfigError(f'{where} {text}: {parent} is a value and has no keys')
        if leaf not in target:
            raise ConfigError(unknown('key', leaf, target, f'{where} {text}'))
        try:
            target[leaf] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f'{where} {key}: {value!r} is not a YAML value: {error}') from None
    return build(type(config), data, where)


def key_values(texts: Sequence[str], where: str) -> dict[str, Any]:
    """``KEY=VALUE`` texts as a mapping, values read as YAML.

    Raises:
        ConfigError: no '=', or a value that is not YAML.
    """
    import yaml

    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition('=')
        if not equals or not key:
            raise ConfigError(f'{where} {text!r}: write KEY=VALUE, for example shoves=2')
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f'{where} {key}: {value!r} is not a value: {error}') from None
    return values


def to_dict(config: Any) -> dict[str, Any]:
    """The dataclass as plain JSON types (tuples become lists, enums their value)."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.value if isinstance(value, enum.Enum) else value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(unknown('value', value, map(str, args), where))
        return value
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint(value)
        except ValueError:
            valid = [str(member.value) for member in hint]
            raise ConfigError(unknown('value', value, valid, where)) from None
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f'{where} must be a mapping, got {value!r}')
        return {k: _convert(args[1], v, f'{where}.{k}') for k, v in value.items()} if args \
            else dict(value)
    if hint is Any:
        return value
    if hint is float:
        return _convert_float(value, where)
    if hint in (int, str, bool):
        if type(value) is not hint:
            raise ConfigError(f'{where} must be {hint.__name__}, got {value!r}')
        return value
    return hint(value)


def _convert_float(value: Any, where: str) -> float:
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
    if math.isnan(number):
        raise ConfigError(f'{where} must be float, got {value!r}')
    return number


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f'{where} must be a list, got {value!r}')
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], v, f'{where}[{i}]') for i, v in enumerate(value))
    if len(args) != len(value):
        raise ConfigError(f'{where} must have {len(args)} entries, got {len(value)}')
    return tuple(_convert(a, v, f'{where}[{i}]') for i, (a, v) in enumerate(zip(args, value)))
