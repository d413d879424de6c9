import dataclasses
import math
import string
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.config import build, load_yaml, override, to_dict
from il_robot.errors import ConfigError
from il_robot.types import Outcome


@dataclass(frozen=True)
class Inner:
    width: int
    rate: float = 1.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError('width must be >= 1')


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    flag: bool = False
    lr: float = 1e-4
    kind: Literal['mlp', 'chunk_mlp'] = 'mlp'
    outcome: Outcome = Outcome.UNKNOWN
    limit: float | None = None
    pair: tuple[float, float] = (0.0, 0.0)
    parts: tuple[Inner, ...] = ()
    scales: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


floats = st.floats(allow_nan=False)
inners = st.builds(Inner, st.integers(1, 10**9), floats)
outers = st.builds(
    Outer, st.text(), inners, st.booleans(), floats, st.sampled_from(['mlp', 'chunk_mlp']),
    st.sampled_from(Outcome), st.none() | floats, st.tuples(floats, floats),
    st.lists(inners, max_size=3).map(tuple), st.dictionaries(st.text(), floats, max_size=3),
)
MINIMAL = {'name': 'x', 'inner': {'width': 2}}


@given(outers)
def test_build_is_the_inverse_of_to_dict(config):
    assert build(Outer, to_dict(config)) == config


@given(outers, floats, st.integers(1, 99))
def test_override_changes_what_it_names_and_nothing_else(config, lr, width):
    changed = override(config, [f'lr={lr!r}', f'inner.width={width}'])
    inner = dataclasses.replace(config.inner, width=width)
    assert changed == dataclasses.replace(config, lr=lr, inner=inner)
    assert override(config, []) == config


@given(st.text(string.ascii_lowercase, min_size=1))
def test_an_unknown_key_is_refused_with_the_valid_ones(key):
    if key not in to_dict(build(Outer, MINIMAL)):
        with pytest.raises(ConfigError) as error:
            build(Outer, {**MINIMAL, key: 1}, 'x.yaml')
        for text in ('x.yaml', repr(key), 'scales'):
            assert text in str(error.value)


@pytest.mark.parametrize(('change', 'said'), [
    ({'inner': {'widht': 1}}, "x.yaml: inner: did you mean 'width'?"),
    ({'inner': {}}, 'x.yaml: inner: missing key(s) width'),
    ({'inner': 3}, 'x.yaml: inner: expected keys of Inner, got 3'),
    ({'inner': {'width': 0}}, 'x.yaml: inner: width must be >= 1'),
    ({'inner': {'width': 1.0}}, 'x.yaml: inner: width must be int, got 1.0'),
    ({'inner': {'width': True}}, 'x.yaml: inner: width must be int, got True'),
    ({'name': 3}, 'x.yaml: name must be str, got 3'),
    ({'flag': 1}, 'x.yaml: flag must be bool, got 1'),
    ({'flag': 'yes please'}, "x.yaml: flag must be bool, got 'yes please'"),
    ({'lr': 'fast'}, "x.yaml: lr must be float, got 'fast'"),
    ({'lr': True}, 'x.yaml: lr must be float, got True'),
    ({'lr': None}, 'x.yaml: lr must be float, got None'),
    ({'lr': math.nan}, 'x.yaml: lr must be float, got nan'),
    ({'lr': 'nan'}, "x.yaml: lr must be float, got 'nan'"),
    ({'lr': 10**400}, 'x.yaml: lr must be float, got 1'),
    ({'kind': 'chunk'}, "x.yaml: kind: did you mean 'chunk_mlp'? Valid: chunk_mlp, mlp"),
    ({'outcome': 'sucess'}, "x.yaml: outcome: did you mean 'success'?"),
    ({'limit': 'none'}, "x.yaml: limit must be float, got 'none'"),
    ({'pair': [1.0]}, 'x.yaml: pair must have 2 entries, got 1'),
    ({'pair': 1.0}, 'x.yaml: pair must be a list, got 1.0'),
    ({'pair': [1, 'a']}, "x.yaml: pair[1] must be float, got 'a'"),
    ({'parts': [{'width': 1}, {'width': 'a'}]}, "x.yaml: parts[1]: width must be int, got 'a'"),
    ({'scales': [1]}, 'x.yaml: scales must be a mapping, got [1]'),
    ({'scales': {'a': 'b'}}, "x.yaml: scales.a must be float, got 'b'"),
])
def test_the_error_names_file_key_and_value(change, said):
    with pytest.raises(ConfigError) as error:
        build(Outer, {**MINIMAL, **change}, 'x.yaml')
    assert said in str(error.value)


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match=r'x.yaml: missing key\(s\) name, inner'):
        build(Outer, {}, 'x.yaml')


@pytest.mark.parametrize(('given', 'expected'), [(3, 3.0), ('1e-4', 1e-4), (math.inf, math.inf)])
def test_a_float_may_be_written_as_yaml_reads_it(given, expected):
    value = build(Outer, {**MINIMAL, 'lr': given}).lr
    assert value == expected
    assert type(value) is float


@pytest.mark.parametrize(('setting', 'said'), [
    ('lr', "--set 'lr': write key=value"),
    ('rl=1', "unknown key 'rl' in --set rl=1"),
    ('outer.width=1', "unknown key 'outer' in --set"),
    ('inner.widht=1', "did you mean 'width'?"),
    ('name.x=1', '--set name.x=1: name is a value and has no keys'),
    ('lr=fast', "--set: lr must be float, got 'fast'"),
    ('lr=[1', "--set lr: '[1' is not a YAML value"),
    ('inner.width=0', '--set: inner: width must be >= 1'),
])
def test_a_wrong_override_is_explained(setting, said):
    with pytest.raises(ConfigError) as error:
        override(build(Outer, MINIMAL), [setting])
    assert said in str(error.value)


def test_override_takes_the_numbers_people_type():
    config = override(build(Outer, MINIMAL), ['lr=3e-4', 'limit=1', 'pair=[1, 2]', 'flag=true'])
    assert (config.lr, config.limit, config.pair, config.flag) == (3e-4, 1.0, (1.0, 2.0), True)
    assert override(config, ['limit=null']).limit is None


@pytest.mark.parametrize(('content', 'said'), [
    (b'a: [1', 'is not valid YAML'),
    (b'- 1', 'top level must be a mapping'),
    (b'', 'top level must be a mapping'),
    (b'a: \xff', 'is not valid YAML'),
    (b'a: !!python/object/apply:os.system ["true"]', 'is not valid YAML'),
    (b'a: 1\nb: 2\na: 3', "x.yaml:3: 'a' given twice"),
    (b'a:\n  - {b: 1}\n  - {b: 1, b: 2}', "x.yaml:3: 'b' given twice"),
])
def test_a_bad_file_is_one_clear_error(tmp_path, content, said):
    path = tmp_path / 'x.yaml'
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_yaml(path)
    assert said in str(error.value)


def test_a_missing_file_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match='cannot read .*no.yaml: No such file'):
        load_yaml(tmp_path / 'no.yaml')
    with pytest.raises(ConfigError, match='cannot read .*directory'):
        load_yaml(tmp_path)


def test_load_yaml_reads_anchors_and_merges(tmp_path):
    path = tmp_path / 'x.yaml'
    path.write_text('a: &a {x: 1, y: ü}\nb: {<<: *a, x: 2}\n', encoding='utf-8')
    assert load_yaml(path) == {'a': {'x': 1, 'y': 'ü'}, 'b': {'x': 2, 'y': 'ü'}}
