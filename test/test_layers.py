"""The layer table of docs/architecture.md against every import, those inside functions too."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'il_robot'
PURE = {'core', 'control', 'data', 'sim', 'policies', 'algorithms', 'bench'}

# What a layer may import beside itself.
MAY_IMPORT = {
    'core': set(),
    'control': {'core'},
    'data': {'core'},
    'sim': {'core'},
    'policies': {'core', 'control.chunks', 'data.normalizer', 'data.pictures'},
    'algorithms': {'core', 'control', 'data', 'policies'},
    'bench': {'core', 'control', 'data', 'sim', 'policies', 'algorithms'},
    'apps': PURE,
    'nodes': {'core', 'control', 'data', 'policies', 'sim', 'algorithms.live_rounds'},
}
# 'ros' stands for rclpy, message packages, launch and the ament index.
NEVER = {
    'core': {'ros', 'torch', 'pybullet', 'gymnasium', 'pyarrow', 'av'},
    'control': {'ros', 'torch', 'pybullet', 'time', 'datetime'},
    'data': {'ros', 'torch', 'pybullet'},
    'sim': {'ros', 'torch'},
    'policies': {'ros', 'pybullet'},
    'algorithms': {'ros', 'pybullet'},
    'bench': {'ros', 'pybullet'},
    'apps': {'ros'},
    'nodes': set(),
}
# Modules of nodes/ that all of them share; a node never imports another node.
SHARED_BY_NODES = {
    'topics', 'convert', 'node', 'devices', 'raw_topics', 'sim_cameras', 'controllers',
    'loaded_policy', 'policy_inputs', 'session_port', 'child', 'proposals', 'arbiter_report',
    'recorder_bags'}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {module_name(p): p for p in sorted(PACKAGE.rglob('*.py'))}


def imports(module: str) -> Iterator[tuple[str, int]]:
    """(absolute name, line) of every import; ``from package import module`` gives the module."""
    path = MODULES[module]
    package = module if path.name == '__init__.py' else module.rpartition('.')[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                above = package.split('.')[: len(package.split('.')) - node.level + 1]
                base = '.'.join([*above, base]).rstrip('.')
            for alias in node.names:
                full = f'{base}.{alias.name}'
                yield (full if full in MODULES else base), node.lineno


def layer(module: str) -> str:
    """'core' for modules directly in the package, else the folder's name."""
    parts = module.split('.')
    return parts[1] if len(parts) > 2 or (PACKAGE / parts[-1]).is_dir() else 'core'


def third_party(name: str) -> str:
    top = name.split('.')[0]
    ros = {'rclpy', 'launch', 'launch_ros', 'ament_index_python', 'std_srvs', 'rosidl_runtime_py'}
    return 'ros' if top in ros or top.endswith('_msgs') else top


IN_LAYERS = [m for m in MODULES if m not in ('il_robot', 'il_robot.__main__')]


@pytest.mark.parametrize('module', IN_LAYERS)
def test_imports_only_what_its_layer_may(module):
    here = layer(module)
    assert here in MAY_IMPORT, f'{here} has no row in the layer table'
    wrong = []
    for name, line in imports(module):
        if name.split('.')[0] != 'il_robot':
            if third_party(name) in NEVER[here]:
                wrong.append(f'{MODULES[module]}:{line}: {here} never imports {name}')
        elif name != 'il_robot' and layer(name) != here:
            allowed = MAY_IMPORT[here]
            if layer(name) not in allowed and name.removeprefix('il_robot.') not in allowed:
                wrong.append(f'{MODULES[module]}:{line}: {here} may not import {name}')
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('module', [m for m in IN_LAYERS if layer(m) == 'core'])
def test_core_needs_numpy_alone_and_yaml_in_config(module):
    allowed = {'numpy', 'il_robot', *({'yaml'} if module == 'il_robot.config' else ())}
    outside = {
        name for name, _ in imports(module)
        if name.split('.')[0] not in allowed | sys.stdlib_module_names
    }
    assert not outside


def test_no_import_ring():
    graph = {
        module: {n for n, _ in imports(module) if n in MODULES and n != 'il_robot'}
        for module in MODULES
    }
    TopologicalSorter(graph).prepare()  # CycleError names the ring


def test_no_node_imports_another_node():
    """A node is a module of nodes/ with a ``main``; the others there are shared."""
    nodes = {module for module, path in MODULES.items()
             if layer(module) == 'nodes' and '\ndef main(' in path.read_text()}
    for node in nodes:
        assert not nodes & {name for name, _ in imports(node)}, node


def test_the_document_says_the_same():
    """Each row of the table names the layers in MAY_IMPORT, and all modules of the core."""
    section = (ROOT / 'docs/architecture.md').read_text().split('## Layers')[1].split('\n## ')[0]
    documented = {}
    for layers, may in re.findall(r'^\| ([`a-z].*?) \| (.*?) \|', section, re.MULTILINE):
        words = set(re.findall(r'[a-z_.]+', may))
        parts = {'control.chunks', 'data.normalizer', 'data.pictures', 'algorithms.live_rounds'}
        named = PURE if 'all pure layers' in may else words & {*PURE, *parts}
        if layers.startswith('core'):
            core = set(re.findall(r'\w+', layers.split(':')[1]))
        for name in re.findall(r'\w+', layers.split(':')[0]):
            documented[name] = named
    documented.pop('layer')
    assert documented == {name: MAY_IMPORT[name] for name in documented}
    assert documented.keys() >= {layer(m) for m in IN_LAYERS}
    assert core == {m.rpartition('.')[2] for m in IN_LAYERS if layer(m) == 'core'}


@pytest.mark.parametrize(('module', 'unwanted'), [
    ('il_robot.types', 'torch rclpy pybullet gymnasium pyarrow matplotlib yaml'),
    ('il_robot.spec', 'torch rclpy pybullet gymnasium pyarrow matplotlib yaml'),
    ('il_robot.apps.main', 'torch rclpy pybullet gymnasium pyarrow matplotlib av'),
])
def test_importing_stays_light(module, unwanted):
    script = f'import sys, {module}; print(*(set(sys.argv[1:]) & set(sys.modules)))'
    result = subprocess.run(
        [sys.executable, '-c', script, *unwanted.split()],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )
    assert result.stdout.split() == []
